"""A function that a component exports, made ready for calls: everything that does not depend on the one call."""

from __future__ import annotations

from typing import Any

from actors import _ffi, types
from actors._ffi import VAL, bytes_list_take_back, val_delete
from actors.adapters import ADAPTERS
from actors.codec import Codecs, Holder, Misfit
from actors.component import Component
from lattice.errors import BadValue
from lattice.names import Function

# where things are in the memory of a call
INSTANCE = 0
FUNC = INSTANCE + _ffi.INSTANCE
ERROR = FUNC + _ffi.FUNC
RESULT = ERROR + 16
ARGUMENTS = RESULT + VAL


class Export:
    """`address` is wasmtime's index of the function; `buffer()` is memory for one call of it.

    `resource` is a resource of the component's own that the function passes: it can be called in a session only.
    """

    __slots__ = (
        "_index",
        "_lowers",
        "adapter",
        "address",
        "answer",
        "buffer",
        "function",
        "resource",
        "results",
        "signature",
        "title",
    )

    def __init__(
        self,
        component: Component,
        codecs: Codecs,
        interface: types.InterfaceType,
        name: str,
        signature: types.Signature,
    ) -> None:
        self.function = Function(interface.key, name, interface.version)
        self.title = self.function.key if interface.key else name
        self.signature = signature
        self.resource = next(
            (kind.resource for kind in signature.types() if isinstance(kind, types.Handle) and codecs.guests(kind)),
            None,
        )
        index = component.export_index(interface.name, name)
        if index is None:
            raise LookupError(f"{component!r} lists {self.title}, but has no index for it")
        self._index = index
        self.address = _ffi.pointer(index)
        self._lowers = [(param, codecs.of(kind).lower) for param, kind in signature.params]
        self.answer = codecs.answer(signature.result)
        self.results = 0 if signature.result is None else 1
        self.buffer = _ffi.buffer(ARGUMENTS + VAL * len(self._lowers))
        self.adapter = ADAPTERS.get(self.function.key)

    def lower_into(self, address: int, args: tuple[Any, ...], holder: Holder) -> list[int]:
        """Write the arguments, and say which values have memory of ours (`delete_arguments`).

        Raises BadValue or LimitExceeded, having freed what it wrote.
        """
        lowers = self._lowers
        if len(args) != len(lowers):
            raise BadValue(
                f"{self.title} takes {len(lowers)} arguments ({', '.join(n for n, _ in lowers)}), got {len(args)}",
                function=self.title,
            )
        at = address
        name = ""
        lent: list[int] = []
        holder.lent = lent
        try:
            for named, value in zip(lowers, args, strict=True):
                name, lower = named
                lower(at, value, holder)
                at += VAL
        except BaseException as error:
            delete_arguments(address, (at - address) // VAL + 1, lent)
            if isinstance(error, Misfit):
                raise BadValue(f"{self.title}: {error.under(name)}", function=self.title) from error
            raise
        finally:
            holder.lent = None
        return lent


def delete_arguments(address: int, count: int, lent: list[int]) -> None:
    """Free `count` values side by side, of which `lent` have memory of ours somewhere in them."""
    for at in lent:
        bytes_list_take_back(at)
    for at in range(address, address + count * VAL, VAL):
        val_delete(at)
