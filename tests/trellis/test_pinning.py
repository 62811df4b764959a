"""What is deployed by a registry's tag is what it meant then: examined before, and the same on every host later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner
from registries import SmallRegistry, digest, http_server, manifest_of
from wasmtime import wat2wasm
from worlds import ADDER

from host import Host, HostConfig
from host.images import ImageSettings
from lattice import EntityId, Function, Invocation, Unreachable
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, NatsTransport, connect
from trellis.cli import cli
from trellis.commands.check import examined_manifest
from trellis.commands.deploy import deploy
from trellis.commands.plan import _plan as plan
from trellis.commands.plan import change_lines
from trellis.failures import Failure
from trellis.options import Where
from trellis.output import Output
from wadm import Manager

pytestmark = pytest.mark.nats

ASKER = """(component
  (import "demo:math/ops@0.1.0" (instance $ops (export "add" (func (param "a" u32) (result u32)))))
  (core func $add (canon lower (func $ops "add")))
  (core module $m (import "ops" "add" (func (param i32) (result i32))))
  (core instance $i (instantiate $m (with "ops" (instance (export "add" (func $add)))))))"""

CALL = Invocation(EntityId("math-adder"), Function.parse("demo:math/ops#add"), (40, 2))


def wasm(text: str) -> bytes:
    return bytes(wat2wasm(text))


@pytest.fixture
async def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SmallRegistry, str]]:
    """A registry with the adder, which commands here may speak to without TLS."""
    small = SmallRegistry()
    small.put("acme/adder", "1", wasm(ADDER))
    async with http_server(small) as name:
        monkeypatch.setenv("TRELLIS_INSECURE_REGISTRIES", name)
        monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))
        yield small, name


def manifest(folder: Path, image: str) -> Path:
    file = folder / "app.yaml"
    file.write_text(
        "apiVersion: core.oam.dev/v1beta1\nkind: Application\nmetadata: {name: math}\nspec:\n  components:\n"
        f"    - name: adder\n      type: component\n      properties: {{image: '{image}'}}\n"
    )
    return file


async def test_a_tag_that_moves_changes_nothing_that_runs_nor_what_another_host_starts(
    nats: NatsTransport, nats_url: str, lattice_name: str, registry: tuple[SmallRegistry, str], tmp_path: Path
):
    small, name = registry
    file, place = manifest(tmp_path, f"{name}/acme/adder:1"), Where(nats_url, lattice_name, "")
    first = small.put("acme/adder", "1", wasm(ADDER))
    config = HostConfig(
        lattice=lattice_name,
        nats=NatsOptions(nats_url),
        grace=1.0,
        images=ImageSettings(insecure=(name,), cache=tmp_path / "hosts"),
    )
    lattice = Lattice(lattice_name, nats)
    async with AsyncExitStack() as stack:
        managed = await stack.enter_async_context(Lattice(lattice_name, await connect(nats_url)))
        await stack.enter_async_context(Manager(managed, discovery=0.1))
        async with Host(config) as host:
            found = await deploy(place, file, timeout=20, output=Output("json"))
            assert found["state"] == "ready"
            assert [c.image_ref for c in host.inventory().components] == [f"{name}/acme/adder:1@sha256:{first}"]
            assert await lattice.invoke(CALL.within(5)) == 42

            second = small.put("acme/adder", "1", wasm(ADDER.replace("i32.add", "i32.mul")))
            (change,) = (await plan(place, file))["changes"]
            assert (change["before"][-64:], change["after"][-64:]) == (first, second)
        small.paths.clear()
        await stack.enter_async_context(Host(config))
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await lattice.invoke(CALL.within(5)) == 42, "it is what was deployed, from the cache"
                    break
                except Unreachable:
                    await asyncio.sleep(0.05)


async def test_a_component_of_a_registry_is_examined_before_anything_is_sent(
    registry: tuple[SmallRegistry, str], tmp_path: Path
):
    small, name = registry
    small.put("acme/asker", "1", wasm(ASKER))
    file = manifest(tmp_path, f"oci://{name}/acme/asker:1")
    with pytest.raises(Failure):
        await deploy(Where("nats://127.0.0.1:1", "nobody", ""), file, output=Output("json"))
    (finding,) = (await examined_manifest(file, fetch=True)).checked.errors
    assert finding.code == "TRL-LNK-001" and "demo:math/ops" in finding.message
    assert finding.place is not None and finding.place.line == 8


async def test_an_image_that_is_not_there_is_an_error_and_a_registry_that_is_away_a_warning(
    registry: tuple[SmallRegistry, str], tmp_path: Path
):
    _, name = registry
    (missing,) = (await examined_manifest(manifest(tmp_path, f"{name}/acme/adder:2"), fetch=True)).checked.errors
    assert missing.code == "TRL-IMG-001"
    away = await examined_manifest(manifest(tmp_path, "127.0.0.1:1/acme/adder:1"), fetch=True)
    (warning,) = away.checked.warnings
    assert warning.code == "TRL-IMG-008" and "hosts will fetch it themselves" in warning.why
    assert away.checked.manifest is not None and away.images == {}


async def test_a_registry_without_tls_is_named_by_a_flag(
    registry: tuple[SmallRegistry, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, name = registry
    monkeypatch.delenv("TRELLIS_INSECURE_REGISTRIES")
    check = ["check", str(manifest(tmp_path, f"{name}/acme/adder:1"))]
    refused = await asyncio.to_thread(CliRunner().invoke, cli, check)
    assert refused.exit_code == 0 and "warning[TRL-IMG-008]" in refused.stderr
    taken = await asyncio.to_thread(CliRunner().invoke, cli, [*check, "--insecure-registry", name])
    assert (taken.exit_code, taken.stdout, taken.stderr) == (0, "no findings\n", "")


async def test_a_file_on_the_web_is_pinned_to_its_content(registry: tuple[SmallRegistry, str], tmp_path: Path):
    small, name = registry
    small.paths["/adder.wasm"] = data = wasm(ADDER)
    found = await examined_manifest(manifest(tmp_path, f"http://{name}/adder.wasm"), fetch=True)
    assert found.images == {"adder": f"http://{name}/adder.wasm#sha256:{digest(data)}"}


async def test_what_is_no_provider_of_ours_is_told_by_its_registrys_media_types(
    registry: tuple[SmallRegistry, str], tmp_path: Path
):
    small, name = registry
    par = manifest_of(b"native", "application/vnd.wasmcloud.provider.archive.layer.v1+par")
    small.put("acme/redis", "1", b"native", par)
    small.put("acme/odd", "1", b"odd", manifest_of(b"odd", "text/plain", config={**par["config"], "mediaType": "a/b"}))

    async def found(image: str) -> list[tuple[str, str, int]]:
        file = manifest(tmp_path, image)
        file.write_text(file.read_text().replace("type: component", "type: capability"))
        checked = (await examined_manifest(file, fetch=True)).checked
        return [(f.code, f.level, f.place.line) for f in checked.findings if f.place is not None]

    assert await found(f"{name}/acme/redis:1") == [("TRL-MAN-031", "error", 8)]
    assert await found(f"{name}/acme/adder:1") == [("TRL-MAN-029", "error", 8)]
    assert await found(f"{name}/acme/redis:2") == [("TRL-IMG-001", "error", 8)]
    assert await found(f"{name}/acme/odd:1") == [("TRL-MAN-031", "warning", 8)]


async def test_a_tag_that_is_not_there_is_answered_with_the_nearest(
    registry: tuple[SmallRegistry, str], tmp_path: Path
):
    small, name = registry
    small.paths["/v2/acme/adder/tags/list"] = b'{"name": "acme/adder", "tags": ["0.9.0", "1", "1.2.3", "nightly"]}'
    checked = (await examined_manifest(manifest(tmp_path, f"{name}/acme/adder:1.2.4"), fetch=True)).checked
    (finding,) = checked.errors
    assert finding.code == "TRL-IMG-001" and finding.fix.startswith("take a tag that is there, such as 1.2.3")


def test_of_a_rebuilt_file_its_new_digest_is_shown_and_not_its_path_again():
    was, now = (f"file:///app/a.wasm#sha256:{digit * 64}" for digit in "ab")
    rebuilt = {"op": "change", "kind": "image", "component": "api", "name": "", "before": was, "after": now}
    assert [*change_lines([rebuilt])][-1].endswith(f"file:///app/a.wasm#sha256:{'a' * 12} -> #sha256:{'b' * 12}")
