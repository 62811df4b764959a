"""Promises that every provider keeps, as tests that any provider can run over a lattice in memory.

class TestShout(Conformance):
    def provider(self) -> Provider:
        return Shout()

    def links(self) -> list[LinkRecord]:
        return [link_between(source, PROVIDER, "demo:text/transform") for source in ("one", "two", "three")]

    async def use(self, site: Site, link: LinkRecord) -> None:
        assert await site.call(link, "demo:text/transform#shout", "hi") == "HI!"

pytest (with pytest-asyncio in its `auto` mode) finds the promises in the subclass.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog.testing

from lattice import (
    EMPTY,
    BadInput,
    BadValue,
    Busy,
    DeadlineExceeded,
    Function,
    HostId,
    Invocation,
    LatticeError,
    NotLinked,
    UnknownFunction,
    Unreachable,
    Value,
    WitError,
)
from lattice.lattice import Lattice, Serving
from lattice.memory import MemoryBroker
from lattice.transport import Transport
from providers.link import LinkRecord
from providers.provider import Provider
from providers.runtime import Runtime
from providers.testing import PROVIDER, nobody

LARGE = 5_000_000
"""Bytes: several times what one message carries."""
ORDERS = 5
"""Shuffled lives of links that are tried; the same ones each time."""
PATIENCE = 20.0
"""Seconds for any one step: a provider that hangs fails instead of stopping the tests."""


@dataclass(frozen=True, slots=True)
class Site:
    """A provider that runs, and a caller elsewhere on its lattice."""

    runtime: Runtime
    serving: Serving
    near: Lattice
    far: Lattice

    async def call(self, link: LinkRecord, function: str | Function, *args: Value, timeout: float = PATIENCE) -> Value:
        """Call the provider across the lattice, as the link's source would."""
        named = Function.parse(function) if isinstance(function, str) else function
        deadline = time.monotonic() + timeout
        return await self.far.invoke(Invocation(PROVIDER, named, args, link.source_id, link.name, deadline))


class Conformance:
    """Subclass it; `provider`, `links` and `use` are what it must be told."""

    config: Mapping[str, str] = EMPTY
    """The provider's own configuration, and another that it takes just as well."""
    other_config: Mapping[str, str] = EMPTY

    def provider(self) -> Provider:
        """A new one."""
        raise NotImplementedError

    def links(self) -> list[LinkRecord]:
        """Links that it takes, all at the same time; two at least, and the provider's id is `PROVIDER`."""
        raise NotImplementedError

    async def use(self, site: Site, link: LinkRecord) -> None:
        """Have it do its work through one link, and check that it did."""
        raise NotImplementedError

    def bad_link(self) -> LinkRecord | None:
        """A link that it refuses; None when it takes any."""
        return None

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        """Have it take `data` and give it back; None when that is not its kind of work."""
        return None

    async def peer(self, invocation: Invocation) -> Value:
        """Answers the calls that the provider makes of actors."""
        return await nobody(invocation)

    async def transport(self) -> Transport:
        """The provider's connection; the caller has another one."""
        self.broker = MemoryBroker()
        return self.broker.connect()

    async def far_transport(self) -> Transport:
        return self.broker.connect()

    # -- the world

    @asynccontextmanager
    async def site(self, *links: LinkRecord) -> AsyncIterator[Site]:
        """The provider, started and on the lattice, with these links; stopped in order at the end."""
        async with (
            Lattice("conformance", await self.transport()) as near,
            Lattice("conformance", await self.far_transport()) as far,
        ):
            host = HostId("NCONFORMANCE")
            runtime = Runtime(self.provider(), PROVIDER, self.peer, self.config, lattice=near, host_id=host)
            await runtime.start()
            serving = await near.serve(PROVIDER, runtime.handle, host=host)
            await near.transport.flush()
            try:
                for link in links:
                    await runtime.put_link(link)
                yield Site(runtime, serving, near, far)
            finally:
                await serving.drain(1.0)
                await runtime.stop(2.0)

    async def works(self, site: Site, *links: LinkRecord) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(self.use(site, link) for link in links))

    # -- the promises

    async def test_every_link_works_beside_the_others_and_it_says_that_it_is_well(self) -> None:
        links = self.links()
        assert len(links) > 1, "give it two links at least"
        async with self.site(*links) as site:
            await self.works(site, *links)
            health = await site.runtime.health()
            assert health.healthy, health.message

    async def test_links_come_and_go_in_any_order(self) -> None:
        for number in range(ORDERS):
            chance = random.Random(number)
            steps = [(link, put) for link in self.links() for put in (True, True, False, False, True)]
            chance.shuffle(steps)
            there: dict[str, LinkRecord] = {}
            async with self.site() as site:
                for link, put in steps:
                    if put:
                        await site.runtime.put_link(link)
                        there[str(link)] = link
                    else:
                        await site.runtime.delete_link(link.id)
                        there.pop(str(link), None)
                await self.works(site, *there.values())
                for link in self.links():
                    if str(link) not in there:
                        await self._is_gone(site, link)

    async def _is_gone(self, site: Site, link: LinkRecord) -> None:
        assert link.id not in site.runtime.provider.links
        functions = [
            e.function for e in site.runtime.provider.exports.values() if e.function.interface in link.covers()
        ]
        if link.target == PROVIDER and functions:
            try:
                await site.call(link, functions[0])
            except NotLinked:
                return
            raise AssertionError(f"{link} is gone, and still answers")

    async def test_a_link_that_is_refused_leaves_the_others_alone_and_may_come_again(self) -> None:
        bad = self.bad_link()
        if bad is None:
            return
        links = self.links()
        async with self.site(*links) as site:
            for _ in range(2):
                try:
                    await site.runtime.put_link(bad)
                except (BadInput, LatticeError):
                    assert site.runtime.refused[bad.id]
                else:
                    raise AssertionError(f"{bad} was to be refused")
            await self.works(site, *links)
            await site.runtime.delete_link(bad.id)
            assert not site.runtime.refused

    async def test_a_link_whose_change_is_refused_goes_on_as_it_was(self) -> None:
        bad = self.bad_link()
        if bad is None:
            return
        links = self.links()
        worse = {"source_config": bad.source_config, "target_config": bad.target_config}
        async with self.site(*links) as site:
            load = asyncio.create_task(self.works(site, *links))
            try:
                await site.runtime.put_link(links[-1].model_copy(update=worse))
            except (BadInput, LatticeError):
                await load
                await self.works(site, *links)
            else:
                load.cancel()  # as it was refused for what another link has, this one may have it

    async def test_its_configuration_changes_under_load(self) -> None:
        links = self.links()
        async with self.site(*links) as site:
            for config in (self.other_config, self.config, self.other_config):
                load = asyncio.create_task(self.works(site, *links))
                await site.runtime.set_config(config)
                await load
            await self.works(site, *links)

    async def test_callers_that_leave_at_any_moment_harm_nobody(self) -> None:
        links = self.links()
        async with self.site(*links) as site:
            for patience in range(40):
                call = asyncio.create_task(self.use(site, links[0]))
                for _ in range(patience):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call], timeout=PATIENCE)
                assert call.done(), "a call that was cancelled goes on"
            await self.works(site, *links)

    async def test_a_call_ends_at_its_deadline(self) -> None:
        links = self.links()
        async with self.site(*links) as site:
            for link in links:
                for export in site.runtime.provider.exports.values():
                    if link.target == PROVIDER and export.function.interface in link.covers():
                        call = Invocation(
                            *(PROVIDER, export.function, (), link.source_id, link.name), deadline=time.monotonic() - 1
                        )
                        try:
                            await site.runtime.handle(call)
                        except DeadlineExceeded:
                            continue
                        raise AssertionError(f"{export.function.key} was called after its deadline")
            await self.works(site, *links)

    async def test_nonsense_is_refused_and_harms_nobody(self) -> None:
        links = self.links()
        nonsense: tuple[tuple[Value, ...], ...] = ((), (None,) * 9, (math.nan,), ({"no": [1]}, "x"), ([[]], b"", -1))
        async with self.site(*links) as site:
            for link in links if links[0].target == PROVIDER else ():
                try:
                    await site.call(link, f"{link.covers()[0]}#no-such-function-at-all")
                except UnknownFunction:
                    pass
                for export in site.runtime.provider.exports.values():
                    for args in nonsense:
                        if export.function.interface in link.covers():
                            await self._answers(site, link, export.function, args)
            await self.works(site, *links)

    async def _answers(self, site: Site, link: LinkRecord, function: Function, args: tuple[Value, ...]) -> None:
        """Whatever it says to these arguments, it says something."""
        try:
            with structlog.testing.capture_logs():  # a failure of each is logged, at length
                await site.call(link, function, *args)
        except DeadlineExceeded:
            raise AssertionError(f"{function.key} does not answer {args}") from None
        except (WitError, BadValue, LatticeError):
            pass

    async def test_values_of_five_megabytes_go_through_it(self) -> None:
        links = self.links()
        async with self.site(*links) as site:
            data = random.Random(5).randbytes(LARGE)
            async with asyncio.timeout(PATIENCE):
                back = await self.carry(site, links[0], data)
            assert back is None or back == data

    async def test_when_it_drains_calls_in_hand_end_and_no_more_are_taken(self) -> None:
        links = self.links()
        async with self.site(*links) as site:
            await self.works(site, *links)
            incoming = [link for link in links if link.target == PROVIDER]
            calls = [asyncio.create_task(self.use(site, link)) for link in incoming for _ in range(5)]
            await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                await site.serving.leave()
                await site.runtime.stop(5.0)
            if calls:
                _, late = await asyncio.wait(calls, timeout=PATIENCE)
                assert not late, "calls hang when it stops"
            for link in links:
                function = Function(link.covers()[0], "anything")
                try:
                    await site.runtime.handle(Invocation(PROVIDER, function, (), link.source_id, link.name))
                except (Busy, Unreachable):
                    continue
                raise AssertionError("it has stopped, and takes calls")
            assert not site.runtime.provider.links
            assert not (await site.runtime.health()).healthy
