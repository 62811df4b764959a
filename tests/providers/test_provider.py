from __future__ import annotations

import asyncio
import time

import pytest
import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from lattice import (
    BadInput,
    BadValue,
    Busy,
    DeadlineExceeded,
    EntityId,
    Invocation,
    LatticeError,
    NotLinked,
    Trap,
    UnknownFunction,
    Unreachable,
    Value,
    WitError,
)
from lattice.links import LinkKey
from providers import Link, Provider, Runtime, export
from providers.config import parse_config
from providers.link import link_between
from providers.testing import PROVIDER, linked, nobody, running

TEXT = "demo:text/transform"


class Shout(Provider):
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()

    async def started(self) -> None:
        self.seen.append("started")

    async def config_changed(self, config: object) -> None:
        self.seen.append(f"config {dict(self.config)}")

    async def link_added(self, link: Link) -> None:
        if link.config.get("suffix") == "impossible":
            raise OSError("no such suffix")
        self.seen.append(f"added {link.peer} {link.config.get('suffix', '')}".strip())

    async def link_removed(self, link: Link) -> None:
        self.seen.append(f"removed {link.peer} {link.config.get('suffix', '')}".strip())

    async def draining(self) -> None:
        self.seen.append("draining")

    async def stopped(self) -> None:
        self.seen.append("stopped")

    @export(f"{TEXT}@0.2.0#shout")
    async def shout(self, link: Link, text: str) -> str:
        return text.upper() + link.config.get("suffix", "!")

    @export(f"{TEXT}#wait")
    async def wait(self, link: Link) -> str:
        self.begun.set()
        await self.gate.wait()
        return "waited"

    @export(f"{TEXT}#fail")
    async def fail(self, link: Link, how: str = "bug") -> None:
        if how == "answer":
            raise WitError({"too-quiet": 3})
        raise KeyError("a bug")

    @export(f"{TEXT}#pairs")
    async def pairs(
        self, link: Link, pairs: list[tuple[str, int]], one: tuple[str, ...] | None, rest: dict[str, tuple[int, int]]
    ) -> str:
        return repr((pairs, one, rest))

    @export(f"{TEXT}#ask")
    async def ask(self, link: Link, question: str) -> Value:
        return await link.call("demo:text/ears#hear", question)


async def test_a_provider_in_a_few_lines_answers_a_linked_actor():
    async with running(Shout()) as shout:
        assert await shout.call(f"{TEXT}#shout", "hi") == "HI!"


async def test_the_version_of_a_function_does_not_matter():
    async with running(Shout()) as shout:
        assert await shout.call(f"{TEXT}@9.9.9#shout", "hi") == "HI!"


async def test_hooks_are_called_in_the_order_of_a_life():
    provider = Shout()
    async with running(provider, linked(provider, suffix="?")) as shout:
        await shout.runtime.set_config({"loud": "yes"})
    assert provider.seen == [
        "started",
        "added actor ?",
        "config {'loud': 'yes'}",
        "draining",
        "removed actor ?",
        "stopped",
    ]


async def test_an_identical_put_does_nothing_and_a_changed_one_changes_the_link():
    provider = Shout()
    async with running(provider) as shout:
        await shout.runtime.put_link(linked(provider)[0])
        await shout.runtime.put_link(linked(provider, suffix="?!")[0])
        assert provider.seen == ["started", "added actor", "removed actor", "added actor ?!"]
        assert await shout.call(f"{TEXT}#shout", "hi") == "HI?!"


async def test_a_caller_without_a_link_is_refused():
    async with running(Shout()) as shout:
        with pytest.raises(NotLinked, match='"stranger" is not linked to demo:text/transform'):
            await shout.call(f"{TEXT}#shout", "hi", source="stranger")
        with pytest.raises(NotLinked, match='link "other"'):
            await shout.call(f"{TEXT}#shout", "hi", link="other")


async def test_a_deleted_link_no_longer_answers_and_deleting_again_does_nothing():
    async with running(Shout()) as shout:
        key = LinkKey(source_id=EntityId("actor"), wit_namespace="demo", wit_package="text")
        await shout.runtime.delete_link(key)
        await shout.runtime.delete_link(key)
        with pytest.raises(NotLinked):
            await shout.call(f"{TEXT}#shout", "hi")


async def test_a_link_is_removed_only_after_its_calls_are_done():
    provider = Shout()
    async with running(provider) as shout:
        call = asyncio.create_task(shout.call(f"{TEXT}#wait"))
        await provider.begun.wait()
        leaving = asyncio.create_task(shout.runtime.delete_link(linked(provider)[0].id))
        await asyncio.sleep(0)
        assert "removed actor" not in provider.seen
        provider.gate.set()
        assert await call == "waited"
        await leaving
        assert provider.seen[-1] == "removed actor"


async def test_an_unknown_function_and_a_wrong_number_of_arguments_are_named():
    async with running(Shout()) as shout:
        with pytest.raises(UnknownFunction, match="demo:text/transform#whisper"):
            await shout.call(f"{TEXT}#whisper", "hi")
        with pytest.raises(BadValue, match=r"#shout takes 1 argument\(s\), 2 given"):
            await shout.call(f"{TEXT}#shout", "hi", "ho")


async def test_lists_become_tuples_where_the_annotation_says_so():
    async with running(Shout()) as shout:
        said = await shout.call(f"{TEXT}#pairs", [["a", 1], ["b", 2]], ["x", "y"], {"k": [1, 2]})
        assert said == "([('a', 1), ('b', 2)], ('x', 'y'), {'k': (1, 2)})"
        assert await shout.call(f"{TEXT}#pairs", [], None, {}) == "([], None, {})"


async def test_a_wit_error_is_an_answer_and_any_other_exception_a_trap():
    async with running(Shout()) as shout:
        with pytest.raises(WitError) as answer:
            await shout.call(f"{TEXT}#fail", "answer")
        assert answer.value.payload == {"too-quiet": 3}
        with pytest.raises(Trap, match="KeyError: 'a bug'") as trap:
            await shout.call(f"{TEXT}#fail")
        assert trap.value.details["exception"] == "KeyError"


async def test_a_call_is_cancelled_at_its_deadline():
    provider = Shout()
    async with running(provider) as shout:
        with pytest.raises(DeadlineExceeded, match="did not answer"):
            await shout.call(f"{TEXT}#wait", timeout=0.02)


async def test_a_call_back_to_the_actor_carries_deadline_and_trace():
    calls: list[Invocation] = []

    async def ears(invocation: Invocation) -> Value:
        calls.append(invocation)
        return "what?"

    trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    async with running(Shout(), peer=ears) as shout:
        assert await shout.call(f"{TEXT}#ask", "hi", timeout=5, trace=trace) == "what?"
    [call] = calls
    assert (call.target, call.source, call.function.key, call.args) == (
        "actor",
        PROVIDER,
        "demo:text/ears#hear",
        ("hi",),
    )
    assert call.deadline <= time.monotonic() + 5
    assert call.trace == trace


async def test_more_calls_than_the_provider_allows_wait_in_line():
    class One(Shout):
        concurrency = 1

    provider = One()
    async with running(provider) as shout:
        first = asyncio.create_task(shout.call(f"{TEXT}#wait"))
        await provider.begun.wait()
        with pytest.raises(DeadlineExceeded):
            await shout.call(f"{TEXT}#shout", "hi", timeout=0.02)
        provider.gate.set()
        assert await first == "waited"
        assert await shout.call(f"{TEXT}#shout", "hi") == "HI!"


async def test_one_peer_that_calls_too_much_leaves_room_for_the_others():
    class OneEach(Shout):
        link_concurrency = 1

    provider = OneEach()
    async with running(provider, [*linked(provider), *linked(provider, source="other")]) as shout:
        first = asyncio.create_task(shout.call(f"{TEXT}#wait"))
        await provider.begun.wait()
        with pytest.raises(DeadlineExceeded):
            await shout.call(f"{TEXT}#shout", "hi", timeout=0.02)
        assert await shout.call(f"{TEXT}#shout", "hi", source="other") == "HI!"
        provider.gate.set()
        assert await first == "waited"
        assert await shout.call(f"{TEXT}#shout", "hi") == "HI!"


async def test_a_link_that_the_provider_has_nothing_for_is_refused_before_any_call():
    class Listening(Shout):
        calls = ("demo:text/ears",)

    async with running(Listening(), []) as shout:
        with pytest.raises(BadInput, match=r"does not export demo:text/other") as refused:
            await shout.runtime.put_link(link_between("actor", PROVIDER, "demo:text/other"))
        assert refused.value.findings[0].why == "it exports demo:text/transform"
        with pytest.raises(BadInput, match="does not export demo:text/ears, it calls it"):
            await shout.runtime.put_link(link_between("actor", PROVIDER, "demo:text/transform,ears"))
        with pytest.raises(BadInput, match="of an actor, this provider calls demo:text/ears and nothing else"):
            await shout.runtime.put_link(link_between(PROVIDER, "actor", "demo:text/transform"))
        await shout.runtime.put_link(link_between(PROVIDER, "actor", "demo:text/ears,mouth"))
        await shout.runtime.put_link(link_between("actor", PROVIDER, "demo:text/transform,other"))


async def test_a_links_configuration_says_how_many_calls_are_answered_at_a_time():
    provider = Shout()
    async with running(provider, linked(provider, **{"link-concurrency": "1"})) as shout:
        [link] = provider.links.values()
        assert link.config == {}, "that key is not the provider's"
        first = asyncio.create_task(shout.call(f"{TEXT}#wait"))
        await provider.begun.wait()
        with pytest.raises(DeadlineExceeded):
            await shout.call(f"{TEXT}#shout", "hi", timeout=0.02)
        provider.gate.set()
        assert await first == "waited"
        with pytest.raises(BadInput, match='"link_concurrency" input should be greater than or equal to 1'):
            await shout.runtime.put_link(linked(provider, "other", link_concurrency="0")[0])


# -- configuration


class Volume(BaseModel):
    volume: int = Field(ge=0, le=10)
    echo: bool = False


class Loud(Provider):
    link_config = Volume
    settings_model = Volume

    @export(f"{TEXT}#shout")
    async def shout(self, link: Link[Volume], text: str) -> str:
        return text * link.config.volume


async def test_a_bad_link_config_is_refused_with_a_reason_while_others_live():
    async with running(Loud(), [], config={"volume": "1"}) as loud:
        good = link_between("actor", PROVIDER, TEXT, target_config={"VOLUME": "3", "echo": "true"})
        bad = link_between("deaf", PROVIDER, TEXT, target_config={"volume": "11"})
        await loud.runtime.put_link(good)
        with pytest.raises(BadInput, match=r'"volume" input should be less than or equal to 10 \(got \'11\'\)'):
            await loud.runtime.put_link(bad)
        assert await loud.call(f"{TEXT}#shout", "o") == "ooo"
        assert "less than or equal" in loud.runtime.refused[bad.id]
        with pytest.raises(NotLinked):
            await loud.call(f"{TEXT}#shout", "o", source="deaf")
        await loud.runtime.put_link(bad.model_copy(update={"target_config": {"volume": "1"}}))
        assert loud.runtime.refused == {}
        assert await loud.call(f"{TEXT}#shout", "o", source="deaf") == "o"


async def test_a_key_that_the_model_does_not_have_is_refused_with_the_one_that_was_meant():
    async with running(Loud(), [], config={"volume": "1"}) as loud:
        slip = link_between("actor", PROVIDER, TEXT, target_config={"volume": "1", "ecko": "true"})
        with pytest.raises(BadInput, match=r'"ecko" is not a key that it knows(?s:.*)did you mean "echo"\?'):
            await loud.runtime.put_link(slip)
        with pytest.raises(BadInput, match="it knows echo, volume"):
            await loud.runtime.put_link(slip.model_copy(update={"target_config": {"volume": "1", "colour": "red"}}))


async def test_keys_of_somebody_else_are_passed_over_where_the_model_says_so():
    class Lenient(Volume):
        model_config = ConfigDict(extra="ignore")

    assert parse_config(Lenient, {"volume": "1", "colour": "red"}, of="it").volume == 1
    with pytest.raises(BadInput, match='did you mean "echo"'):
        parse_config(Lenient, {"volume": "1", "ecko": "yes"}, of="it")


async def test_a_secret_is_shown_nowhere():
    class Login(BaseModel):
        token: SecretStr = Field(min_length=20)

    class Guarded(Provider):
        link_config = Login

    async with running(Guarded(), []) as guarded:
        record = link_between("actor", PROVIDER, TEXT, target_config={"token": "hunter2"})
        with structlog.testing.capture_logs() as logs, pytest.raises(BadInput, match='"token"') as refused:
            await guarded.runtime.put_link(record)
        longer = record.model_copy(update={"target_config": {"token": "hunter2" * 3}})
        await guarded.runtime.put_link(longer)
        [link] = guarded.provider.links.values()
    seen = repr((logs, refused.value, guarded.runtime.refused, record, longer, link, link.config, link.record))
    assert "link.refused" in seen
    assert "hunter2" not in seen
    assert link.config.token.get_secret_value() == "hunter2" * 3


async def test_a_missing_setting_is_named_and_a_bad_change_keeps_the_old_one():
    with pytest.raises(BadInput, match='"volume" is missing'):
        async with running(Loud(), []):
            pass
    async with running(Loud(), [], config={"volume": "1"}) as loud:
        with pytest.raises(BadInput):
            await loud.runtime.set_config({"volume": "x"})
        assert loud.provider.settings.volume == 1
        await loud.runtime.set_config({"volume": "2"})
        assert loud.provider.settings.volume == 2


async def test_a_hook_that_fails_refuses_the_link_and_says_why():
    provider = Shout()
    async with running(provider) as shout:
        with pytest.raises(LatticeError, match="OSError: no such suffix"):
            await shout.runtime.put_link(linked(provider, source="b", suffix="impossible")[0])
        with pytest.raises(NotLinked):
            await shout.call(f"{TEXT}#shout", "hi", source="b")


async def test_a_link_whose_change_is_refused_goes_on_as_it_was():
    provider = Shout()
    good, bad = linked(provider, suffix="?")[0], linked(provider, suffix="impossible")[0]
    async with running(provider, [good]) as shout:
        with pytest.raises(LatticeError, match="OSError: no such suffix"):
            await shout.runtime.put_link(bad)
        assert await shout.call(f"{TEXT}#shout", "hi") == "HI?"
        assert shout.runtime.refused
        await shout.runtime.put_link(good)
        assert not shout.runtime.refused


async def test_calls_wait_while_a_link_changes_and_it_waits_for_those_in_hand():
    provider = Shout()
    async with running(provider) as shout:
        in_hand = asyncio.create_task(shout.call(f"{TEXT}#wait"))
        await provider.begun.wait()
        change = asyncio.create_task(shout.runtime.put_link(linked(provider, suffix="?")[0]))
        await asyncio.sleep(0)
        later = asyncio.create_task(shout.call(f"{TEXT}#shout", "hi"))
        await asyncio.sleep(0)
        assert provider.seen == ["started", "added actor"] and not later.done()
        provider.gate.set()
        assert (await in_hand, await later) == ("waited", "HI?")
        await change
        assert provider.seen[-2:] == ["removed actor", "added actor ?"]


async def test_a_provider_that_refuses_its_configuration_is_told_the_old_one_again():
    class Picky(Shout):
        async def config_changed(self, config: object) -> None:
            await super().config_changed(config)
            if "loud" in self.config:
                raise OSError("not here")

    provider = Picky()
    async with running(provider) as shout:
        with pytest.raises(LatticeError, match="OSError: not here"):
            await shout.runtime.set_config({"loud": "yes"})
        assert provider.config == {}
    assert provider.seen[2:4] == ["config {'loud': 'yes'}", "config {}"]


async def test_a_link_about_somebody_else_is_refused():
    async with running(Shout(), []) as shout:
        with pytest.raises(BadInput, match="is not about provider"):
            await shout.runtime.put_link(link_between("a", "b", TEXT))


# -- leaving


async def test_stopping_finishes_the_calls_in_hand_and_takes_no_more():
    provider = Shout()
    runtime = Runtime(provider, PROVIDER, nobody)
    await runtime.start()
    await runtime.put_link(linked(provider)[0])

    def call(function: str) -> Invocation:
        from lattice import Function

        return Invocation(PROVIDER, Function.parse(function), source=EntityId("actor"))

    in_hand = asyncio.create_task(runtime.handle(call(f"{TEXT}#wait")))
    await provider.begun.wait()
    stopping = asyncio.create_task(runtime.stop(grace=5))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await runtime.handle(call(f"{TEXT}#wait"))
    assert provider.seen[-1] == "draining"
    provider.gate.set()
    assert await in_hand == "waited"
    await stopping
    assert provider.seen[-2:] == ["removed actor", "stopped"]


async def test_calls_that_outlast_the_grace_period_are_cut_off_without_cancelling_their_caller():
    provider = Shout()
    async with running(provider, grace=0.02) as shout:
        caller = asyncio.create_task(shout.call(f"{TEXT}#wait"))
        await provider.begun.wait()
    with pytest.raises(Unreachable, match="stopped before"):
        await caller
    assert provider.seen[-1] == "stopped"


# -- health


async def test_health_is_what_the_provider_says_or_why_it_cannot():
    class Moody(Provider):
        mood: bool | str | Exception = True

        async def healthy(self) -> bool | str:
            if isinstance(self.mood, Exception):
                raise self.mood
            return self.mood

    provider = Moody()
    async with running(provider, []) as moody:
        assert (await moody.runtime.health()).healthy
        provider.mood = "tired"
        assert (await moody.runtime.health()).message == "tired"
        provider.mood = OSError("gone")
        health = await moody.runtime.health()
        assert (health.healthy, health.message) == (False, "OSError: gone")


async def test_a_background_task_that_fails_makes_the_provider_unhealthy():
    class Listens(Provider):
        async def started(self) -> None:
            self.forever = self.spawn(asyncio.Event().wait(), name="forever")  # type: ignore[arg-type]
            self.broken = self.spawn(self.listen(), name="listen")

        async def listen(self) -> None:
            raise ConnectionError("hung up")

    provider = Listens()
    async with running(provider, []) as listens:
        await asyncio.wait([provider.broken])
        health = await listens.runtime.health()
        assert health.message == "its task listen ended: ConnectionError: hung up"
    assert provider.forever.cancelled()


# -- mistakes of an author


def test_two_methods_cannot_export_the_same_function():
    with pytest.raises(TypeError, match="exports demo:text/transform#shout twice: one and two"):

        class Twice(Provider):
            @export(f"{TEXT}#shout")
            async def one(self, link: Link) -> None: ...

            @export(f"{TEXT}@1.0.0#shout")
            async def two(self, link: Link) -> None: ...


def test_only_async_methods_with_a_function_name_can_be_exported():
    with pytest.raises(TypeError, match="async def"):
        export(f"{TEXT}#shout")(lambda self, link: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="expected namespace:package/interface"):
        export("shout")
