from __future__ import annotations

from pathlib import Path

import pytest

from lattice import BadInput
from providers.load import BUILTINS, builtin_name, executable, resolve
from providers.provider import Provider
from providers.testing import linked, running

HEAD = "from providers import Provider\n"


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("builtin:http-server", "http-server"),
        ("builtin:http-client", "http-client"),
        ("wasmcloud+builtin://http-client", "http-client"),
        ("ghcr.io/wasmcloud/http-client:0.13.1", "http-client"),
        ("wasmcloud+builtin://http-server", "http-server"),
        ("ghcr.io/wasmcloud/http-server:0.28.0", "http-server"),
        ("oci://ghcr.io/wasmcloud/keyvalue-nats:0.4.1", "keyvalue-nats"),
        ("ghcr.io/wasmcloud/keyvalue-nats@sha256:0123", "keyvalue-nats"),
        ("builtin:kv-memory", "keyvalue-memory"),
        ("builtin:kv-nats", "keyvalue-nats"),
    ],
)
def test_first_party_references_are_answered_by_ours(ref, name):
    assert builtin_name(ref) == name


@pytest.mark.parametrize("name", BUILTINS)
def test_every_builtin_can_be_made(name):
    assert isinstance(resolve(f"builtin:{name}")(), Provider)


def test_anything_else_is_refused_with_what_is_possible():
    with pytest.raises(BadInput, match='did you mean "builtin:http-server"'):
        resolve("builtin:http-serve")
    with pytest.raises(BadInput, match="builtin:keyvalue-memory"):
        resolve("ghcr.io/somebody/else:1")
    assert builtin_name("ghcr.io/somebody/else:1") is None


def test_a_file_gives_its_one_provider_and_may_import_its_neighbours(tmp_path: Path):
    (tmp_path / "words_of_mine.py").write_text("WORD = 'hi'\n")
    file = tmp_path / "own.py"
    file.write_text(
        HEAD + "from words_of_mine import WORD\nclass Base(Provider): ...\nclass Own(Base):\n    word = WORD\n"
    )
    provider = resolve(f"file://{file}")()
    assert type(provider).__name__ == "Own"
    assert provider.word == "hi"


def test_several_providers_in_a_file_are_named_and_one_can_be_chosen(tmp_path: Path):
    file = tmp_path / "two.py"
    file.write_text(HEAD + "class One(Provider): ...\nclass Two(Provider): ...\n")
    with pytest.raises(BadInput, match="several Provider classes: One, Two"):
        resolve(str(file))
    assert type(resolve(f"{file}:Two")()).__name__ == "Two"
    with pytest.raises(BadInput, match=r"no Provider class Three \(it has: One, Two\)"):
        resolve(f"{file}:Three")


def test_a_file_without_a_provider_or_with_a_mistake_is_refused(tmp_path: Path):
    (tmp_path / "none.py").write_text(HEAD)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(BadInput, match="no class that extends Provider"):
        resolve(str(tmp_path / "none.py"))
    with pytest.raises(BadInput, match="ZeroDivisionError: division by zero"):
        resolve(str(tmp_path / "broken.py"))
    with pytest.raises(BadInput, match="there is no file"):
        resolve(str(tmp_path / "absent.py"))


def test_a_module_gives_its_provider():
    assert type(resolve("python:providers.http.server:HttpServer")()).__name__ == "HttpServer"
    with pytest.raises(BadInput, match="cannot import no_such_module_here"):
        resolve("python:no_such_module_here")


async def test_the_example_shouts():
    file = Path(__file__).parents[2] / "examples" / "shout" / "provider" / "shout.py"
    provider = resolve(f"file://{file}")()
    async with running(provider, linked(provider, suffix="?!")) as shout:
        assert await shout.call("demo:text/transform#shout", "hi") == "HI?!"


def test_a_package_gives_its_one_provider_as_it_is_now(tmp_path: Path):
    package = tmp_path / "shouting"
    package.mkdir()
    (package / "__init__.py").write_text("from shouting.voice import Voice\n")
    voice = HEAD + "from .words import WORD\nclass Base(Provider): ...\nclass Voice(Base):\n    word = WORD\n"
    (package / "voice.py").write_text(voice)
    (package / "words.py").write_text("WORD = 'hi'\n")
    assert resolve(f"file://{package}")().word == "hi"  # type: ignore[attr-defined]
    (package / "words.py").write_text("WORD = 'hello'\n")
    assert resolve(f"{package}:Voice")().word == "hello"  # type: ignore[attr-defined]
    assert executable(f"file://{package}") is None
    (package / "voice.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(BadInput, match=r"shouting.*cannot be loaded: ModuleNotFoundError"):
        resolve(f"file://{package}")


def test_a_package_that_is_called_like_another_is_refused(tmp_path: Path):
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "__init__.py").write_text(HEAD + "class Own(Provider): ...\n")
    with pytest.raises(BadInput, match="another package is called providers"):
        resolve(f"file://{tmp_path / 'providers'}")
