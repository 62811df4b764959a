"""The Transport on a real NATS server. The only file that touches nats-py."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats
import nats.errors
import nkeys
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsPySubscription
from nats.js import JetStreamContext
from nats.js import errors as js_errors
from nats.js.api import DEFAULT_PREFIX, KeyValueConfig, PubAck
from nats.js.kv import KV_DEL, KV_PURGE, KeyValue

from lattice.errors import BadValue, DeadlineExceeded, Denied, LatticeError, ProtocolError, Unreachable
from lattice.jetstream import JetStream, NotFound
from lattice.pending import Pending
from lattice.transport import Entry, Message, NoBucket, OnMessage, WrongRevision

log = structlog.get_logger("lattice.nats")

T = TypeVar("T")

DEFAULT_URL = "nats://127.0.0.1:4222"

PING = 2
"""Seconds between two questions whether the server is there. The connection is given up when two get no answer."""

LOOK_AFTER = 10.0
"""Seconds between two looks whether the bucket that is watched is still the same."""

ANSWERING = 5.0
"""Seconds that JetStream has for an answer about a bucket."""

LONGEST_SUBJECT = 900
"""Characters, of four bytes at most each."""

PUBLISH_VIOLATION = re.compile(r'permissions violation for publish to "([^"]+)"')
"""What nats-py makes of the server's sentence: all of it is in lower case, the subject too."""

PENDING_MESSAGES = 65536
PENDING_BYTES = 256 * 1024 * 1024
"""What one subscription may hold unread before the client drops messages (as NATS calls a slow consumer)."""


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """How to reach and log in to a NATS server. `url` may list several servers, separated by commas."""

    url: str = DEFAULT_URL
    user: str | None = None
    password: str | None = None
    token: str | None = None
    nkey_seed: str | None = None
    jwt: str | None = None
    """A user's JWT; `nkey_seed` signs for it."""
    creds_file: str | None = None
    ca_file: str | None = None
    ca_pem: str | None = None
    """Certificates of CAs to trust, themselves."""
    cert_file: str | None = None
    """A certificate of our own, for a server that wants to see one; `key_file` unless the key is in the same file."""
    key_file: str | None = None
    inbox_prefix: str | None = None
    """How reply subjects begin, for a login that may not listen to `_INBOX.>`."""
    domain: str | None = None
    """The JetStream domain, for a server behind a leaf node."""
    name: str = "trellis"
    connect_timeout: float = 2.0

    def __repr__(self) -> str:
        return f"NatsOptions(url={plain(self.url)!r})"


def plain(url: str) -> str:
    """`url` without user and password."""
    parts = urlsplit(url)
    return url if "@" not in parts.netloc else url.replace(parts.netloc, parts.netloc.rpartition("@")[2])


def translated(error: BaseException, what: str) -> LatticeError:
    """The one place where nats-py's errors become ours."""
    match error:
        case nats.errors.NoRespondersError():
            return Unreachable(f"nobody listens on {what}")
        case nats.errors.TimeoutError() | TimeoutError():
            return DeadlineExceeded(f"no answer on {what} in time")
        case nats.errors.MaxPayloadError():
            return ProtocolError(f"the message for {what} is above the broker's limit")
        case nats.errors.BadSubjectError():
            return ProtocolError(f"{what[:200]!r} is not a subject, or one that is too long")
        case js_errors.ServiceUnavailableError() if error.description and "jetstream" not in error.description.lower():
            return LatticeError(f"JetStream refuses {what}: {error.description}")
        case js_errors.ServiceUnavailableError() | js_errors.NoStreamResponseError():
            return Unreachable("JetStream is not available on this NATS server (start it with -js)")
        case js_errors.InvalidKeyError():
            return BadValue(f"{what}: a key is made of letters, digits and -/_=.")
        case nats.errors.Error() | OSError():
            return Unreachable(f"the NATS connection failed at {what}: {error or type(error).__name__}")
    return LatticeError(f"{what}: {error}")


class Connection(Client):
    """nats-py's client, which a subject cannot end.

    A server answers a line that is too long for it (4096 bytes, unless it is set) with an error and hangs up, and
    nats-py then closes for good. Subjects hold what others choose, such as the keys of a bucket.
    """

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, Any] | None = None
    ) -> None:
        if len(subject) > LONGEST_SUBJECT:
            raise nats.errors.BadSubjectError
        await super().publish(subject, payload, reply, headers)

    async def subscribe(self, subject: str, queue: str = "", *arguments: Any, **options: Any) -> NatsPySubscription:
        if len(subject) + len(queue) > LONGEST_SUBJECT:
            raise nats.errors.BadSubjectError
        return await super().subscribe(subject, queue, *arguments, **options)

    async def request(self, *arguments: Any, **options: Any) -> Msg:
        """Before Python 3.12 nats-py's `wait_for` loses a cancellation when the answer comes at the same moment."""
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        answer = await super().request(*arguments, **options)
        if task.cancelling() > cancelled:
            raise asyncio.CancelledError
        return answer

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """After what was sent before: nats-py writes it ahead of that, and its answer would say nothing of the rest.

        A subscription that is drained would be given up while the server still sends to it.
        """
        if self.is_connected:
            assert self._transport is not None
            self._transport.writelines(self._pending)
            self._pending, self._pending_data_size = [], 0
        await super()._send_ping(future)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """What waits for a connection that is lost is given up: nats-py fails at writing it, and stays half closed."""
        if not self.is_connected:
            self._pending, self._pending_data_size = [], 0
        await super()._close(status, do_cbs)

    async def _process_err(self, err_msg: str) -> None:
        """Where the server hangs up after it, that is a lost connection like any other: it is made again."""
        if self.is_connecting or "authorization" in err_msg.lower() or "stale" in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            await self._error_cb(nats.errors.Error(f"nats: {err_msg}"))


async def connect(options: NatsOptions | str = DEFAULT_URL) -> NatsTransport:
    """A connection that heals itself.

    Raises Unreachable; its details say `because`: "login" or "tls", when a server is there but does not let us in.
    """
    if isinstance(options, str):
        options = NatsOptions(options)
    login = _login(options)
    client = Connection()
    transport = NatsTransport(client, options)
    refusals: list[BaseException] = []
    refused = asyncio.Event()
    """The only server there is does not listen, or will not let us in, however often we ask."""

    async def on_error(error: Exception) -> None:
        if not transport.ready:
            refusals.append(error)
            hopeless = isinstance(error, ConnectionRefusedError) or "because" in _refused(where, [error]).details
            if hopeless and "," not in options.url:
                refused.set()
            return  # `connect` tells
        # while it reconnects, each of its attempts fails, four a second: that it has no connection is told already
        tell = log.debug if client.is_reconnecting else log.warning
        tell("nats.error", error=str(error) or type(error).__name__)
        if (violation := PUBLISH_VIOLATION.search(str(error))) is not None:
            transport.denied(violation[1])

    async def on_disconnect() -> None:
        if not transport.closing:
            log.warning("nats.disconnected", url=transport.url)
            transport.disconnected()

    async def on_reconnect() -> None:
        log.info("nats.reconnected", url=transport.url)
        await transport.reconnected()

    where = plain(options.url)
    connecting = asyncio.ensure_future(
        client.connect(
            options.url.split(","),
            error_cb=on_error,
            disconnected_cb=on_disconnect,
            reconnected_cb=on_reconnect,
            name=options.name,
            connect_timeout=max(1, round(options.connect_timeout)),
            reconnect_time_wait=0.25,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=PING,
            max_outstanding_pings=2,
            pending_size=16 * 1024 * 1024,
            **login,
        )
    )
    enough = asyncio.ensure_future(refused.wait())
    try:
        # nats-py retries the first connection for ever when it may reconnect, so bound it from outside
        async with asyncio.timeout(options.connect_timeout + 0.5):
            await asyncio.wait((connecting, enough), return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise TimeoutError
            await connecting
    except (nats.errors.Error, nkeys.NkeysError, OSError, TimeoutError, ValueError) as error:
        try:
            await client.close()
        except (nats.errors.Error, OSError, AssertionError):
            pass  # an assertion: it had not come as far as to a connection
        raise _refused(where, [*refusals, error]) from error
    finally:
        connecting.cancel()
        enough.cancel()
    await transport.start()
    return transport


def _login(options: NatsOptions) -> dict[str, Any]:
    """As nats-py has it. Raises Unreachable for what cannot be used."""
    login: dict[str, Any] = {"user": options.user, "password": options.password, "token": options.token}
    if options.ca_file or options.ca_pem or options.cert_file:
        login["tls"] = _tls(options)
    if options.creds_file:
        if not Path(options.creds_file).is_file():
            raise Unreachable(f"no such credentials file: {options.creds_file}", because="login")
        login["user_credentials"] = options.creds_file
    if options.nkey_seed:
        try:
            nkeys.from_seed(bytearray(options.nkey_seed.encode()))
        except (nkeys.NkeysError, ValueError) as error:
            raise Unreachable("the nkey's seed is not one", because="login") from error
        login["nkeys_seed_str"] = options.nkey_seed
    if options.jwt:
        if not options.nkey_seed:
            raise Unreachable("a JWT needs the seed of its nkey", because="login")
        token = bytearray(options.jwt.strip().encode())
        login["user_jwt_cb"] = lambda: token
    if options.inbox_prefix:
        login["inbox_prefix"] = options.inbox_prefix.removesuffix(".>").encode()
    return login


def _tls(options: NatsOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file, cadata=options.ca_pem)
        if options.cert_file:
            context.load_cert_chain(options.cert_file, options.key_file)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(f for f in (options.ca_file, options.cert_file, options.key_file) if f) or "given as text"
        raise Unreachable(f"the TLS files {files} cannot be used: {error}", because="tls") from error
    return context


def _refused(where: str, errors: list[BaseException]) -> Unreachable:
    """Why there is no connection: what a server said, rather than that the time was over."""
    for error in reversed(errors):
        text = str(error).removeprefix("nats: ").strip("'\"") or type(error).__name__
        if isinstance(error, ssl.SSLError):
            return Unreachable(f"the TLS handshake with {where} failed: {text}", url=where, because="tls")
        if isinstance(error, nkeys.NkeysError) or "authorization" in text.lower() or "authentication" in text.lower():
            return Unreachable(f"{where} refuses the login: {text}", url=where, because="login")
    why = next((_plainly(e) for e in reversed(errors) if not isinstance(e, TimeoutError)), "nothing came back in time")
    return Unreachable(f"no NATS server answers at {where}: {why}", url=where)


def _plainly(error: BaseException) -> str:
    """What the system says of it, without the number and the call."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class NatsSubscription:
    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription
        self._ended = False

    async def unsubscribe(self) -> None:
        if not self._ended:
            self._ended = True
            try:
                await self._subscription.unsubscribe()
            except nats.errors.Error:
                pass  # the connection is closed: nothing is subscribed any more

    async def drain(self) -> None:
        if not self._ended:
            self._ended = True
            try:
                await self._subscription.drain()
            except nats.errors.Error:
                pass


class NatsTransport:
    """One NATS connection. Made by `connect`."""

    def __init__(self, client: Client, options: NatsOptions) -> None:
        self._client = client
        self._options = options
        self._replies = Replies(client)
        self._disconnected: list[Callable[[], None]] = []
        self._reconnected: list[Callable[[], None]] = []
        self._buckets: dict[str, NatsBucket] = {}
        self.ready = False
        self.closing = False

    async def start(self) -> None:
        """Listen for answers. Called once, by `connect`."""
        await self._replies.start()
        self.ready = True

    def denied(self, subject: str) -> None:
        """The server has told that we may not publish there (`subject` is in lower case)."""
        self._replies.denied(subject)

    @property
    def options(self) -> NatsOptions:
        """How it was connected (credentials included): what a child process needs to connect as well."""
        return self._options

    @property
    def max_payload(self) -> int:
        return self._client.max_payload

    @property
    def connected(self) -> bool:
        connected: bool = self._client.is_connected
        return connected

    @property
    def domain(self) -> str | None:
        return self._options.domain or None

    @property
    def url(self) -> str:
        connected = self._client.connected_url
        return plain(self._options.url) if connected is None else f"nats://{connected.netloc.rpartition('@')[2]}"

    async def publish(
        self, subject: str, data: bytes, *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        try:
            await self._client.publish(subject, data, reply or "", headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            raise translated(error, subject) from error

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Message:
        try:
            return _message(await self._replies.ask(subject, data, timeout, dict(headers) if headers else None))
        except (nats.errors.Error, OSError) as error:
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"no answer on {subject} within {timeout:.3g} s") from error
            raise translated(error, subject) from error

    async def gather(self, subject: str, data: bytes, *, seconds: float, most: int | None = None) -> list[Message]:
        found: list[Message] = []
        enough = asyncio.Event()

        def collect(message: Message) -> None:
            if not message.data and message.headers and "Status" in message.headers:
                enough.set()  # 503: nobody listens
                return
            found.append(message)
            if most is not None and len(found) >= most:
                enough.set()

        inbox = self.inbox()
        subscription = await self.subscribe(inbox, collect)
        try:
            await self.publish(subject, data, reply=inbox)
            async with asyncio.timeout(seconds):
                await enough.wait()
        except TimeoutError:
            pass
        finally:
            await subscription.unsubscribe()
        return found[:most]

    async def subscribe(self, subject: str, on_message: OnMessage, *, queue: str | None = None) -> NatsSubscription:
        async def arrived(message: Msg) -> None:
            try:
                outcome = on_message(_message(message))
                if outcome is not None:
                    await outcome
            except Exception:
                log.exception("message.handler_failed", subject=subject)

        try:
            subscription = await self._client.subscribe(
                subject,
                queue or "",
                cb=arrived,
                pending_msgs_limit=PENDING_MESSAGES,
                pending_bytes_limit=PENDING_BYTES,
            )
        except (nats.errors.Error, OSError) as error:
            raise translated(error, subject) from error
        return NatsSubscription(subscription)

    async def bucket(self, name: str, *, history: int = 1, create: bool = True) -> NatsBucket:
        known = self._buckets.get(name)
        if known is not None:
            return known
        context = Context(self._client, domain=self.domain, timeout=ANSWERING)
        settings = KeyValueConfig(bucket=name, history=history) if create else None
        try:
            store = await _key_value(context, name, settings)
        except NoBucket:
            raise
        except (nats.errors.Error, OSError) as error:
            raise translated(error, f"bucket {name}") from error
        jetstream = JetStream(self)
        opened = NatsBucket(name, store, context, self._client, settings, jetstream)
        self._buckets[name] = opened
        return opened

    def inbox(self) -> str:
        return self._client.new_inbox()

    def pending_requests(self) -> dict[str, str]:
        return self._replies.waiting.asked()

    def fail_request(self, reply: str, error: LatticeError) -> None:
        self._replies.waiting.fail(reply, error)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        self._disconnected.append(callback)

    def disconnected(self) -> None:
        for callback in self._disconnected:
            callback()

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._reconnected.append(callback)

    async def reconnected(self) -> None:
        for callback in self._reconnected:
            callback()
        for bucket in self._buckets.values():
            await bucket.stop_watches()

    async def flush(self) -> None:
        try:
            await self._client.flush()
        except (nats.errors.Error, OSError) as error:
            raise translated(error, "flush") from error

    async def close(self) -> None:
        if self.closing:
            return
        self.closing = True
        try:
            async with asyncio.timeout(5):
                await self._client.drain()
        except (nats.errors.Error, OSError, TimeoutError):
            await self._client.close()


class Replies:
    """The answers to requests, on one subscription.

    nats-py's own `request` draws random bytes for each, and before Python 3.12 starts a task to time it: together a
    third of what a call costs its caller.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._numbers = itertools.count(1)
        self.waiting: Pending[Msg] = Pending()

    async def start(self) -> None:
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(
            f"{self._inbox}.*",
            cb=self._arrived,
            pending_msgs_limit=PENDING_MESSAGES,
            pending_bytes_limit=PENDING_BYTES,
        )

    async def ask(self, subject: str, data: bytes, timeout: float, headers: dict[str, str] | None) -> Msg:
        """Raises TimeoutError after `timeout` seconds, NoRespondersError, Denied, and what publishing raises."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self.waiting[reply] = future, subject
        timer = loop.call_later(timeout, self._late, future)
        try:
            await self._client.publish(subject, data, reply, headers=headers)
            answer: Msg = await future
        finally:
            timer.cancel()
            del self.waiting[reply]
        if answer.headers and answer.headers.get("Status") == "503":
            raise nats.errors.NoRespondersError
        return answer

    async def _arrived(self, message: Msg) -> None:
        waiting = self.waiting.get(message.subject)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(message)

    def denied(self, subject: str) -> None:
        """End what was asked there (`subject` is in lower case)."""
        for future, asked in self.waiting.values():
            if asked.lower() == subject and not future.done():
                future.set_exception(Denied(f"the NATS login may not publish to {asked}", because="login"))

    @staticmethod
    def _late(future: asyncio.Future[Msg]) -> None:
        if not future.done():
            future.set_exception(TimeoutError())


class Context(JetStreamContext):
    """nats-py's, which asks another domain's API, but would write its keys into the domain at hand."""

    async def publish(self, subject: str, *arguments: Any, **options: Any) -> PubAck:
        if subject.startswith("$KV.") and self._prefix != DEFAULT_PREFIX:
            subject = f"{self._prefix}.{subject}"
        return await super().publish(subject, *arguments, **options)


def _message(message: Msg) -> Message:
    return Message(message.subject, message.data, message.reply or None, message.headers)


async def _key_value(context: JetStreamContext, name: str, settings: KeyValueConfig | None) -> KeyValue:
    """The bucket, made with `settings` when it is not there. Raises NoBucket without settings."""
    try:
        return await context.key_value(name)
    except js_errors.NotFoundError:
        if settings is None:
            raise NoBucket(name) from None
    try:
        return await context.create_key_value(settings)
    except js_errors.BadRequestError:
        return await context.key_value(name)  # another host made it in between


async def _first_part(entries: AsyncIterator[Entry | None]) -> AsyncIterator[Entry]:
    """What a watch begins with: every key's current entry."""
    async for entry in entries:
        if entry is None:
            return
        yield entry


class NatsBucket:
    """A JetStream KV bucket."""

    def __init__(
        self,
        name: str,
        store: KeyValue,
        context: JetStreamContext,
        client: Client,
        settings: KeyValueConfig | None,
        jetstream: JetStream,
    ) -> None:
        self.name = name
        self._jetstream = jetstream
        self._store = store
        self._context = context
        self._client = client
        self._settings = settings
        self._watchers: set[KeyValue.KeyWatcher] = set()

    def _error(self, error: BaseException, key: str) -> Exception:
        if isinstance(error, js_errors.KeyWrongLastSequenceError):
            return WrongRevision(f"{key} in {self.name} was written in between")
        said = translated(error, f"key {key} of bucket {self.name}")
        # here nobody's time is over but JetStream's
        return Unreachable(said.message) if isinstance(said, DeadlineExceeded) else said

    async def _write(self, key: str, write: Callable[[], Awaitable[T]]) -> T:
        """`write`, and once more when the broker had lost the bucket."""
        try:
            try:
                return await write()
            except js_errors.NoStreamResponseError:
                await self.incarnation()
                return await write()
        except (nats.errors.Error, OSError) as error:
            raise self._error(error, key) from error

    async def incarnation(self) -> str:
        try:
            try:
                status = await self._store.status()
            except js_errors.NotFoundError:
                self._store = await _key_value(self._context, self.name, self._settings)
                status = await self._store.status()
        except NoBucket as error:
            raise Unreachable(f"the bucket {self.name} is gone") from error
        except (nats.errors.Error, OSError) as error:
            raise translated(error, f"bucket {self.name}") from error
        return str(status.stream_info.created)

    async def stop_watches(self) -> None:
        """End every watch: the connection was lost, and changes with it."""
        for watcher in list(self._watchers):
            await _stop(watcher)

    async def get(self, key: str) -> Entry | None:
        try:
            found = await self._store.get(key)
        except js_errors.NotFoundError:  # KeyNotFoundError is one
            return None
        except (nats.errors.Error, OSError) as error:
            raise self._error(error, key) from error
        return Entry(key, found.value or b"", found.revision or 0)

    async def put(self, key: str, value: bytes) -> int:
        return await self._write(key, lambda: self._store.put(key, value))

    async def create(self, key: str, value: bytes) -> int:
        return await self._write(key, lambda: self._store.create(key, value))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        return await self._write(key, lambda: self._store.update(key, value, last=revision))

    async def delete(self, key: str) -> None:
        if await self.get(key) is None:
            return
        await self._write(key, lambda: self._store.delete(key))

    async def purge(self, key: str) -> None:
        await self._write(key, lambda: self._store.purge(key))

    async def keys(self) -> list[str]:
        async with aclosing(self._entries(headers_only=True)) as entries:
            return [entry.key async for entry in _first_part(entries) if entry.value is not None]

    async def page(self, after: int, most: int) -> list[Entry]:
        try:
            history = (await self._store.status()).history
        except (nats.errors.Error, OSError) as error:
            raise self._error(error, "*") from error
        if history > 1:  # older revisions lie in between, so all of it has to be seen
            async with aclosing(self._entries(headers_only=True)) as entries:
                live = [entry async for entry in _first_part(entries) if entry.value is not None]
            return sorted((e for e in live if e.revision > after), key=lambda entry: entry.revision)[:most]
        found: list[Entry] = []
        start = {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
        walk = self._jetstream.walk(f"KV_{self.name}", f"$KV.{self.name}.>", headers_only=True, **start)
        try:
            async with aclosing(walk):
                async for delivery in walk:
                    if "KV-Operation" not in (delivery.message.headers or {}):
                        key = delivery.message.subject.removeprefix(f"$KV.{self.name}.")
                        found.append(Entry(key, b"", delivery.sequence))
                        if len(found) == most:
                            break
        except NotFound as error:
            raise Unreachable(f"the bucket {self.name} is gone") from error
        return found

    def watch(self) -> AsyncIterator[Entry | None]:
        return self._entries()

    async def _entries(self, *, headers_only: bool = False) -> AsyncGenerator[Entry | None, None]:
        """nats-py's watcher, with an end of its first part that can be relied on, and an end.

        Its own marker comes before all entries when the server was so quick that everything was on its way by the time
        the client asked how much there is. What the server has delivered counts, too. And it would wait for ever when
        the bucket is gone, or when a connection that was made again belongs to another server.
        """
        made = await self.incarnation()
        try:
            watcher = await self._store.watchall(meta_only=headers_only)
            consumer = await watcher._sub.consumer_info()  # type: ignore[union-attr]
        except (nats.errors.Error, OSError) as error:
            raise self._error(error, "*") from error
        delivered = 0 if consumer.delivered is None else consumer.delivered.consumer_seq
        begun, complete = False, not (consumer.num_pending or delivered)
        self._watchers.add(watcher)
        looking = asyncio.create_task(self._look_after(watcher, made), name=f"bucket {self.name}")
        try:
            if complete:
                yield None
            async for found in watcher:
                if found is None:
                    if begun and not complete:
                        complete = True
                        yield None
                    continue
                begun = True
                gone = found.operation in (KV_DEL, KV_PURGE)
                yield Entry(found.key, None if gone else found.value or b"", found.revision or 0)
                if found.delta == 0 and not complete:
                    complete = True
                    yield None
            raise Unreachable(
                f"the watch of the bucket {self.name} ended: its connection or the bucket itself was lost"
            )
        finally:
            looking.cancel()
            self._watchers.discard(watcher)
            await _stop(watcher)

    async def _look_after(self, watcher: KeyValue.KeyWatcher, made: str) -> None:
        """Stop the watch of a bucket that is not there any more: the watch itself would wait for ever."""
        while True:
            await asyncio.sleep(LOOK_AFTER)
            try:
                if await self.incarnation() == made:
                    continue
            except LatticeError as error:
                log.warning("bucket.unreachable", bucket=self.name, error=error.message)
                continue
            await _stop(watcher)


async def _stop(watcher: KeyValue.KeyWatcher) -> None:
    try:
        await watcher.stop()  # type: ignore[no-untyped-call]
    except nats.errors.Error:
        pass  # it is stopped
