"""Everything that can be wrong with a manifest, found at once and each with its place.

`check` is the one validator: the command line and the deployment manager's API both call it.

| code        | what                                            | code        | what                                  |
|-------------|-------------------------------------------------|-------------|---------------------------------------|
| TRL-MAN-001 | not YAML or JSON                                | TRL-MAN-016 | a shared component with settings      |
| TRL-MAN-002 | several documents                               | TRL-MAN-017 | a link to nothing                     |
| TRL-MAN-003 | a key written twice                             | TRL-MAN-018 | a link without interfaces             |
| TRL-MAN-004 | not an application                              | TRL-MAN-019 | an unknown interface (warning)        |
| TRL-MAN-005 | an unknown field                                | TRL-MAN-020 | one interface linked to two targets   |
| TRL-MAN-006 | a missing field                                 | TRL-MAN-021 | a link between two providers          |
| TRL-MAN-007 | a value of the wrong type                       | TRL-MAN-022 | a config name with two meanings       |
| TRL-MAN-008 | another apiVersion or kind (warning)            | TRL-MAN-023 | a number out of range                 |
| TRL-MAN-009 | a name with characters it cannot have           | TRL-MAN-024 | two spreads of one name               |
| TRL-MAN-010 | the version `latest`                            | TRL-MAN-025 | two scalers on one component          |
| TRL-MAN-011 | two components of one name                      | TRL-MAN-026 | a secret without a usable policy      |
| TRL-MAN-012 | two components of one id                        | TRL-MAN-027 | a label or annotation key             |
| TRL-MAN-013 | an unknown component type                       | TRL-MAN-028 | an outdated form (warning)            |
| TRL-MAN-014 | an unknown trait (warning)                      | TRL-MAN-029 | an image that cannot be               |
| TRL-MAN-015 | image and application, or neither               | TRL-MAN-030 | not a WIT name                        |
|             |                                                 | TRL-MAN-031 | a provider of native code             |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lattice import Finding
from wadm.checker import Checker
from wadm.configs import Configs
from wadm.linking import Linking
from wadm.manifest import Manifest, Policy
from wadm.meaning import Meaning
from wadm.shape import Part, Shape, quiet
from wadm.source import Document, Path, read, read_json


@dataclass(frozen=True, slots=True)
class Checked:
    """A manifest's text after the check. `manifest` and `data` (JSON data) are None when a finding is an error."""

    document: Document | None
    manifest: Manifest | None = None
    data: dict[str, Any] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level != "error")


def check(text: str, file: str = "app.yaml", *, places: bool = True) -> Checked:
    """Read and check one manifest: all findings, in the order of their places.

    Without `places`, JSON in which nothing is found is not read for them, which is most of the work.
    """
    if not places and (quick := read_json(text, file)) is not None:
        found: list[Finding] = []
        manifest = _examined(quick, found)
        if not found:
            return Checked(quick, manifest, _plain(quick.data, ()))
    document, unreadable = read(text, file)
    if document is None:
        return Checked(None, findings=tuple(unreadable))
    found = list(unreadable)
    manifest = _examined(document, found)
    findings = tuple(sorted(found, key=_position))
    if any(f.level == "error" for f in findings):
        return Checked(document, findings=findings)
    return Checked(document, manifest, _plain(document.data, ()), findings)


def _examined(document: Document, findings: list[Finding]) -> Manifest | None:
    """What it says, as far as that can be read; all that is wrong is added to `findings`."""
    data = document.data
    if not isinstance(data, dict):
        Checker(document, findings).report(
            "004",
            "the file is empty" if data is None else "this is not an application",
            (),
            why="a manifest is a map with apiVersion, kind, metadata and spec",
            fix="trellis new  writes one to begin with",
        )
        return None
    shape = Shape(document, findings)
    parts = shape.parts(data)
    shape.shape(Manifest, data, (), skip=parts is not None)
    Meaning(document, findings).head(data, shape.rollout(data))
    if parts is not None:
        _examine_components(document, findings, parts)
    try:
        return Manifest.model_validate(data)
    except ValidationError:
        return None  # each of its errors is among the findings already


def _examine_components(document: Document, findings: list[Finding], parts: list[Part]) -> None:
    data = document.data
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    app = name if isinstance(name, str) else ""
    meaning, linking = Meaning(document, findings), Linking(document, findings)
    configs = Configs(document, findings, app)
    meaning.names(app, parts)
    by_name = {part.name: part for part in parts if part.name}
    raw_policies = data["spec"].get("policies")
    listed = [quiet(Policy, raw) for raw in raw_policies] if isinstance(raw_policies, list) else []
    policies = {policy.name: policy for policy in listed if policy is not None}
    for part in parts:
        if part.properties is not None:
            inside = (*part.path, "properties")
            meaning.properties(part, part.properties, inside)
            configs.add(part.properties.config, (*inside, "config"))
            meaning.secrets(part.properties.secrets, (*inside, "secrets"), policies)
        meaning.scalers(part)
        for path, link in part.links:
            linking.link(part, path, link, by_name)
            target_at = (*path, "target", "config") if link.target.config else (*path, "target_config")
            source_at = (*path, "source", "config") if link.source else (*path, "source_config")
            configs.add(link.for_target(), target_at)
            configs.add(link.for_source(), source_at)
            meaning.secrets(link.target.secrets, (*path, "target", "secrets"), policies)
            meaning.secrets(link.source.secrets if link.source else [], (*path, "source", "secrets"), policies)
        linking.twice_linked(part)
    configs.references()


def _position(finding: Finding) -> tuple[int, int, str]:
    return (finding.place.line, finding.place.column, finding.code) if finding.place else (0, 0, finding.code)


_TEXT_MAPS = frozenset({"annotations", "labels", "requirements"})
_CONFIG_LISTS = frozenset({"config", "source_config", "target_config"})


def _plain(value: Any, path: Path) -> Any:
    """JSON data in which texts that were written as numbers are texts again, exactly as written."""
    if isinstance(value, dict):
        as_text = bool(path) and (
            path[-1] in _TEXT_MAPS or (path[-1] == "properties" and len(path) > 2 and path[-3] in _CONFIG_LISTS)
        )
        if as_text:
            return {key: _written(item) for key, item in value.items()}
        return {key: _plain(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return value


def _written(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return getattr(value, "raw", None) or str(value)
    return value
