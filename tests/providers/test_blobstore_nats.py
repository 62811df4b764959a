"""What is particular to the blob store on NATS. The contract that it shares is in test_blobstore."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import nats as nats_py
import pytest
from blobs import MEGABYTE, MOST, Blobs, id_of, link, noise, refusal
from servers import Broker

from lattice import BadInput, ByteStream, Unreachable
from lattice.jetstream import JetStream
from lattice.memory import MemoryBroker
from lattice.nats_transport import NatsTransport
from lattice.streams import StreamClosed
from providers.blobstore.nats import NatsBlobStore, bucket_of
from providers.load import builtin_name, resolve
from providers.testing import running

pytestmark = pytest.mark.nats


@pytest.fixture
def bucket(lattice_name: str) -> str:
    """What NATS calls the container "box"."""
    return f"{lattice_name}-box"


@pytest.fixture
async def blobs(nats: NatsTransport, bucket: str) -> AsyncIterator[Blobs]:
    async with running(
        NatsBlobStore(nats), [link(prefix=bucket.removesuffix("box"), storage_type="memory")]
    ) as started:
        made = Blobs(started)
        await made("create-container", "box")
        yield made
        await made("delete-container", "box")


@pytest.mark.parametrize("ref", ["builtin:blobstore-nats", "ghcr.io/wasmcloud/blobstore-nats:0.2.0"])
def test_it_answers_to_wasmclouds_references(ref):
    assert builtin_name(ref) == "blobstore-nats"
    assert resolve(ref) is NatsBlobStore


def test_ordinary_names_are_the_buckets_names():
    assert bucket_of("Photos_2026-01") == "Photos_2026-01"
    assert bucket_of("a.b/ü=") == "a=2Eb=2F=C3=BC=3D"


async def test_a_name_that_is_too_long_is_an_answer(blobs: Blobs):
    assert "is too long" in await refusal(blobs("create-container", "x" * 201))


# -- the same objects as everybody else's


async def test_other_clients_read_what_we_wrote_and_we_read_what_they_wrote(blobs: Blobs, bucket: str, nats_url: str):
    data = noise(300_000)
    client = await nats_py.connect(nats_url)
    theirs = await client.jetstream().object_store(bucket)
    await blobs.put("ours", data)
    assert (await theirs.get("ours")).data == data
    await theirs.put("theirs", io.BytesIO(data))
    assert await blobs.get("theirs") == data
    assert await blobs.names() == ["ours", "theirs"]
    await blobs("delete-object", id_of("theirs"))
    with pytest.raises(nats_py.js.errors.ObjectNotFoundError):
        await theirs.get("theirs")
    await client.close()


async def test_links_to_other_buckets_are_not_followed(blobs: Blobs, bucket: str, nats: NatsTransport):
    name = base64.urlsafe_b64encode(b"away").decode()
    about = {"name": "away", "bucket": bucket, "nuid": "x", "options": {"link": {"bucket": "other", "name": "a"}}}
    await JetStream(nats).publish(f"$O.{bucket}.M.{name}", json.dumps(about).encode(), {"Nats-Rollup": "sub"})
    assert await blobs.names() == []
    assert "no object" in await refusal(blobs.get("away"))


async def test_pieces_that_do_not_match_their_digest_break_the_body_off(blobs: Blobs, bucket: str, nats: NatsTransport):
    await blobs.put("a", noise(MEGABYTE))
    jetstream = JetStream(nats)
    piece = await jetstream.direct(f"OBJ_{bucket}", {"seq": 1, "next_by_subj": f"$O.{bucket}.C.>"})
    subject = piece.headers["Nats-Subject"]
    await jetstream.ask(f"STREAM.PURGE.OBJ_{bucket}", {"filter": subject, "keep": 7})
    await jetstream.publish(subject, b"?" + piece.data[1:])
    with pytest.raises(StreamClosed, match="damaged"):
        await blobs.get("a")


async def test_a_reader_of_what_is_deleted_meanwhile_is_told_so(blobs: Blobs):
    await blobs.put("a", bytes(5 * MEGABYTE))
    body = await blobs("get-container-data", id_of("a"), 0, MOST)
    assert len(await body.read(10)) == 10
    await blobs("delete-object", id_of("a"))
    with pytest.raises(StreamClosed, match="deleted or replaced"):
        await body.read_all()


async def test_links_with_a_prefix_have_containers_of_their_own(nats: NatsTransport, lattice_name: str):
    links = [link(prefix=f"{lattice_name}-"), link("other", prefix=f"{lattice_name}-other-")]
    async with running(NatsBlobStore(nats), links) as started:
        blobs = Blobs(started)
        await blobs("create-container", "box")
        exists = "wasi:blobstore/blobstore#container-exists"
        assert await started.call(exists, "box")
        assert not await started.call(exists, "box", source="other")
        await blobs("delete-container", "box")


# -- failures


async def test_a_full_container_is_an_answer_and_leaves_the_old_object(nats: NatsTransport, lattice_name: str):
    bounded = link(max_bytes="1000000", storage_type="memory", prefix=lattice_name)
    async with running(NatsBlobStore(nats), [bounded]) as started:
        blobs = Blobs(started)
        await blobs("create-container", "box")
        await blobs.put("a", b"old")
        assert "maximum bytes exceeded" in await refusal(blobs.put("a", bytes(2 * MEGABYTE)))
        assert await blobs.get("a") == b"old"
        info = await JetStream(nats).ask(f"STREAM.INFO.OBJ_{lattice_name}box")
        assert info["state"]["bytes"] < 1000, "what was written of the new one is gone"
        await blobs("delete-container", "box")


async def test_without_jetstream_the_link_is_refused():
    async with running(NatsBlobStore(MemoryBroker().connect()), []) as started:
        with pytest.raises(BadInput, match="JetStream does not answer") as refused:
            await started.runtime.put_link(link())
        assert refused.value.findings[0].code == "TRL-PRV-010"


async def test_a_wrong_login_refuses_the_link_without_saying_it(tmp_path: Path):
    broker = Broker(tmp_path, config='authorization { user: "me", password: "right" }')
    broker.start()
    place = f"127.0.0.1:{broker.port}"
    try:
        async with running(NatsBlobStore(), []) as started:
            with pytest.raises(Exception, match="refuses the login") as refused:
                await started.runtime.put_link(link(cluster_uri=f"nats://me:hush@{place}"))
            assert "hush" not in str(refused.value)
            await started.runtime.put_link(link(cluster_uri=f"nats://me:right@{place}"))
    finally:
        broker.stop()


async def test_a_server_that_is_slow_or_dies_is_an_answer_until_it_is_back(tmp_path: Path):
    broker = Broker(tmp_path)
    broker.start()
    try:
        async with running(NatsBlobStore(), [link(cluster_uri=broker.url, max_write_wait="0.2")]) as started:
            blobs = Blobs(started)
            await blobs("create-container", "box")
            await blobs.put("a", b"kept")
            started.provider.store(next(iter(started.provider.links.values()))).jetstream.timeout = 0.2
            with broker.paused():
                assert "within 0.2 s" in await refusal(blobs.get("a"))
            broker.kill()
            for call in (blobs.put("b", b"x"), blobs.get("a"), blobs.names()):
                assert "JetStream does not answer" in await refusal(call)
            assert not (await started.runtime.health()).healthy
            broker.start()
            async with asyncio.timeout(10):
                while not (await started.runtime.health()).healthy:
                    await asyncio.sleep(0.01)
            assert await blobs.get("a") == b"kept"
            upload = ByteStream()
            writing = asyncio.create_task(blobs.put("b", upload))
            await upload.write(bytes(MEGABYTE))
            await upload.drained()
            broker.kill()
            upload.finish()
            assert "no stream took" in await refusal(writing)
    finally:
        broker.stop()


async def test_a_server_that_is_not_there_refuses_the_link():
    async with running(NatsBlobStore(), []) as started:
        with pytest.raises(Unreachable, match=r"no NATS server answers at nats://127\.0\.0\.1:1"):
            await started.runtime.put_link(link(cluster_uri="nats://127.0.0.1:1"))
