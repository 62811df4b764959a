"""Test doubles in the place of an app's providers and components."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType, TracebackType
from typing import Any

from host.provided import PLACEMENT
from lattice import Function, Handler, Value
from providers import Link, Provider
from providers.exports import Export
from providers.link import serving
from wadm.manifest import CAPABILITY, Manifest
from wadm.validate import Checked

_numbers = itertools.count(1)


class Fakes:
    """`with Fakes() as fakes`: what was put is known, by a reference like any provider's, until the block ends."""

    def __init__(self) -> None:
        self._answers: dict[str, Handler | type[Provider]] = {}
        self._modules: list[str] = []
        self._unused: set[str] = set()

    def __enter__(self) -> Fakes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._modules:
            del sys.modules[name]

    def put(self, component: str, answer: Handler | type[Provider]) -> None:
        """From now on `answer` stands for the component or provider of that name."""
        self._answers[component] = answer
        self._unused.add(component)

    def put_in(self, checked: Checked) -> Checked:
        """The manifest with fakes for what is faked, and every provider in its host's process.

        Raises ValueError for a fake of something that neither this nor an earlier manifest has.
        """
        if checked.manifest is None or checked.data is None:
            return checked
        names = {component.name for component in checked.manifest.spec.components}
        if unknown := self._unused - names:
            missing, known = ", ".join(sorted(unknown)), ", ".join(sorted(names))
            raise ValueError(f"`{checked.manifest.name}` has no {missing} to fake; it has {known}")
        data: dict[str, Any] = json.loads(json.dumps(checked.data))
        for component in data["spec"]["components"]:
            name, properties = component["name"], component["properties"]
            if name in self._answers:
                self._unused.discard(name)
                if component["type"] != CAPABILITY:
                    component |= {"type": CAPABILITY, "traits": []}  # nor does a provider run many times on a host
                properties["image"] = self._reference(self._answers[name], _linked_to(checked.manifest, name))
            if component["type"] == CAPABILITY and "image" in properties:
                place = {"name": f"{name}-{PLACEMENT}", "properties": {PLACEMENT: "host"}}
                properties["config"] = [*properties.get("config", ()), place]
        return replace(checked, manifest=Manifest.model_validate(data), data=data)

    def _reference(self, answer: Handler | type[Provider], interfaces: Iterable[str]) -> str:
        """Where hosts find it: a module of its own, as any provider can be in one."""
        module = ModuleType(f"trellis_fake_{next(_numbers)}")
        made = _subclass(answer) if isinstance(answer, type) else _answering(answer, interfaces)
        made.__module__ = module.__name__
        setattr(module, made.__name__, made)
        sys.modules[module.__name__] = module
        self._modules.append(module.__name__)
        return f"python:{module.__name__}"


def _subclass(kind: type[Provider]) -> type[Provider]:
    """Another class, so that the module that `kind` is in stays what it is."""

    class Fake(kind):  # type: ignore[misc, valid-type]  # a base that is only known here
        pass

    return Fake


def _linked_to(manifest: Manifest, name: str) -> set[str]:
    """The interfaces that it is linked for, as target."""
    links = (link for component in manifest.spec.components for link in component.links())
    return {f"{k.namespace}:{k.package}/{i}" for k in links if k.target.name == name for i in k.interfaces}


def _answering(handler: Handler, interfaces: Iterable[str]) -> type[Provider]:
    """A provider that leaves every call to `handler`."""

    class Fake(Provider):
        async def answer(self, link: Link[Any], *args: Value) -> Value:
            invocation = serving.get()
            assert invocation is not None
            return await handler(invocation)

    Fake.exports = _Everything(interfaces)
    return Fake


class _Everything(Mapping[str, Export]):
    """Whatever is called of these interfaces, `answer` answers it."""

    def __init__(self, interfaces: Iterable[str]) -> None:
        self._interfaces = frozenset(interfaces)

    def __getitem__(self, key: str) -> Export:
        return Export(Function.parse(key), "answer", 0, None)

    def __iter__(self) -> Iterator[str]:
        return (f"{interface}#any" for interface in self._interfaces)

    def __len__(self) -> int:
        return len(self._interfaces)
