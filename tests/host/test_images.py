"""Where components come from: every kind of reference, and everything a server can do to us."""

import asyncio
import base64
import hashlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import trustme
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registries import ADDER, PASSWORD, USER, DockerRegistry, SmallRegistry, digest, http_server, manifest_of

from host import Host, HostConfig
from host.images import Images, ImageSettings, credentials
from host.images.cache import ImageCache
from host.images.push import push
from host.images.reference import FileImage, RegistryImage, WebImage, parse, registry_image
from lattice import BadInput, events
from lattice.control import ScaleComponent
from lattice.images import ImageStore
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.nats_transport import NatsOptions, connect

MakeImages = Callable[..., Images]
NONE = "0" * 64


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[MakeImages]:
    """Makes resolvers with a cache, and without Docker's configuration, of their own."""
    made: list[Images] = []

    def make(*insecure: str, store: ImageStore | None = None, given: Any = dict, **more: Any) -> Images:
        cache = more.pop("cache", tmp_path / f"cache-{len(made)}")
        config = more.pop("docker_config", tmp_path / "no-config.json")
        chosen = ImageSettings(insecure=insecure, cache=cache, docker_config=config, **more)
        made.append(Images(chosen, store, given))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
async def small() -> AsyncIterator[tuple[SmallRegistry, str]]:
    registry = SmallRegistry()
    async with http_server(registry) as server:
        yield registry, server


@pytest.fixture(params=[False, True], ids=["open", "login"])
def docker(request: pytest.FixtureRequest, tmp_path: Path):
    folder = tmp_path / "registry"
    folder.mkdir()
    registry = DockerRegistry(folder, login=request.param)
    yield registry
    registry.stop()


async def failing(images: Images, reference: str, code: str, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        await images.fetch(reference)
    assert [f.code for f in caught.value.findings] == [code], str(caught.value)
    for word in words:
        assert word in str(caught.value)


# -- references


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/a/b.wasm", FileImage(Path("/a/b.wasm"))),
        ("file:///a%20b/c.wasm", FileImage(Path("/a b/c.wasm"))),
        (f"file:///a.wasm#sha256:{NONE}", FileImage(Path("/a.wasm"), NONE)),
        (f"/a.wasm#sha256:{NONE}", FileImage(Path("/a.wasm"), NONE)),
        (f"https://x.test/a.wasm#sha256:{NONE}", WebImage("https://x.test/a.wasm", NONE)),
        ("ghcr.io/acme/hello:0.1.0", RegistryImage("ghcr.io", "acme/hello", "0.1.0")),
        ("oci://ghcr.io/acme/hello", RegistryImage("ghcr.io", "acme/hello")),
        (f"localhost:5000/x@sha256:{NONE}", RegistryImage("localhost:5000", "x", None, NONE)),
        (f"[::1]:5000/x:1@sha256:{NONE}", RegistryImage("[::1]:5000", "x", "1", NONE)),
        ("docker.io/hello:1", RegistryImage("docker.io", "library/hello", "1")),
    ],
)
def test_a_reference_says_what_it_means(text: str, meant: object):
    assert parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        *("", "hello", "acme/hello:1", "ftp://x/y", "https://", "https://me:secret@x.test/a", "file://other/a.wasm"),
        *("ghcr.io/Acme/x", "ghcr.io/x:a b", "ghcr.io/x@sha256:12", "ghcr.io/", "/a.wasm#sha256:12", "a b.c/x:1"),
        *("ghcr.io/../../etc", "ghcr.io/x:../../y", "ghcr.io/x%2f..:1", "ghcr.io/x@md5:12"),
    ],
)
def test_what_is_no_reference_is_refused_with_its_form(text: str):
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert caught.value.findings[0].code == "TRL-IMG-009" and caught.value.findings[0].fix
    assert "secret" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_reference_or_bad_input(text: str):
    try:
        parse(text)
    except BadInput:
        pass


# -- files


async def test_a_file_is_used_where_it_lies(images: MakeImages, tmp_path: Path):
    file = tmp_path / "a.wasm"
    file.write_bytes(ADDER)
    for reference in (file.as_uri(), str(file), f"{file.as_uri()}#sha256:{digest(ADDER)}"):
        assert await images().fetch(reference) == file


async def test_text_is_known_by_the_digest_of_its_binary_form(images: MakeImages, tmp_path: Path):
    file = tmp_path / "a.wat"
    file.write_text("(component)")
    assert await images().fetch(f"{file}#sha256:{digest(ADDER)}") == file


async def test_a_file_that_changed_since_it_was_deployed_is_not_run(images: MakeImages, tmp_path: Path):
    file = tmp_path / "a.wasm"
    file.write_bytes(ADDER)
    await failing(images(), f"{file}#sha256:{NONE}", "TRL-IMG-007", "trellis deploy", digest(ADDER))
    await failing(images(), f"/nowhere/a.wasm#sha256:{NONE}", "TRL-IMG-001", "/nowhere/a.wasm", "trellis deploy")


async def test_a_file_of_another_machine_comes_from_the_lattice_and_is_kept(images: MakeImages):
    transport = MemoryBroker().connect()
    store = ImageStore(transport, "default")
    assert await store.put(digest(ADDER), ADDER, "a.wasm")
    reference = f"file:///elsewhere/a.wasm#sha256:{digest(ADDER)}"
    one = images(store=store)
    path = await one.fetch(reference)
    assert path.read_bytes() == ADDER
    await store.remove(digest(ADDER))
    assert await one.fetch(reference) == path
    await transport.close()


async def test_what_was_deployed_is_run_although_the_file_was_built_anew(images: MakeImages, tmp_path: Path):
    transport = MemoryBroker().connect()
    store = ImageStore(transport, "default")
    await store.put(digest(ADDER), ADDER)
    file = tmp_path / "a.wasm"
    file.write_bytes(ADDER + b"\0\x01\0")
    assert (await images(store=store).fetch(f"{file}#sha256:{digest(ADDER)}")).read_bytes() == ADDER
    await failing(images(store=store, largest=4), f"{file}#sha256:{digest(ADDER)}", "TRL-IMG-005", str(file))
    await transport.close()


async def test_a_lattice_that_keeps_something_else_is_not_believed(images: MakeImages):
    transport = MemoryBroker().connect()
    store = ImageStore(transport, "default")
    await store.put(digest(ADDER), ADDER)
    bucket = await transport.bucket("TRELLIS_IMAGES_default")
    await bucket.put(f"{digest(ADDER)}.0", ADDER + b"x")
    one = images(store=store)
    await failing(one, f"file:///elsewhere/a.wasm#sha256:{digest(ADDER)}", "TRL-IMG-007", "the lattice keeps")
    assert list(one.cache.directory.iterdir()) == []
    await transport.close()


# -- the cache


async def kept(cache: ImageCache, data: bytes) -> Path:
    async with cache.receive("it", 1 << 20) as incoming:
        incoming.write(data)
        return await cache.keep(incoming)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=40), st.integers(0, 39))
async def test_the_cache_never_serves_a_wrong_digest(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], damage: bytes, at: int
):
    cache = ImageCache(tmp_path_factory.mktemp("cache"), limit=100)
    for data in contents:
        path = await kept(cache, data)
        path.write_bytes(data[:at] + damage + data[at + len(damage) :])
    for data in contents:
        found = await cache.find(digest(data))
        assert found is None or found.read_bytes() == data


async def test_the_longest_unused_images_make_room(tmp_path: Path):
    cache = ImageCache(tmp_path / "cache", limit=25)
    first, second, third = (bytes([n]) * 10 for n in range(3))
    for moment, data in enumerate((first, second)):
        path = await kept(cache, data)
        os.utime(path, (moment, moment))
    await kept(cache, third)
    assert [await cache.find(digest(d)) is not None for d in (first, second, third)] == [False, True, True]


async def test_a_broken_off_or_oversized_image_leaves_nothing_behind(tmp_path: Path):
    cache = ImageCache(tmp_path / "cache")
    with pytest.raises(BadInput, match="larger than the 4 bytes"):
        async with cache.receive("it", 4) as incoming:
            incoming.write(b"12345")
    assert list(cache.directory.iterdir()) == []
    assert cache.directory.stat().st_mode & 0o077 == 0


# -- the web


async def test_an_image_of_the_web_follows_redirects_and_is_verified(images: MakeImages):
    def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/old":
            return web.Response(status=302, headers={"Location": "/new.wasm"})
        return web.Response(body=ADDER) if request.path == "/new.wasm" else web.Response(status=404)

    async with http_server(answer) as server:
        one = images()
        path = await one.fetch(f"http://{server}/old#sha256:{digest(ADDER)}")
        assert path.read_bytes() == ADDER
        await failing(one, f"http://{server}/old#sha256:{NONE}", "TRL-IMG-007", NONE, digest(ADDER))
        await failing(one, f"http://{server}/gone#sha256:{NONE}", "TRL-IMG-001", "404")
        await failing(one, f"http://{server}/old", "TRL-IMG-003", "#sha256:")
        assert await images(server).fetch(f"http://{server}/old")
        await failing(images(server, largest=4), f"http://{server}/old", "TRL-IMG-005")


async def test_what_the_web_serves_instead_of_wasm_is_named(images: MakeImages):
    async with http_server(lambda _: web.Response(text="<html>log in</html>")) as server:
        await failing(images(server), f"http://{server}/a.wasm", "TRL-IMG-002", "<html>")


async def test_a_circle_of_redirects_ends(images: MakeImages):
    async with http_server(lambda _: web.Response(status=302, headers={"Location": "/again"})) as server:
        await failing(images(server), f"http://{server}/a", "TRL-IMG-008", "redirects more than")


async def test_a_redirect_off_the_web_is_not_followed(images: MakeImages):
    async with http_server(lambda _: web.Response(status=302, headers={"Location": "file:///etc/passwd"})) as server:
        await failing(images(server), f"http://{server}/a", "TRL-IMG-008", "file:")


async def test_a_truncated_answer_is_an_error_and_not_an_image(images: MakeImages):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + ADDER)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        one = images(f"{host}:{port}")
        await failing(one, f"http://{host}:{port}/a.wasm", "TRL-IMG-008")
        assert list(one.cache.directory.iterdir()) == []


async def test_nobody_there_is_said_with_the_servers_name(images: MakeImages):
    await failing(images("127.0.0.1:1"), "127.0.0.1:1/x:1", "TRL-IMG-008", "127.0.0.1:1")


async def test_a_server_without_tls_is_not_spoken_to_unless_it_may_be(images: MakeImages, small):
    registry, server = small
    registry.put("x", "1", ADDER)
    await failing(images(), f"{server}/x:1", "TRL-IMG-008", f"--insecure-registry {server}")
    assert await images("127.0.0.1").fetch(f"{server}/x:1")


async def test_many_who_ask_at_once_cause_one_download(images: MakeImages, small):
    registry, server = small
    registry.put("x", "1", ADDER)
    one = images(server)
    paths = await asyncio.gather(*(one.fetch(f"{server}/x:1") for _ in range(20)))
    assert len(set(paths)) == 1
    assert len([r for r in registry.requests if "/blobs/" in r.path]) == 1


async def test_who_stops_waiting_does_not_stop_the_others(images: MakeImages, small):
    registry, server = small
    registry.put("x", "1", ADDER)
    one = images(server)
    waiting = [asyncio.create_task(one.fetch(f"{server}/x:1")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert (await waiting[1]).read_bytes() == ADDER


# -- registries


@pytest.mark.parametrize(
    "layer",
    [
        "application/wasm",
        "application/vnd.module.wasm.content.layer.v1+wasm",
        "application/vnd.oci.image.layer.v1.tar",
    ],
)
async def test_every_media_type_of_components_is_understood(images: MakeImages, small, layer: str):
    registry, server = small
    registry.put("x", "1", ADDER, manifest_of(ADDER, layer))
    assert (await images(server).fetch(f"{server}/x:1")).read_bytes() == ADDER


@pytest.mark.parametrize(
    ("manifest", "word"),
    [
        (manifest_of(ADDER, "application/vnd.docker.image.rootfs.diff.tar.gzip"), "rootfs"),
        (manifest_of(ADDER, "application/vnd.wasmcloud.provider.archive.layer.v1+par"), "provider archive"),
        ({**manifest_of(ADDER), "layers": manifest_of(ADDER)["layers"] * 2}, "2 layers"),
        ({**manifest_of(ADDER), "layers": []}, "nothing"),
        ({"manifests": []}, "index of 0"),
        ({"layers": "x"}, "cannot be read"),
        ([], "not a JSON object"),
    ],
)
async def test_what_is_no_component_is_refused_by_name(images: MakeImages, small, manifest: Any, word: str):
    registry, server = small
    registry.put("x", "1", ADDER)
    registry.paths["/v2/x/manifests/1"] = json.dumps(manifest).encode()
    await failing(images(server), f"{server}/x:1", "TRL-IMG-002", word)


async def test_an_index_leads_to_its_one_wasm_image(images: MakeImages, small):
    registry, server = small
    known = registry.put("x", "inner", ADDER)
    entries = [
        {"digest": f"sha256:{NONE}", "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": f"sha256:{known}", "size": 1, "platform": {"os": "wasip2", "architecture": "wasm"}},
    ]
    registry.put("x", "1", ADDER, {"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries})
    assert (await images(server).fetch(f"{server}/x:1")).read_bytes() == ADDER


async def test_a_registry_that_lies_about_content_is_found_out(images: MakeImages, small):
    registry, server = small
    known = registry.put("x", "1", ADDER)
    registry.paths[f"/v2/x/blobs/sha256:{digest(ADDER)}"] = ADDER + b"more"
    await failing(images(server), f"{server}/x:1", "TRL-IMG-007", digest(ADDER))
    registry.paths[f"/v2/x/manifests/sha256:{known}"] = json.dumps(manifest_of(b"other")).encode()
    await failing(images(server), f"{server}/x@sha256:{known}", "TRL-IMG-007", known)


async def test_what_is_named_by_digest_needs_no_registry_the_second_time(images: MakeImages, small):
    registry, server = small
    known = registry.put("x", "1", ADDER)
    one = images(server)
    path = await one.fetch(f"{server}/x@sha256:{known}")
    registry.before = lambda _: web.Response(status=500)
    assert await one.fetch(f"{server}/x@sha256:{known}") == path
    await failing(one, f"{server}/x:1", "TRL-IMG-008", "500")


async def test_the_tag_latest_is_refused_unless_it_is_allowed(images: MakeImages, small):
    registry, server = small
    known = registry.put("x", "latest", ADDER)
    for reference in (f"{server}/x", f"oci://{server}/x:latest"):
        await failing(images(server), reference, "TRL-IMG-003", "--allow-latest")
        assert await images(server, allow_latest=True).fetch(reference)
    assert await images(server).fetch(f"{server}/x:latest@sha256:{known}")


async def test_what_is_not_there_is_not_found(images: MakeImages, small):
    await failing(images(small[1]), f"{small[1]}/x:1", "TRL-IMG-001", "MANIFEST_UNKNOWN", "trellis push")


async def test_a_manifest_that_never_ends_is_not_read_to_its_end(images: MakeImages, small):
    registry, server = small
    registry.paths["/v2/x/manifests/1"] = b" " * (5 * 1024**2)
    await failing(images(server), f"{server}/x:1", "TRL-IMG-008", "longer than")


def tokens(registry: SmallRegistry, server: str, *, user: str = "", password: str = "") -> list[dict[str, Any]]:
    """Make `registry` want a token of its own service, for which it wants this user; the requests for one."""
    asked: list[dict[str, Any]] = []

    def before(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/token":
            asked.append({"authorization": request.headers.get("Authorization"), **parse_qs(request.query_string)})
            wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
            if user and request.headers.get("Authorization") != wanted:
                return web.json_response({"errors": []}, status=401)
            return web.json_response({"token": "good"})
        if request.headers.get("Authorization") != "Bearer good":
            challenge = f'Bearer realm="http://{server}/token",service="small",scope="repository:x:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return None

    registry.before = before
    return asked


async def test_a_token_is_fetched_when_the_registry_asks_for_one(images: MakeImages, small):
    registry, server = small
    registry.put("x", "1", ADDER)
    asked = tokens(registry, server)
    assert await images(server).fetch(f"{server}/x:1")
    assert asked == [{"authorization": None, "service": ["small"], "scope": ["repository:x:pull"]}]


async def test_a_token_is_fetched_with_the_credentials_that_the_lattice_was_told(images: MakeImages, small):
    registry, server = small
    registry.put("x", "1", ADDER)
    tokens(registry, server, user=USER, password=PASSWORD)
    await failing(images(server), f"{server}/x:1", "TRL-IMG-006", "no credentials", "docker login")
    wrong = {server: {"username": USER, "password": "no"}}
    await failing(images(server, given=lambda: wrong), f"{server}/x:1", "TRL-IMG-006", "were refused")
    right = {server: {"username": USER, "password": PASSWORD, "registryType": "oci"}}
    assert await images(server, given=lambda: right).fetch(f"{server}/x:1")


async def test_a_token_service_elsewhere_without_tls_gets_no_password(images: MakeImages, small, tmp_path: Path):
    registry, server = small
    registry.before = lambda _: web.Response(
        status=401, headers={"WWW-Authenticate": 'Bearer realm="ftp://thief/token"'}
    )
    told = {server: {"username": USER, "password": PASSWORD}}
    await failing(images(server, given=lambda: told), f"{server}/x:1", "TRL-IMG-008", "no safe place")


async def test_credentials_do_not_follow_a_redirect_to_another_server(images: MakeImages, small):
    registry, server = small
    registry.put("x", "1", ADDER)
    seen: list[str | None] = []

    def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return web.Response(body=ADDER)

    async with http_server(elsewhere) as store:

        def before(request: web.Request) -> web.StreamResponse | None:
            assert request.headers["Authorization"] == "Bearer mine"
            if "/blobs/" in request.path:
                return web.Response(status=307, headers={"Location": f"http://{store}/there?signed=%2Fx"})
            return None

        registry.before = before
        assert await images(server, given=lambda: {server: {"token": "mine"}}).fetch(f"{server}/x:1")
    assert seen == [None]


@pytest.mark.parametrize("how", ["auth", "plain", "identity", "helper", "store", "url"])
async def test_dockers_configuration_is_used(
    images: MakeImages, small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    registry, server = small
    registry.put("x", "1", ADDER)
    asked = tokens(registry, server, user=USER, password=PASSWORD)
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        f'#!/bin/sh\nread name\n[ "$name" = "{server}" ] || exit 1\n'
        f'echo \'{{"Username": "{USER}", "Secret": "{PASSWORD}"}}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    config = {
        "auth": {"auths": {server: {"auth": pair}}},
        "url": {"auths": {f"https://{server}/v1/": {"auth": pair}}},
        "plain": {"auths": {server: {"username": USER, "password": PASSWORD}}},
        "identity": {"auths": {server: {"identitytoken": "long-lived"}}},
        "helper": {"credHelpers": {server: "test"}},
        "store": {"credsStore": "test"},
    }[how]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    one = images(server, docker_config=file)
    if how == "identity":
        before = registry.before

        def identity(request: web.Request) -> web.StreamResponse | None:
            if request.path == "/token" and request.method == "POST":
                return web.json_response({"access_token": "good"})
            return before(request)

        registry.before = identity
    assert await one.fetch(f"{server}/x:1")
    assert how == "identity" or len(asked) == 1


@pytest.mark.parametrize("config", ["{", "[]", '{"auths": 3, "credHelpers": [], "credsStore": "../evil"}'])
async def test_a_broken_docker_configuration_counts_as_none(images: MakeImages, small, tmp_path: Path, config: str):
    registry, server = small
    registry.put("x", "1", ADDER)
    file = tmp_path / "config.json"
    file.write_text(config)
    assert await images(server, docker_config=file).fetch(f"{server}/x:1")


@pytest.mark.parametrize("says", ["sleep 60", "yes", "echo nonsense", "echo '{}'", "exit 3"])
async def test_a_credential_helper_that_hangs_or_raves_counts_as_none(
    images: MakeImages, small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
):
    registry, server = small
    registry.put("x", "1", ADDER)
    helper = tmp_path / "docker-credential-test"
    helper.write_text(f"#!/bin/sh\nexec {says}\n" if says != "exit 3" else "#!/bin/sh\nexit 3\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.5)
    file = tmp_path / "config.json"
    file.write_text('{"credsStore": "test"}')
    assert await images(server, docker_config=file).fetch(f"{server}/x:1")


async def test_a_registry_of_an_unknown_ca_is_believed_when_its_certificate_is_given(
    images: MakeImages, small, tmp_path: Path
):
    registry, _ = small
    registry.put("x", "1", ADDER)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "no.pem").write_text("nothing")
    async with http_server(registry, context) as server:
        await failing(images(), f"{server}/x:1", "TRL-IMG-008", "--registry-ca")
        await failing(images(ca_file=tmp_path / "no.pem"), f"{server}/x:1", "TRL-IMG-003", "no.pem")
        assert (await images(ca_file=tmp_path / "ca.pem").fetch(f"{server}/x:1")).read_bytes() == ADDER


async def test_nobody_is_led_from_tls_to_plain_http(images: MakeImages, small, tmp_path: Path):
    registry, plain = small
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    away = web.Response(status=302, headers={"Location": f"http://{plain}/a.wasm"})
    async with http_server(lambda _: away, context) as server:
        await failing(images(ca_file=tmp_path / "ca.pem"), f"https://{server}/a", "TRL-IMG-008", "plain HTTP")
    assert registry.requests == []


@pytest.mark.parametrize("status", [200, 307, 400, 404, 405, 429, 500])
async def test_a_registry_that_does_not_take_what_is_pushed_is_quoted(images: MakeImages, small, status: int):
    registry, server = small
    said = {"errors": [{"code": "MANIFEST_INVALID", "message": "no such type"}]}
    registry.before = lambda r: None if r.method == "HEAD" else web.json_response(said, status=status)
    image = registry_image(f"{server}/x:1")
    one = images(server)
    with pytest.raises(BadInput) as caught:
        await push(await one.registry(image), image, ADDER)
    code = caught.value.findings[0].code
    assert code == ("TRL-IMG-010" if status in (400, 404, 405) else "TRL-IMG-008")
    assert status == 200 or "no such type" in str(caught.value)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(f"sha256:{NONE}"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["mediaType", "config", "layers", "manifests", "digest", "size", "platform", "os"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
async def test_any_json_for_a_manifest_ends_in_a_sentence(tmp_path: Path, manifest: Any):
    registry = SmallRegistry()
    registry.paths["/v2/x/manifests/1"] = json.dumps(manifest).encode()
    async with http_server(registry) as server:
        one = Images(ImageSettings(insecure=(server,), cache=tmp_path / "cache", docker_config=tmp_path / "none"))
        with pytest.raises(BadInput):
            await one.fetch(f"{server}/x:1")
        await one.close()


# -- a real registry


def login(docker: DockerRegistry) -> Callable[[], dict[str, object]]:
    return lambda: {docker.name: {"username": USER, "password": PASSWORD}}


@pytest.mark.parametrize("old", [False, True], ids=["cncf", "old"])
async def test_what_is_pushed_to_a_real_registry_comes_back(images: MakeImages, docker: DockerRegistry, old: bool):
    one = images(docker.name, given=login(docker))
    image = registry_image(f"{docker.name}/acme/hello:0.1.0")
    pushed = await push(await one.registry(image), image, ADDER, exports=["a:b/c"], imports=[], old_media_types=old)
    assert pushed.digest.startswith("sha256:") and pushed.uploaded
    for reference in (f"{docker.name}/acme/hello:0.1.0", f"oci://{docker.name}/acme/hello@{pushed.digest}"):
        assert (await one.fetch(reference)).read_bytes() == ADDER
    again = await push(await one.registry(image), image, ADDER, exports=["a:b/c"], imports=[], old_media_types=old)
    assert again.digest == pushed.digest and not again.uploaded
    await failing(one, f"{docker.name}/acme/hello:9", "TRL-IMG-001", "manifest unknown")


async def test_a_large_component_is_pushed_in_chunks(images: MakeImages, docker: DockerRegistry):
    component = ADDER + hashlib.sha256(b"x").digest() * (20 * 1024**2 // 32)
    one = images(docker.name, given=login(docker))
    image = registry_image(f"{docker.name}/large:1")
    said: list[int] = []
    await push(await one.registry(image), image, component, progress=said.append)
    assert said == sorted(said) and len(said) >= 3 and said[-1] == len(component)
    assert (await images(docker.name, given=login(docker)).fetch(str(image))).read_bytes() == component


async def test_a_real_registry_with_a_login_turns_others_away(images: MakeImages, tmp_path: Path):
    docker = DockerRegistry(tmp_path, login=True)
    try:
        await failing(images(docker.name), f"{docker.name}/x:1", "TRL-IMG-006", "no credentials")
        wrong = {docker.name: {"username": USER, "password": "guess"}}
        await failing(images(docker.name, given=lambda: wrong), f"{docker.name}/x:1", "TRL-IMG-006", "refused")
    finally:
        docker.stop()


# -- hosts


async def test_what_is_wrong_with_a_fetched_image_is_said_of_its_reference(small, tmp_path: Path):
    registry, server = small
    registry.put("x", "1", ADDER[:8] + b"and then nonsense")
    chosen = ImageSettings(insecure=(server,), cache=tmp_path / "cache", docker_config=tmp_path / "none")
    broker, failed = MemoryBroker(), asyncio.get_running_loop().create_future()
    async with (
        Lattice("t", broker.connect()) as lattice,
        Host(HostConfig("t", images=chosen), broker.connect()) as host,
    ):
        await lattice.on_events(
            lambda _, event: failed.set_result(event) if isinstance(event, events.ComponentScaleFailed) else None
        )
        await host.components.scale(ScaleComponent(component_id="x", component_ref=f"{server}/x:1", count=1))
        event = await asyncio.wait_for(failed, 10)
    assert f"{server}/x:1 is not a valid component" in event.error and str(tmp_path) not in event.error


async def test_a_host_runs_an_image_of_a_registry_with_the_login_that_the_lattice_was_told(
    images: MakeImages, nats_url: str, lattice_name: str, tmp_path: Path
):
    docker = DockerRegistry(tmp_path, login=True)
    chosen = ImageSettings(insecure=(docker.name,), cache=tmp_path / "cache", docker_config=tmp_path / "none")
    config = HostConfig(lattice=lattice_name, nats=NatsOptions(nats_url), grace=1.0, images=chosen)
    image = registry_image(f"{docker.name}/empty:1")
    try:
        await push(await images(docker.name, given=login(docker)).registry(image), image, ADDER)
        async with Lattice(lattice_name, await connect(nats_url)) as lattice, Host(config) as host:
            told: asyncio.Queue[events.Event] = asyncio.Queue()
            await lattice.on_events(lambda _, event: told.put_nowait(event))
            await lattice.transport.flush()

            async def scale() -> events.Event:
                body = {"component_id": "empty", "component_ref": str(image), "count": 1}
                assert (await lattice.control("component", "scale", host.id, body=body)).success
                async with asyncio.timeout(20):
                    while not isinstance(event := await told.get(), events.ComponentScaled):
                        pass
                return event

            failed = await scale()
            assert isinstance(failed, events.ComponentScaleFailed) and "TRL-IMG-006" in failed.error
            await lattice.control_all("registry", "put", body=login(docker)(), most=1)
            assert type(await scale()) is events.ComponentScaled
            assert [c.image_ref for c in host.inventory().components] == [str(image)]
    finally:
        docker.stop()
