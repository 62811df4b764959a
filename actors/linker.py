"""What a component's imports become: host functions, stubs that say what is missing, or Invocations.

The linker walks the component's real imports, never a fixed list, because wasmtime matches versions loosely but
shadows exactly. All callbacks find their caller by the store's context, so one linker serves every instance.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from actors import _ffi, types
from actors._ffi import VAL
from actors.callbacks import Caller, HostFunction, async_callback, drop, sync_callback
from actors.codec import Answer, Codecs, Lift
from actors.component import Component, how_imported, of_another_wasi, other_version
from actors.denials import denied, link_grant
from actors.exports import Export
from actors.host_api import SERVED, HostInterface, Resource, host_of, snake
from actors.signatures import differing
from lattice.errors import BadInput, DeadlineExceeded, Finding, LatticeError, NotLinked, Trap, WitError
from lattice.names import Function


class Linker:
    """A component with its imports bound and its exports ready. Lives as long as any instance made from it.

    `exports` has every function the component exports, by key: `namespace:package/interface#function`, and `#function`
    for those of the world itself.
    """

    def __init__(self, component: Component, served: Mapping[str, HostInterface] = SERVED) -> None:
        self.component = component
        self._served_by_host = served
        self._overflow: asyncio.Task[Linker] | None = None
        refuse_unlinkable(component, served)
        self._numbers = _host_types(component, served)
        self.codecs = Codecs(self._numbers)
        self._callbacks: list[Any] = []  # ctypes keeps nothing alive by itself
        self.address: int = _ffi.linker_new(component.engine.address)
        root = _ffi.linker_root(self.address)
        try:
            for interface in component.imports:
                self._interface(root, interface, served)
        finally:
            _ffi.scope_delete(root)
        self.exports = {
            (export := Export(component, self.codecs, interface, name, signature)).function.key: export
            for interface in component.exports
            for name, signature in interface.functions.items()
        }

    async def on_demand(self) -> Linker:
        """The same for instances outside of the engine's pool: made when the pool is full for the first time."""
        if self._overflow is None:
            self._overflow = asyncio.create_task(self._beside(), name="link beside the pool")
        return await asyncio.shield(self._overflow)

    async def _beside(self) -> Linker:
        try:
            return Linker(await self.component.on_demand(), self._served_by_host)
        except BaseException:
            self._overflow = None
            raise

    def __del__(self) -> None:
        if address := getattr(self, "address", 0):
            _ffi.linker_delete(address)

    def _interface(self, root: int, interface: types.InterfaceType, served: Mapping[str, HostInterface]) -> None:
        host = host_of(interface, served)
        scope = _ffi.add_instance(root, interface.name) if interface.name else root
        try:
            for name, resource in interface.resources.items():
                _ffi.add_resource(scope, name, self._numbers[resource], drop)
            for name, signature in interface.functions.items():
                if how_imported(interface, served) == "linked":
                    self._linked(scope, interface, name, signature)
                else:
                    self._served(scope, interface, name, signature, host)
        finally:
            if scope != root:
                _ffi.scope_delete(scope)

    def _served(
        self,
        scope: int,
        interface: types.InterfaceType,
        name: str,
        signature: types.Signature,
        host: HostInterface | None,
    ) -> None:
        title = f"{interface.key}#{name}"
        found = None if host is None else host.find(name)
        lifts, answer = self._codecs(signature)
        if found is None:
            function = _stub(f"{interface.name}#{name} is not implemented by this host")
            lifts = []
        else:
            function = _method(name) if name.startswith("[method]") else _with_guest(found)
        if found is not None and inspect.iscoroutinefunction(found):
            callback = async_callback(title, function, lifts, answer)
            _ffi.add_func_async(scope, name, callback)
        else:
            callback = sync_callback(title, function, lifts, answer)
            _ffi.add_func(scope, name, callback)
        self._callbacks.append(callback)

    def _linked(self, scope: int, interface: types.InterfaceType, name: str, signature: types.Signature) -> None:
        target = Function(interface.key, name, interface.version)
        lifts, answer = self._codecs(signature)
        result = signature.result
        explains = isinstance(result, types.Result) and result.err == types.Primitive("string")

        async def invoke(caller: Caller, *args: Any) -> Any:
            """What nobody answered is an `err` where that is text, unless our own time is over: the guest can go on."""
            guest = caller.guest
            try:
                return await guest.imports(guest.call_of(target, *args))
            except LatticeError as error:
                if isinstance(error, NotLinked):
                    denied(guest, target.interface, name, link_grant(target.interface))
                late = isinstance(error, DeadlineExceeded) and caller.deadline <= time.monotonic()
                if late or not explains:
                    raise
                raise WitError(error.message) from error

        callback = async_callback(target.key, invoke, lifts, answer)
        _ffi.add_func_async(scope, name, callback)
        self._callbacks.append(callback)

    def _codecs(self, signature: types.Signature) -> tuple[list[tuple[int, Lift]], Answer]:
        lifts = [(index * VAL, self.codecs.of(kind).lift) for index, (_, kind) in enumerate(signature.params)]
        return lifts, self.codecs.answer(signature.result)


def refuse_unlinkable(component: Component, served: Mapping[str, HostInterface] = SERVED) -> None:
    """Raises BadInput for imports that nothing can satisfy: unknown versions, unknown resources, other signatures."""
    findings = []
    for interface in component.imports:
        if other_version(interface):
            findings.append(of_another_wasi(str(component), interface.name))
        elif how_imported(interface, served) == "refused":
            names = sorted({resource.name for resource in interface.resources.values()}) or ["a resource"]
            findings.append(
                Finding(
                    "TRL-LNK-004",
                    f"{component} imports {interface.name or 'functions of the world'}, "
                    f"which passes resources ({', '.join(names)})",
                    why="this host does not implement that interface, and a resource cannot cross a link",
                    fix="use an interface with plain values, or one the host serves",
                )
            )
        elif interface.key in served:
            findings += [
                Finding(
                    "TRL-LNK-010",
                    f"{component} imports {interface.name}#{imported}",
                    why=f"this host has {offered}",
                    fix="build it against the interface's own WIT, or this host's (actors/wit)",
                )
                for _, imported, offered in differing(interface)
            ]
    if findings:
        raise BadInput(*findings)


def _host_types(component: Component, served: Mapping[str, HostInterface]) -> dict[types.ResourceId, int]:
    """The host type number of every imported resource. One that the host does not know gets a number of its own."""
    numbers: dict[types.ResourceId, int] = {}
    for interface in component.imports:
        for resource in interface.resources.values():
            if resource in numbers:
                continue
            host = served.get(resource.interface)
            found = None if host is None else host.resources.get(resource.name)
            if found is None:
                found = type("Unserved", (Resource,), {}, interface=resource.interface, name=resource.name)
            numbers[resource] = found.wit_type
    return numbers


# -- what is called


def _with_guest(function: HostFunction) -> HostFunction:
    def call(caller: Caller, *args: Any) -> Any:
        return function(caller.guest, *args)

    return call


def _method(wit_name: str) -> HostFunction:
    """Looked up on the resource at each call, so that a subclass may bring its own."""
    name = snake(wit_name.partition(".")[2])

    def call(_: Caller, resource: Resource, *args: Any) -> Any:
        return getattr(resource, name)(*args)

    return call


def _stub(sentence: str) -> HostFunction:
    def call(_: Caller, *__: Any) -> NoReturn:
        raise Trap(sentence)

    return call
