"""Which methods of a provider answer which WIT functions, and whether arguments and results fit."""

from __future__ import annotations

import inspect
import keyword
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lattice import BadValue, Function, Interface, Trap, Value, WitError
from lattice.fit import Fit, Misfit, fitter, side_fits
from lattice.types import InterfaceType, Result, Signature, function_text
from lattice.wit import read_wit

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_MARK = "__trellis_exports__"
_DECLARED = "__trellis_wit__"

Convert = Callable[[Any], Any]


def export(*names: str) -> Callable[[Decorated], Decorated]:
    """Answer WIT functions with a method, or whole interfaces with the methods of a class.

    A method answers the functions named (`namespace:package/interface#function`, a version is ignored). It is called
    as `method(self, link, *args)`; it returns the value, or raises WitError for the `err` side of a result. A class
    that declares its `wit` answers the interfaces named (`namespace:package/interface`): for each function it has a
    method of that name, with `_` for `-` and one more `_` behind a word that Python keeps for itself.

    Raises ValueError for a name that is no function's or interface's, TypeError for a method that is not `async def`
    or missing.
    """

    def mark(decorated: Decorated) -> Decorated:
        if inspect.isclass(decorated):
            interfaces = [Interface.parse(name).key for name in names]
            setattr(decorated, _MARK, [*getattr(decorated, _MARK, ()), *interfaces])
            setattr(decorated, "exports", exports_of(decorated))  # noqa: B010  any class, to the type checker
            return decorated
        functions = [Function.parse(name) for name in names]
        if not inspect.iscoroutinefunction(decorated):
            raise TypeError(f"{decorated.__qualname__} must be written `async def` to be exported")
        setattr(decorated, _MARK, [*getattr(decorated, _MARK, ()), *functions])
        return decorated

    for name in names:
        try:
            Interface.parse(name)
        except ValueError:
            Function.parse(name)  # raises for what is neither
    return mark


@dataclass(frozen=True, slots=True)
class Typed:
    """A function's signature, made ready to hold values against. `err` is None when it returns no result."""

    parameters: tuple[tuple[str, Fit], ...]
    ok: Fit | None
    err: Fit | None
    fails: bool


@dataclass(frozen=True, slots=True)
class Export:
    """One exported method: how many arguments it takes, and what becomes of them."""

    function: Function
    attribute: str
    least: int
    most: int | None
    converts: tuple[Convert | None, ...] = ()
    """By the method's annotations: which arguments become tuples. Empty where the WIT is declared."""
    typed: Typed | None = None

    def arguments(self, args: tuple[Value, ...]) -> tuple[Value, ...]:
        """`args` as the method wants them. Raises BadValue, which names the parameter where the WIT is declared."""
        count = len(args)
        if self.typed is not None:
            return self._fitting(self.typed.parameters, args)
        if count < self.least or (self.most is not None and count > self.most):
            takes = str(self.least) if self.least == self.most else f"{self.least} to {self.most or 'any number'}"
            raise BadValue(f"{self.function.key} takes {takes} argument(s), {count} given")
        if not self.converts:
            return args
        given = list(args)
        for index, convert in enumerate(self.converts[:count]):
            if convert is not None:
                given[index] = convert(given[index])
        return tuple(given)

    def _fitting(self, parameters: tuple[tuple[str, Fit], ...], args: tuple[Value, ...]) -> tuple[Value, ...]:
        if len(args) != len(parameters):
            names = ", ".join(name for name, _ in parameters)
            raise BadValue(f"{self.function.key} takes {len(parameters)} argument(s) ({names}), {len(args)} given")
        found: list[Value] = []
        try:
            for _, fit in parameters:
                found.append(fit(args[len(found)]))
        except Misfit as misfit:
            name, _ = parameters[len(found)]
            raise BadValue(f'{self.function.key}: argument "{name}"{_inside(misfit)}', parameter=name) from None
        return tuple(found)

    def returned(self, value: Value) -> Value:
        """What the method returned, as the WIT says it is. Raises Trap when it is something else."""
        if self.typed is None:
            return value
        try:
            return side_fits(value, self.typed.ok)
        except Misfit as misfit:
            raise Trap(f"{self.function.key} returned what its WIT does not say{_inside(misfit)}") from None

    def raised(self, answer: WitError) -> WitError:
        """The `err` side that the method answered with. Raises Trap when the WIT says something else."""
        if self.typed is None:
            return answer
        try:
            if not self.typed.fails:
                raise Misfit("it returns no result")
            return WitError(side_fits(answer.payload, self.typed.err))
        except Misfit as misfit:
            raise Trap(f"{self.function.key} raised a WitError that its WIT does not say{_inside(misfit)}") from None


def _inside(misfit: Misfit) -> str:
    """`.name: reason` for what is inside, `: reason` for the whole."""
    return f"{misfit.path}: {misfit.reason}"


# -- what a class exports


def exports_of(cls: type) -> dict[str, Export]:
    """By function key. Raises TypeError when the class and its WIT do not agree."""
    interfaces = declared(cls)
    found: dict[str, Export] = {}
    for function, attribute in _answers(cls, interfaces):
        if function.key in found:
            one, other = found[function.key].attribute, attribute
            raise TypeError(f"{cls.__qualname__} exports {function.key} twice: {one} and {other}")
        found[function.key] = _made(cls, function, attribute, interfaces)
    return found


def declared(cls: type) -> Mapping[str, InterfaceType] | None:
    """The interfaces of the class's WIT, read once; None when it declares none."""
    if _DECLARED not in vars(cls):
        source: str | Path | tuple[str | Path, ...] = getattr(cls, "wit", None) or ()
        sources = source if isinstance(source, tuple) else (source,)
        setattr(cls, _DECLARED, read_wit(*sources) if sources else None)
    found: Mapping[str, InterfaceType] | None = vars(cls)[_DECLARED]
    return found


def _answers(cls: type, interfaces: Mapping[str, InterfaceType] | None) -> list[tuple[Function, str]]:
    found: list[tuple[Function, str]] = []
    for attribute in dir(cls):
        method = inspect.getattr_static(cls, attribute, None)
        if inspect.isfunction(method):
            found += [(function, attribute) for function in getattr(method, _MARK, ())]
    for interface in getattr(cls, _MARK, ()):
        if interfaces is None:
            raise TypeError(f"{cls.__qualname__} exports {interface} as a whole, so it must declare its `wit`")
        found += [
            (Function(interface, name), _attribute(name)) for name in _known(cls, interface, interfaces).functions
        ]
    return found


def _attribute(name: str) -> str:
    attribute = name.replace("-", "_")
    return f"{attribute}_" if keyword.iskeyword(attribute) else attribute


def _known(cls: type, interface: str, interfaces: Mapping[str, InterfaceType]) -> InterfaceType:
    known = interfaces.get(interface)
    if known is None:
        raise TypeError(
            f"{cls.__qualname__} exports {interface}, which its WIT does not have "
            f"(it has {', '.join(interfaces) or 'no interface'})"
        )
    return known


def _made(cls: type, function: Function, attribute: str, interfaces: Mapping[str, InterfaceType] | None) -> Export:
    method = inspect.getattr_static(cls, attribute, None)
    signature = None if interfaces is None else _signature(cls, function, interfaces)
    if not inspect.iscoroutinefunction(method):
        wanted = "" if signature is None else f", for {function_text(function.name, signature)}"
        raise TypeError(f"{cls.__qualname__} has no method `async def {attribute}(self, link, ...)`{wanted}")
    parameters = list(inspect.signature(method).parameters.values())[2:]  # after self and link
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = sum(p.default is p.empty for p in plain)
    most = None if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(plain)
    if signature is None:
        converts = _converters(method, [p.name for p in plain])
        return Export(function, attribute, least, most, converts if any(converts) else ())
    count = len(signature.params)
    if count < least or (most is not None and count > most):
        raise TypeError(
            f"{cls.__qualname__}.{attribute} does not take the arguments of "
            f"{function_text(function.name, signature)} behind `self, link`"
        )
    return Export(function, attribute, count, count, typed=_typed(signature))


def _signature(cls: type, function: Function, interfaces: Mapping[str, InterfaceType]) -> Signature:
    interface = _known(cls, function.interface, interfaces)
    signature = interface.functions.get(function.name)
    if signature is None:
        raise TypeError(
            f"{cls.__qualname__} exports {function.key}, which its WIT does not have "
            f"({interface.key} has {', '.join(interface.functions) or 'no function'})"
        )
    if signature.handles():
        raise TypeError(f"{function.key} passes resources, which cannot cross the lattice")
    if unsupported := signature.unsupported():
        raise TypeError(f"{function.key} has {', '.join(unsupported)}, which cannot cross the lattice")
    return signature


def _typed(signature: Signature) -> Typed:
    result = signature.result
    fails = isinstance(result, Result)
    ok, err = (result.ok, result.err) if isinstance(result, Result) else (result, None)
    return Typed(
        tuple((name, fitter(kind)) for name, kind in signature.params),
        None if ok is None else fitter(ok),
        None if err is None else fitter(err),
        fails,
    )


# -- by annotations, where no WIT is declared


def _converters(method: Callable[..., Any], names: list[str]) -> tuple[Convert | None, ...]:
    try:
        hints = typing.get_type_hints(method, include_extras=True)
    except Exception:  # an annotation that only the type checker can resolve: such a method gets lists
        hints = {}
    return tuple(_converter(hints.get(name)) for name in names)


def _converter(hint: Any) -> Convert | None:
    """What turns the lists of a value into the tuples that `hint` speaks of; None when it speaks of none."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is tuple:
        return tuple
    if origin is tuple:
        each = [_converter(part) for part in inner if part is not Ellipsis]
        if not any(each):
            return lambda value: tuple(value) if isinstance(value, list) else value
        if Ellipsis in inner:
            return lambda value: tuple(_apply(each[0], element) for element in value)
        return lambda value: tuple(_apply(convert, item) for convert, item in zip(each, value, strict=True))
    if origin in (list, Sequence) and inner and (item := _converter(inner[0])):
        return _each(item)
    if origin is dict and len(inner) == 2 and (item := _converter(inner[1])):
        return _each_value(item)
    if origin in (typing.Union, types.UnionType):
        arms = [arm for arm in inner if arm is not type(None)]
        if len(arms) == 1 and (item := _converter(arms[0])):
            return _unless_none(item)
    if origin is typing.Annotated:
        return _converter(inner[0])
    return None


def _each(convert: Convert) -> Convert:
    return lambda value: [convert(element) for element in value]


def _each_value(convert: Convert) -> Convert:
    return lambda value: {key: convert(element) for key, element in value.items()}


def _unless_none(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _apply(convert: Convert | None, value: Any) -> Any:
    return value if convert is None else convert(value)
