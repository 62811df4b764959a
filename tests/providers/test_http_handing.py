"""A listening socket that goes from one process to the next."""

import asyncio
import socket
import tempfile

import pytest

from providers.http.handing import Door, place_of, taken_over


@pytest.fixture(autouse=True)
def folder_of_its_own(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="t-") as folder:  # whose path is short enough for a socket's
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


async def test_a_successor_listens_on_when_the_first_has_closed():
    with socket.create_server(("127.0.0.1", 0)) as first:
        place = first.getsockname()
        door = Door("me", "a:1", first)
        assert await taken_over("somebody else", "a:1") is None
        second = await taken_over("me", "a:1")
        assert second is not None
        its_own = Door("me", "a:1", second)
        door.close()
    with second, socket.create_connection(place), second.accept()[0]:
        third = await taken_over("me", "a:1")  # by the second's door, which the first has left alone
        assert third is not None
        third.close()
    its_own.close()
    assert await taken_over("me", "a:1") is None


async def test_a_folder_that_others_may_look_into_is_not_used():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place_of("me", "a:1").parent.chmod(0o755)
        with pytest.raises(PermissionError, match="not this user's alone"):
            Door("me", "a:1", listening)
        assert await asyncio.wait_for(taken_over("me", "a:1"), 5) is None
