"""Which of a component's functions a person means, and how they are shown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from actors import types
from actors.json_values import from_json, loads
from lattice import Function, Value
from trellis.chains import earlier
from trellis.failures import Failure, failure

MAKE_FIRST = "make it in the same chain of calls:  trellis call FILE.wasm thing then thing.get @1"
LISTED = 30
"""Functions of a component that an error lists, at most."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One function that a component exports."""

    interface: types.InterfaceType
    name: str

    @property
    def signature(self) -> types.Signature:
        return self.interface.functions[self.name]

    @property
    def sides(self) -> tuple[types.Type | None, types.Type | None]:
        """What it returns, and what it returns instead as an error: of a `result`, its two sides."""
        result = self.signature.result
        return (result.ok, result.err) if isinstance(result, types.Result) else (result, None)

    @property
    def title(self) -> str:
        """As it is asked for: `docs:adder/add@0.1.0#add`, or the bare name of a function of the world."""
        return f"{self.interface.name}#{self.name}" if self.interface.name else self.name

    @property
    def function(self) -> Function:
        return Function(self.interface.key, self.name, self.interface.version)

    @property
    def text(self) -> str:
        """Its signature as WIT writes it, and below it the types that it names."""
        named: dict[types.Type, str] = {
            kind: name for name, kind in self.interface.types.items() if not isinstance(kind, types.Primitive)
        }
        lines = [types.function_text(self.name, self.signature, named)]
        used = set(self.signature.types())
        for kind, name in named.items():
            if kind in used:
                lines.append(f"{name} = {types.spelled(kind, {k: n for k, n in named.items() if n != name})}")
        return "\n       ".join(lines)

    @property
    def names(self) -> set[str]:
        """`add`; of a resource, `[method]thing.get` and `thing.get`."""
        return {self.name, self.name.rpartition("]")[2]}

    def spellings(self) -> Iterator[str]:
        """Every way to ask for it in full."""
        for name in self.names:
            for interface in {self.interface.name, self.interface.key}:
                yield f"{interface}#{name}"
                yield f"{interface}.{name}"
            if not self.interface.name:
                yield name

    def short(self) -> Iterator[str]:
        """The ways that will do where nothing else is called so: `add#add`, `add.add`."""
        interface = self.interface.key.rpartition("/")[2]
        for name in self.names:
            yield f"{interface}#{name}"
            yield f"{interface}.{name}"


def functions(interfaces: Iterable[types.InterfaceType], *, methods: bool = False) -> list[Exported]:
    """All but what componentize-py starts with; with `methods`, where an instance is kept for them, resources' too."""
    return [
        Exported(interface, name)
        for interface in interfaces
        for name in interface.functions
        if (methods or not name.startswith("[")) and (interface.name, name) != ("exports", "init")
    ]


def named(text: str, exported: list[Exported]) -> Exported:
    """The function that `text` names. Raises Failure when it names none, or several.

    A name without an interface is one of the world, or else of the only interface that has it.
    """
    found = (
        [one for one in exported if text in one.spellings()]
        or [one for one in exported if text in one.short()]
        or [one for one in exported if text in one.names]
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise failure(
            "TRL-CAL-001",
            f"`{text}` can be any of {', '.join(one.title for one in found)}",
            fix="give its interface, and its version",
        )
    close = _closest(text, exported)
    raise failure(
        "TRL-CAL-001",
        f"the component does not export `{text}`" + (f"; did you mean `{close}`?" if close else ""),
        why="\n       ".join(["it exports:", *_listed(exported)]) if exported else "it exports no functions",
    )


def _closest(text: str, exported: list[Exported]) -> str | None:
    spelled = {spelling: one.title for one in exported for spelling in (*one.names, *one.short(), *one.spellings())}
    close = difflib.get_close_matches(text, spelled, n=1)
    return spelled[close[0]] if close else None


def _listed(exported: list[Exported]) -> list[str]:
    titles = [one.title for one in exported]
    more = len(titles) - LISTED
    return titles if more <= 0 else [*titles[:LISTED], f"and {more} more"]


def arguments(function: Exported, texts: tuple[str, ...], results: Sequence[Value] = ()) -> list[Value]:
    """The values that `texts` stand for: JSON, or `@1` for one of the `results` of a chain.

    Raises Failure that names the parameter and the path in it.
    """
    from actors.codec import Misfit

    params = function.signature.params
    if len(texts) != len(params):
        takes = "1 argument" if len(params) == 1 else f"{len(params)} arguments"
        names = f" ({', '.join(name for name, _ in params)})" if params else ""
        raise _refused(function, f"{function.title} takes {takes}{names}, {len(texts)} given")
    values = []
    for (name, kind), text in zip(params, texts, strict=True):
        if text.startswith("@"):
            values.append(earlier(text, results))
            continue
        try:
            data = loads(text)
        except ValueError as error:
            raise _refused(function, f"{name}: `{text}` is not JSON: {error}", fix=_quoted(text, kind)) from None
        try:
            values.append(from_json(data, kind))
        except Misfit as misfit:
            fix = MAKE_FIRST if function.signature.handles() else ""
            raise _refused(function, str(misfit.under(name)), fix=fix) from None
    return values


def _quoted(text: str, kind: types.Type) -> str:
    textual = any(one in (types.Primitive("string"), types.Primitive("char")) for one in types.walk(kind))
    names = isinstance(kind, (types.Enum, types.Variant))
    if (textual or names) and text and not {*text} & {*"\"'\\{}[]"}:
        return f"text is written in double quotes, and those in single ones for the shell:  '\"{text}\"'"
    return ""


def _refused(function: Exported, message: str, fix: str = "") -> Failure:
    return failure("TRL-CAL-002", message, why=function.text, fix=fix)
