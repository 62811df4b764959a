"""How the host offers functions to guests: WIT in Python, one class per interface and per resource.

    class Pollable(Resource, interface="wasi:io/poll", name="pollable"):
        def ready(self) -> bool: ...
        async def block(self) -> None: ...

    @serves("wasi:io/poll", Pollable)
    class Poll:
        @staticmethod
        async def poll(guest: Guest, pollables: list[Pollable]) -> list[int]: ...

Names map by kebab-case to snake_case (a trailing `_` is dropped when the WIT name is a Python keyword):

| WIT                          | called as                                            |
|------------------------------|------------------------------------------------------|
| poll                         | Poll.poll(guest, *args)                              |
| [method]pollable.block       | pollable.block(*args)                                |
| [static]fields.from-list     | Fields.from_list(guest, *args)                       |
| [constructor]fields          | Fields.new(guest, *args)                             |

A plain function is bound as a synchronous import (cheap); an `async def` may wait. A function whose WIT result is a
`result` returns the ok value or raises WitError(payload). Any other exception traps the guest and is kept as the
trap's cause. `dropped()` of a resource runs when the guest drops its own handle, or when the instance ends.

Every public method of a resource can be called by guests: who writes a component's imports need not read our WIT. What
only the host may call begins with an underscore, or is marked `@internal`.
"""

from __future__ import annotations

import inspect
import itertools
import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from lattice.types import InterfaceType

_numbers = itertools.count(1)
_Method = TypeVar("_Method", bound=Callable[..., Any])
_INTERNAL: set[str] = set()
"""Qualified names of methods that guests do not reach."""


class Resource:
    """A WIT resource that lives in the host. The guest holds an integer; this object is what it stands for."""

    __slots__ = ()

    wit_interface: ClassVar[str] = ""
    wit_name: ClassVar[str] = ""
    wit_type: ClassVar[int] = 0
    """wasmtime's host type id, one per WIT resource; subclasses that name no resource of their own share it."""

    def __init_subclass__(cls, interface: str = "", name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if interface:
            cls.wit_interface = interface
            cls.wit_name = name
            cls.wit_type = next(_numbers)

    def dropped(self) -> None:
        """The guest let go of it. Must not raise and must not wait."""


def snake(wit_name: str) -> str:
    """`blocking-read` -> `blocking_read`; a Python keyword gets a trailing underscore (`yield_`)."""
    name = wit_name.replace("-", "_")
    return name + "_" if keyword.iskeyword(name) else name


@dataclass(frozen=True, slots=True)
class HostInterface:
    """One WIT interface as the host serves it; `name` has the version only where that is another draft."""

    name: str
    functions: type
    resources: dict[str, type[Resource]] = field(default_factory=dict)

    def find(self, wit_name: str) -> Callable[..., Any] | None:
        """The Python function behind a WIT function name, or None when the host does not have it."""
        if not wit_name.startswith("["):
            return _own(self.functions, snake(wit_name))
        kind, _, rest = wit_name[1:].partition("]")
        resource_name, _, method = rest.partition(".")
        resource = self.resources.get(resource_name)
        if resource is None:
            return None
        return _own(resource, "new" if kind == "constructor" else snake(method))


def _qualified(function: object) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"


def internal(method: _Method) -> _Method:
    """Not a function of the WIT: guests do not reach it."""
    _INTERNAL.add(_qualified(method))
    return method


def _own(cls: type, name: str) -> Callable[..., Any] | None:
    found = inspect.getattr_static(cls, name, None)
    if found is None or name == "dropped":
        return None
    function = getattr(cls, name)
    if not callable(function) or _qualified(function) in _INTERNAL:
        return None
    return function  # type: ignore[no-any-return]


_Class = TypeVar("_Class", bound=type)

SERVED: dict[str, HostInterface] = {}
"""Every interface the host implements itself, by name without version; drafts that are otherwise, by name with it."""


def serves(name: str, *resources: type[Resource]) -> Callable[[_Class], _Class]:
    """Register the decorated class as the functions of the WIT interface `name`: without version, unless it is another
    draft than all the others."""

    def register(cls: _Class) -> _Class:
        if name in SERVED:
            raise ValueError(f"{name} is served already by {SERVED[name].functions.__qualname__}")
        SERVED[name] = HostInterface(name, cls, {r.wit_name: r for r in resources})
        return cls

    return register


def host_of(interface: InterfaceType, served: Mapping[str, HostInterface] = SERVED) -> HostInterface | None:
    """What serves that import; None when nothing does."""
    return served.get(interface.name) or served.get(interface.key)
