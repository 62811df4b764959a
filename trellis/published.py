"""An examined manifest next to what only its lattice knows: configurations that were put there, and what providers say
of themselves whose code is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from host.configs import Configs
from lattice import EntityId
from lattice.lattice import Lattice
from providers.description import published
from trellis.configuring import misconfigured
from trellis.failures import USER_ERROR, Failure, show
from trellis.known import Known
from trellis.preflight import Examined
from wadm.manifest import Component, Manifest, component_id, derived


async def verified(lattice: Lattice, examined: Examined) -> Examined:
    """The same, when nothing more is wrong; what is found is shown. Raises Failure, and what follows."""
    found = await held_against_lattice(lattice, examined)
    show(*found.checked.findings[len(examined.checked.findings) :])
    if found.checked.manifest is None:
        raise Failure(USER_ERROR)
    return found


async def held_against_lattice(lattice: Lattice, examined: Examined) -> Examined:
    """With what is found besides. Raises LatticeError when the lattice's store does not answer."""
    manifest, document = examined.checked.manifest, examined.checked.document
    if manifest is None or document is None:
        return examined
    kinds = dict(examined.providers)
    for component in manifest.spec.components:
        if component.capability and component.name not in kinds:
            said = await published(lattice, _id(manifest, component))
            if said is not None:
                kinds[component.name] = Known.of_running(component.name, said, component.properties.image)
    configs: dict[str, dict[str, str]] = {}
    if names := set(_configs_of_others(manifest)):
        store = Configs(await lattice.config_data())
        configs = {name: values for name in names if (values := await store.get(name)) is not None}
    known = set(examined.checked.findings)
    found = misconfigured(manifest, document, kinds, examined.ends, configs)
    return examined.with_findings(finding for finding in found if finding not in known)


def _id(manifest: Manifest, component: Component) -> EntityId:
    shared = component.properties.application
    own = component_id(manifest.name, component)
    return EntityId(own if shared is None else derived(shared.name, shared.component))


def _configs_of_others(manifest: Manifest) -> Iterator[str]:
    """Names of configurations that are on the lattice without the manifest's doing."""
    for component in manifest.spec.components:
        configs = list(component.properties.config)
        for link in component.links():
            configs += (*link.for_source(), *link.for_target())
        yield from (config.name for config in configs if config.properties is None)
