"""WIT as people write it: the interfaces of a package, with the types of their functions.

Functions of resources go by the names that components have for them: `[method]bucket.get`. Worlds are passed over.
`use` finds types in the same text, or in the other files of the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from lattice.types import (
    Enum,
    Flags,
    Handle,
    InterfaceType,
    List,
    Option,
    Primitive,
    Record,
    ResourceId,
    Result,
    Signature,
    Tuple,
    Type,
    Unsupported,
    Variant,
)

PRIMITIVES = frozenset(("bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string"))

_TOKEN = re.compile(
    r"(?P<space>\s+|//[^\n]*|/\*.*?\*/)|(?P<version>@[0-9]+(?:\.[0-9]+)*(?:[-+][0-9A-Za-z.+-]*[0-9A-Za-z])?)"
    r"|(?P<word>%?[A-Za-z][A-Za-z0-9-]*|[0-9]+|_)|(?P<sign>->|[{}()<>:;,=./@*])",
    re.DOTALL,
)


class WitSyntax(ValueError):
    """Text that is not the WIT that can be read here; says where."""


def read_wit(*sources: str | Path) -> dict[str, InterfaceType]:
    """Every interface of the texts, files or folders (with all folders in them), by its name without version.

    One that is there twice is as the later source has it.

    Raises WitSyntax, and OSError for a file that cannot be read.
    """
    parsed: dict[str, _Interface] = {}
    for place, text in (each for source in sources for each in _texts(source)):
        for interface in _Parser(place, text).interfaces():
            parsed[interface.key] = interface
    return {key: interface.resolved(parsed) for key, interface in parsed.items()}


def _texts(source: str | Path) -> list[tuple[str, str]]:
    """(where it is from, the text)"""
    if isinstance(source, str):
        return [("the WIT", source)]
    paths = sorted(source.rglob("*.wit")) if source.is_dir() else [source]
    return [(str(path), path.read_text(encoding="utf-8")) for path in paths]


class _Interface:
    """One interface as parsed: its types are resolved when all of them are known."""

    def __init__(self, package: str, name: str, version: str) -> None:
        self.package = package
        self.key = f"{package}/{name}"
        self.version = version
        self.made: dict[str, Callable[[_Scope], Type]] = {}
        self.used: dict[str, tuple[str, str]] = {}
        self.functions: dict[str, Callable[[_Scope], Signature]] = {}
        self.known: dict[str, Type] = {}

    def resolved(self, all: dict[str, _Interface]) -> InterfaceType:
        scope = _Scope(self, all)
        functions = {name: make(scope) for name, make in self.functions.items()}
        return InterfaceType(self.key + self.version, functions, {name: scope.type(name) for name in self.made})


class _Scope:
    """Names of types, as one interface sees them."""

    def __init__(self, interface: _Interface, all: dict[str, _Interface]) -> None:
        self.interface = interface
        self.all = all
        self._open: list[str] = []

    def type(self, name: str) -> Type:
        own = self.interface
        if name in own.used:
            there, original = own.used[name]
            if there not in self.all:
                raise WitSyntax(f"{own.key} uses {original} of {there}, which is not here")
            return _Scope(self.all[there], self.all).type(original)
        if name in own.known:
            return own.known[name]
        if name not in own.made:
            raise WitSyntax(f"{own.key} has no type `{name}`")
        if name in self._open:
            raise WitSyntax(f"the type `{name}` of {own.key} contains itself")
        self._open.append(name)
        try:
            found = own.known[name] = own.made[name](self)
            return found
        finally:
            self._open.pop()


_Make = Callable[[_Scope], Type]


class _Parser:
    """Recursive descent over one file."""

    def __init__(self, place: str, text: str) -> None:
        self.place = place
        self.tokens = list(_tokens(place, text))
        self.at = 0
        self.package = ""
        self.version = ""

    # -- tokens

    @property
    def next(self) -> str:
        return self.tokens[self.at][0]

    def take(self, *wanted: str) -> str:
        """The next token, which must be one of `wanted` when that is given."""
        token, line = self.tokens[self.at]
        if (wanted and token not in wanted) or not token:
            raise WitSyntax(
                f"{self.place}, line {line}: "
                + (f"expected {' or '.join(wanted)}, found" if wanted else "unexpected")
                + f" {token or 'the end'}"
            )
        self.at += 1
        return token

    def taken(self, token: str) -> bool:
        if self.next == token:
            self.at += 1
            return True
        return False

    def name(self) -> str:
        token = self.take()
        if not re.match(r"%?[A-Za-z]", token):
            self.at -= 1
            self.take("a name")
        return token.removeprefix("%")

    def listed(self, end: str) -> Iterator[None]:
        """Once for each item up to `end`, commas between them; the last comma may stay."""
        while not self.taken(end):
            yield
            if self.next != end:
                self.take(",")

    def passed_over(self) -> None:
        """A block in braces that is not read, or the rest of a statement."""
        depth = 0
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0 and token in ("}", ";"):
                return

    def attributes(self) -> None:
        while self.taken("@"):
            self.name()
            if self.taken("("):
                while self.take() != ")":
                    pass

    # -- the file

    def interfaces(self) -> Iterator[_Interface]:
        while self.next:
            self.attributes()
            match self.take("package", "interface", "world", "use"):
                case "package":
                    namespace = self.name()
                    self.take(":")
                    self.package = f"{namespace}:{self.name()}"
                    self.version = self.optional_version()
                    self.take(";")
                case "interface":
                    yield self.interface()
                case _:
                    self.passed_over()

    def optional_version(self) -> str:
        return self.take() if self.next[:1] == "@" and len(self.next) > 1 else ""

    def interface(self) -> _Interface:
        made = _Interface(self.package, self.name(), self.version)
        self.take("{")
        while not self.taken("}"):
            self.attributes()
            word = self.take()
            match word:
                case "use" if self.next not in (":", ";"):
                    self.use(made)
                case "type" | "record" | "variant" | "enum" | "flags" | "resource" if self.next != ":":
                    name = self.name()
                    made.made[name] = getattr(self, f"_{word}")(made, name)
                case _:
                    self.take(":")
                    made.functions[word.removeprefix("%")] = self.function()
        return made

    def use(self, interface: _Interface) -> None:
        name = self.name()
        package = interface.package
        if self.taken(":"):
            package = f"{name}:{self.name()}"
            self.take("/")
            name = self.name()
            self.optional_version()
        self.take(".")
        self.take("{")
        for _ in self.listed("}"):
            original = self.name()
            interface.used[self.name() if self.taken("as") else original] = (f"{package}/{name}", original)
        self.take(";")

    def function(self, *own: tuple[str, _Make]) -> Callable[[_Scope], Signature]:
        """Behind its name; `own` are parameters that are not written."""
        is_async = self.taken("async")
        self.take("func")
        params = [*own, *self.params()]
        result = self.kind() if self.taken("->") else None
        self.take(";")
        return lambda scope: Signature(
            tuple((name, make(scope)) for name, make in params), None if result is None else result(scope), is_async
        )

    def params(self) -> list[tuple[str, _Make]]:
        self.take("(")
        params: list[tuple[str, _Make]] = []
        for _ in self.listed(")"):
            name = self.name()
            self.take(":")
            params.append((name, self.kind()))
        return params

    # -- types

    def _type(self, interface: _Interface, name: str) -> _Make:
        self.take("=")
        kind = self.kind()
        self.take(";")
        return kind

    def _record(self, interface: _Interface, name: str) -> _Make:
        fields = self.cases(":")
        return lambda scope: Record(tuple((name, make(scope)) for name, make in fields if make is not None))

    def _variant(self, interface: _Interface, name: str) -> _Make:
        cases = self.cases("(")
        return lambda scope: Variant(tuple((name, None if make is None else make(scope)) for name, make in cases))

    def _enum(self, interface: _Interface, name: str) -> _Make:
        kind = Enum(tuple(name for name, _ in self.cases("")))
        return lambda scope: kind

    def _flags(self, interface: _Interface, name: str) -> _Make:
        kind = Flags(tuple(name for name, _ in self.cases("")))
        return lambda scope: kind

    def _resource(self, interface: _Interface, name: str) -> _Make:
        kind = Handle(ResourceId(interface.key, name), True)
        borrowed = Handle(kind.resource, False)
        if not self.taken(";"):
            self.take("{")
            while not self.taken("}"):
                self.attributes()
                word = self.name()
                if word == "constructor" and self.next == "(":
                    interface.functions[f"[constructor]{name}"] = self.constructor(kind)
                    continue
                self.take(":")
                if self.taken("static"):
                    interface.functions[f"[static]{name}.{word}"] = self.function()
                else:
                    interface.functions[f"[method]{name}.{word}"] = self.function(("self", lambda scope: borrowed))
        return lambda scope: kind

    def constructor(self, made: Type) -> Callable[[_Scope], Signature]:
        params = self.params()
        result = self.kind() if self.taken("->") else lambda scope: made
        self.take(";")
        return lambda scope: Signature(tuple((name, make(scope)) for name, make in params), result(scope))

    def cases(self, payload: str) -> list[tuple[str, _Make | None]]:
        """`name`, `name: type` or `name(type)`, by what `payload` says stands before a type."""
        found: list[tuple[str, _Make | None]] = []
        self.take("{")
        for _ in self.listed("}"):
            self.attributes()
            name, make = self.name(), None
            if payload == ":":
                self.take(":")
                make = self.kind()
            elif payload and self.taken("("):
                make = self.kind()
                self.take(")")
            found.append((name, make))
        return found

    def kind(self) -> _Make:
        """One type where it is used."""
        word = self.name()
        if word in PRIMITIVES:
            primitive = Primitive(word)
            return lambda scope: primitive
        if word in ("list", "option", "tuple", "result", "borrow", "own", "stream", "future"):
            inner = self.parameters()
            return lambda scope: _generic(word, [None if make is None else make(scope) for make in inner])
        if word == "error-context":
            return lambda scope: Unsupported(word)
        return lambda scope: scope.type(word)

    def parameters(self) -> list[_Make | None]:
        found: list[_Make | None] = []
        if self.taken("<"):
            found += [None if self.taken("_") else self.kind() for _ in self.listed(">")]
        return found


def _generic(word: str, inner: list[Type | None]) -> Type:
    match word, inner:
        case "list", [element] if element is not None:
            return List(element)
        case "option", [payload] if payload is not None:
            return Option(payload)
        case "tuple", [*elements]:
            return Tuple(tuple(element for element in elements if element is not None))
        case "result", []:
            return Result(None, None)
        case "result", [ok]:
            return Result(ok, None)
        case "result", [ok, err]:
            return Result(ok, err)
        case (("borrow" | "own"), [Handle(resource=resource)]):
            return Handle(resource, word == "own")
        case (("stream" | "future"), _):
            return Unsupported(word)
    raise WitSyntax(f"`{word}` cannot have {len(inner)} types in angle brackets")


def _tokens(place: str, text: str) -> Iterator[tuple[str, int]]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise WitSyntax(f"{place}, line {line}: unexpected {text[at]!r}")
        if match.lastgroup != "space":
            yield match[0], line
        line += match[0].count("\n")
        at = match.end()
    yield "", line
