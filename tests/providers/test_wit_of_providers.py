from __future__ import annotations

from pathlib import Path

import pytest

import actors
from lattice import BadValue, Trap, WitError
from lattice.types import function_text
from lattice.wit import WitSyntax, read_wit
from providers import Link, Provider, export
from providers.keyvalue.memory import MemoryKeyValue
from providers.load import BUILTINS, resolve
from providers.testing import running

WIT = """
package demo:text@0.1.0;

/// What can be done with text.
interface transform {
  use types.{style, trouble as wrong};

  /* louder */ shout: func(text: string, style: style) -> result<string, wrong>;
  count-words: func(text: string, stop: list<string>) -> list<tuple<string, u32>>;
  %import: func(data: option<list<u8>>);
}

interface types {
  record style { times: u8, tail: option<string>, }
  variant trouble { silence, too-long(u32) }
}

world text { export transform; }
"""
TRANSFORM = "demo:text/transform"


@export(TRANSFORM)
class Text(Provider):
    wit = WIT

    async def shout(self, link: Link, text: str, style: dict[str, object]) -> object:
        if text == "":
            raise WitError("silence")
        if text == "wrong error":
            raise WitError("deafness")
        if text == "wrong result":
            return None
        return text.upper() * int(str(style["times"])) + str(style["tail"] or "")

    async def count_words(self, link: Link, text: str, stop: list[str]) -> list[tuple[str, int]]:
        words = [word for word in text.split() if word not in stop]
        return [(word, words.count(word)) for word in dict.fromkeys(words)]

    async def import_(self, link: Link, data: bytes | None) -> None:
        if data == b"raise":
            raise WitError("there is no err side")


async def test_a_class_answers_every_function_of_an_interface_by_its_methods_names():
    async with running(Text()) as text:
        assert await text.call(f"{TRANSFORM}#shout", "hi", {"times": 2, "tail": "!"}) == "HIHI!"
        assert await text.call(f"{TRANSFORM}@0.1.0#count-words", "a b a the", ["the"]) == [("a", 2), ("b", 1)]
        assert await text.call(f"{TRANSFORM}#import", None) is None


async def test_an_argument_that_does_not_fit_is_refused_by_the_name_of_its_parameter():
    async with running(Text()) as text:
        with pytest.raises(BadValue, match=r'#shout: argument "text": 3 \(int\) is not a string') as refused:
            await text.call(f"{TRANSFORM}#shout", 3, {"times": 1})
        assert refused.value.details == {"parameter": "text"}
        with pytest.raises(BadValue, match=r'argument "style".times: 300 does not fit u8'):
            await text.call(f"{TRANSFORM}#shout", "hi", {"times": 300})
        with pytest.raises(BadValue, match=r"takes 2 argument\(s\) \(text, stop\), 1 given"):
            await text.call(f"{TRANSFORM}#count-words", "hi")


async def test_what_a_method_answers_is_held_against_the_wit_as_well():
    async with running(Text()) as text:
        with pytest.raises(WitError) as answer:
            await text.call(f"{TRANSFORM}#shout", "", {"times": 1})
        assert answer.value.payload == "silence"
        with pytest.raises(Trap, match=r"raised a WitError that its WIT does not say: no case 'deafness'"):
            await text.call(f"{TRANSFORM}#shout", "wrong error", {"times": 1})
        with pytest.raises(Trap, match=r"returned what its WIT does not say: None \(NoneType\) is not a string"):
            await text.call(f"{TRANSFORM}#shout", "wrong result", {"times": 1})
        with pytest.raises(Trap, match="it returns no result"):
            await text.call(f"{TRANSFORM}#import", b"raise")


def test_a_class_that_does_not_match_its_wit_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match=r"no method `async def count_words.*for count-words: func\(text: string"):

        @export(TRANSFORM)
        class Silent(Provider):
            wit = WIT

            async def shout(self, link: Link, text: str, style: object) -> None: ...

    with pytest.raises(TypeError, match=r"Short.shout does not take the arguments of shout: func\(text"):

        class Short(Provider):
            wit = WIT

            @export(f"{TRANSFORM}#shout")
            async def shout(self, link: Link, text: str) -> None: ...

    with pytest.raises(TypeError, match=r"#whisper, which its WIT does not have \(demo:text/transform has shout, "):

        class Other(Provider):
            wit = WIT

            @export(f"{TRANSFORM}#whisper")
            async def whisper(self, link: Link) -> None: ...

    with pytest.raises(TypeError, match=r"exports demo:text/speech, which its WIT does not have"):

        @export("demo:text/speech")
        class Speech(Provider):
            wit = WIT

    with pytest.raises(TypeError, match="so it must declare its `wit`"):

        @export(TRANSFORM)
        class Untyped(Provider):
            async def shout(self, link: Link) -> None: ...


def test_a_function_that_passes_resources_cannot_be_exported():
    with pytest.raises(TypeError, match="passes resources"):

        class Store(Provider):
            wit = "package a:b; interface c { resource r; get: func(what: borrow<r>); }"

            @export("a:b/c#get")
            async def get(self, link: Link, what: object) -> None: ...


def test_a_folder_of_wit_is_read_with_what_its_files_use_from_each_other(tmp_path: Path):
    (tmp_path / "deps").mkdir()
    (tmp_path / "deps" / "types.wit").write_text("package b:types@1.2.3-rc.1; interface t { type id = u64; }")
    (tmp_path / "a.wit").write_text(
        "package a:a; interface i { use b:types/t@1.2.3-rc.1.{id}; @since(version = 1.0.0) f: func() -> id; }"
    )
    found = read_wit(tmp_path)
    assert function_text("f", found["a:a/i"].functions["f"]) == "f: func() -> u64"


def test_all_of_the_wit_that_guests_are_built_against_can_be_read():
    found = read_wit(Path(actors.__file__).parent / "wit")
    request = found["wasmcloud:messaging/consumer"].functions["request"]
    assert function_text("request", request) == (
        "request: func(subject: string, body: list<u8>, timeout-ms: u32) -> "
        "result<record { subject: string, body: list<u8>, reply-to: option<string> }, string>"
    )


def test_functions_of_resources_have_the_names_that_components_give_them():
    found = read_wit(
        "package a:b; interface c { resource r { constructor(n: u32); get: func() -> u32;"
        " merge: static func(one: r, other: borrow<r>) -> r; } resource plain; }"
    )
    functions = found["a:b/c"].functions
    assert [function_text(name, signature) for name, signature in functions.items()] == [
        "[constructor]r: func(n: u32) -> r",
        "[method]r.get: func(self: borrow<r>) -> u32",
        "[static]r.merge: func(one: r, other: borrow<r>) -> r",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("package a:b;\ninterface c {\n f: fun();\n}", "line 3: expected func, found fun"),
        ("package a:b; interface c { f: func(x: y); }", "a:b/c has no type `y`"),
        ("package a:b; interface c { type y = list<y>; }", "the type `y` of a:b/c contains itself"),
        ("package a:b; interface c { use d.{e}; f: func(x: e); }", "a:b/c uses e of a:b/d, which is not here"),
        ("package a:b; interface c {", "unexpected the end"),
        ("package a:b; interface c { type t = list<>; }", "`list` cannot have 0 types"),
        ("?", "line 1: unexpected '?'"),
    ],
)
def test_what_is_not_wit_is_refused_with_its_place(text: str, said: str):
    with pytest.raises(WitSyntax, match=said):
        read_wit(text)


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_every_provider_of_ours_has_the_types_of_what_it_answers(name: str):
    kind = resolve(f"builtin:{name}")
    assert all(export.typed is not None for export in kind.exports.values())


async def test_a_provider_of_ours_names_the_parameter_that_does_not_fit():
    async with running(MemoryKeyValue()) as kv:
        with pytest.raises(BadValue, match=r'store#set: argument "value": 7 \(int\) is not a list<u8>'):
            await kv.call("wasi:keyvalue/store#set", "default", "key", 7)
        with pytest.raises(BadValue, match=r'batch#set-many: argument "key-values"\[0\]'):
            await kv.call("wasi:keyvalue/batch#set-many", "default", [["key"]])
