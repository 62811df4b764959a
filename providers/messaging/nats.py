"""Messaging on NATS, with wasmCloud's configuration keys.

| function                                   | arguments                    | result               |
|--------------------------------------------|------------------------------|----------------------|
| wasmcloud:messaging/consumer#publish       | broker-message               |                      |
| wasmcloud:messaging/consumer#request       | subject, body, timeout-ms    | broker-message       |
| wasmcloud:messaging/handler#handle-message | broker-message               | (called on the peer) |

A broker-message is {"subject": str, "body": bytes, "reply-to": str or None}; errors are answers, a sentence each. The
link from an actor is for `consumer`; the link to an actor is for `handler`, and its source_config has `subscriptions`,
`consumers` or both. What comes by a subscription is delivered as core NATS does, at most once: a message that the actor
fails at is logged and gone. What comes by a JetStream consumer is delivered until it is handled (see consumer.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import structlog
from pydantic import BeforeValidator, Field

from lattice import BadInput, Finding, LatticeError, Value, WitError
from lattice.jetstream import JetStream
from lattice.nats_transport import NatsOptions
from lattice.tracing import Observer, outcome_of, trace_id
from lattice.transport import Message, Subscription, Transport
from providers.arrival import Arrival, context_of
from providers.finishing import finishing
from providers.link import Link, LinkId, serving
from providers.messaging.consumer import HANDLE_MESSAGE, Consumers, Puller
from providers.messaging.subjects import RESERVED, internal, words
from providers.nats import Connections, NatsLogin
from providers.provider import Provider, Spawn, export
from providers.wit import GUESTS

log = structlog.get_logger("providers")

CONSUMER = "wasmcloud:messaging/consumer"
HANDLER = "wasmcloud:messaging/handler"

TOGETHER = 64
"""Messages of one link that its actor has in hand at a time; more wait at the subscription."""


class Wish(NamedTuple):
    """One subscription, as `subject` or `subject|queue`."""

    subject: str
    queue: str | None


def _wishes(text: Any) -> Any:
    """The comma list. Raises ValueError, naming the part that cannot be."""
    if not isinstance(text, str):
        return text
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        subject, bar, queue = part.partition("|")
        if not words(subject) or (bar and not words(queue)):
            raise ValueError(f"{part!r} is not a subject, nor subject|queue")
        found.append(Wish(subject, queue or None))
    return tuple(found)


class MessagingLink(NatsLogin):
    """A link's configuration: its target_config where actors publish, its source_config where they are called."""

    subscriptions: Annotated[tuple[Wish, ...], BeforeValidator(_wishes)] = ()
    cluster_uris: str | None = Field(None, repr=False)
    """Other NATS servers than the lattice's."""
    consumers: Consumers = ()
    js_domain: str | None = None

    def options(self) -> NatsOptions | None:
        """The connection it wants for itself; None: the lattice's own will do."""
        return self.connection("trellis messaging-nats", self.cluster_uris)


class Route(NamedTuple):
    """How a link reaches its broker. `private`: by a connection that is not the lattice's own."""

    transport: Transport
    private: bool

    def refusal(self, subject: str) -> str | None:
        """Why nobody may publish there, or None."""
        parts = words(subject)
        if not parts or "*" in parts or parts[-1] == ">":
            return f"{subject!r} is not a subject to publish to"
        if not self.private and parts[0] in RESERVED:
            return f"{subject} is the lattice's own subject; actors may not publish there"
        return None


class Listener:
    """One link's subscriptions, and its messages in hand."""

    def __init__(self, link: Link[MessagingLink], route: Route, spawn: Spawn, observe: Observer) -> None:
        self._link = link
        self._observe = observe
        self._route = route
        self._permits = asyncio.Semaphore(TOGETHER)
        self._subscriptions: list[Subscription] = []
        jetstream = JetStream(route.transport, link.config.js_domain)
        self._pullers = [
            Puller(link, jetstream, config, route.private, spawn, observe) for config in link.config.consumers
        ]
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises BadInput or LatticeError when the broker has no such consumer or takes no subscription.

        Nothing is left behind then.
        """
        try:
            for puller in self._pullers:
                await puller.start()
            for wish in self._link.config.subscriptions:
                subscribed = await self._route.transport.subscribe(wish.subject, self._arrived, queue=wish.queue)
                self._subscriptions.append(subscribed)
            await self._route.transport.flush()
        except BaseException:
            await self.stop()
            raise

    async def _arrived(self, message: Message) -> None:
        if not self._route.private and internal(message.subject):
            return
        await self._permits.acquire()
        task = asyncio.create_task(self._handle(message), name=f"message for {self._link.peer}")
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._permits.release()

    async def _handle(self, message: Message) -> None:
        arrival = Arrival("message", self._link, HANDLE_MESSAGE, context_of(message))
        about = {"actor": self._link.peer, "subject": message.subject, "trace": trace_id(arrival.context)}
        value = {"subject": message.subject, "body": message.data, "reply-to": message.reply}
        outcome = "ok", ""
        try:
            await self._link.call(HANDLE_MESSAGE, value, trace=arrival.context)
        except WitError as error:
            outcome = outcome_of(error)
            log.warning("message.refused", error=error.payload, **about)
        except LatticeError as error:
            outcome = outcome_of(error)
            log.warning("message.lost", error=error.message, **about)
        self._observe(arrival.ended(*outcome, subject=message.subject), (value,), None)

    async def leave(self) -> None:
        """Take no more messages."""
        for subscription in self._subscriptions:
            await subscription.drain()
        for puller in self._pullers:
            await puller.leave()

    async def stop(self) -> None:
        """Leave, and finish the messages in hand. When this is cancelled, so are they."""
        async with finishing(self._running):
            await self.leave()
            async with asyncio.TaskGroup() as group:
                for puller in self._pullers:
                    group.create_task(puller.stop())

    def trouble(self) -> str | None:
        """Why messages of a consumer do not come at present."""
        return next((puller.trouble for puller in self._pullers if puller.trouble), None)


class MessagingNats(Provider):
    """`builtin:messaging-nats`.

    On the lattice's own connection, its own subjects are out of reach: an actor that may send messages must not
    thereby be able to steer hosts.
    """

    wit = GUESTS / "messaging.wit"
    calls = (HANDLER,)
    link_config = MessagingLink

    def __init__(self, transport: Transport | None = None) -> None:
        self._routes: dict[LinkId, Route] = {}
        self._listeners: dict[LinkId, Listener] = {}
        self._connections = Connections(transport)

    async def link_added(self, link: Link[MessagingLink]) -> None:
        _fits(link)
        options = link.config.options()
        route = Route(await self._connections.of(self, options), options is not None)
        if not link.incoming:
            listener = Listener(link, route, self.spawn, self.observe)
            await listener.start()
            self._listeners[link.id] = listener
        self._routes[link.id] = route

    async def link_removed(self, link: Link[Any]) -> None:
        self._routes.pop(link.id, None)
        listener = self._listeners.pop(link.id, None)
        if listener is not None:
            await listener.stop()

    async def draining(self) -> None:
        for listener in list(self._listeners.values()):
            await listener.leave()

    async def healthy(self) -> bool | str:
        return next((said for listener in self._listeners.values() if (said := listener.trouble())), True)

    async def stopped(self) -> None:
        await self._connections.close()

    @export(f"{CONSUMER}#publish")
    async def publish(self, link: Link[Any], message: Mapping[str, Any]) -> None:
        """Returns when the message is on its way, whether or not anybody listens."""
        subject, reply = message["subject"], message["reply-to"]
        route = self._allowed(link, subject)
        if reply is not None and not words(reply):
            raise WitError(f"{reply!r} is not a subject to reply to")
        try:
            await route.transport.publish(subject, bytes(message["body"]), reply=reply, headers=_headers())
        except LatticeError as error:
            raise WitError(error.message) from error

    @export(f"{CONSUMER}#request")
    async def request(self, link: Link[Any], subject: str, body: bytes, timeout_ms: int) -> dict[str, Value]:
        """The first answer. The end of `timeout_ms` is an answer, too; the end of the caller's time ends the call."""
        route = self._allowed(link, subject)
        try:
            answer = await route.transport.request(
                subject, bytes(body), timeout=max(timeout_ms, 1) / 1000, headers=_headers()
            )
        except LatticeError as error:
            raise WitError(error.message) from error
        return {"subject": answer.subject, "body": answer.data, "reply-to": answer.reply}

    def _allowed(self, link: Link[Any], subject: str) -> Route:
        route = self._routes[link.id]
        if (refusal := route.refusal(subject)) is not None:
            log.warning("message.denied", actor=link.peer, subject=subject)
            raise WitError(refusal)
        return route


def _headers() -> Mapping[str, str] | None:
    """The trace of the call that is being answered, for whoever gets the message."""
    call = serving.get()
    return call.trace if call is not None and call.trace else None


def _fits(link: Link[MessagingLink]) -> None:
    """Raises BadInput for a link that would never carry a message."""
    if link.incoming:
        return
    config = link.config
    if not config.subscriptions and not config.consumers:
        raise BadInput(
            Finding(
                "TRL-CFG-002",
                f'link {link.record}: "subscriptions" is missing',
                why="without one, and without a consumer, the component would never be called",
                fix='set "subscriptions" in source_config: subject or subject|queue, with commas between',
            )
        )
    if config.options() is None:
        for wish in config.subscriptions:
            if internal(wish.subject):
                raise BadInput(
                    Finding(
                        "TRL-CFG-002",
                        f'link {link.record}: "subscriptions" has {wish.subject}, which is a subject of the lattice',
                        fix='choose another subject, or name the server in "cluster_uris"',
                    )
                )
