"""A policy service, as wasmCloud v1 has it: asked before something starts here, and before a component is called.

The request is JSON on the topic that the host was started with; `{"permitted": bool, "message": "why"}` is the answer.
It is remembered for as long as the host lives, unless the service takes it back on the topic of changes. No answer is
a no.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from host.claims import Claims
from lattice import Denied, EntityId, Handler, Invocation, LatticeError, Value
from lattice.transport import Message, Transport

log = structlog.get_logger("host")


MOST = 10_000
"""Decisions that are remembered: callers choose the names of functions."""


@dataclass(frozen=True, slots=True)
class PolicySettings:
    topic: str | None = None
    """None: nobody is asked, and everything is permitted."""
    timeout: float = 1.0
    """Seconds for an answer."""
    changes: str | None = None
    """Where the service publishes answers that it has changed."""


class Decision(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    request_id: str = Field("", validation_alias="requestId")
    permitted: bool
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A component as the service is told of it."""

    id: EntityId
    reference: str
    count: int
    annotations: Mapping[str, str]
    claims: Claims | None = None

    def wire(self) -> dict[str, Any]:
        return {
            "componentId": self.id,
            "imageRef": self.reference,
            "maxInstances": self.count,
            "annotations": dict(self.annotations),
            "claims": _wire(self.claims),
        }


def _wire(claims: Claims | None) -> dict[str, Any] | None:
    if claims is None:
        return None
    return {
        "publicKey": claims.subject,
        "issuer": claims.issuer,
        "issuedAt": str(claims.issued),
        "expiresAt": claims.expires,
        "expired": claims.expired(),
    }


class Policy:
    """`host` is what the service is told of this host: its id, lattice and labels."""

    def __init__(self, settings: PolicySettings, transport: Transport, host: Callable[[], dict[str, Any]]) -> None:
        self._settings = settings
        self._transport = transport
        self._host = host
        self._decided: dict[tuple[str, ...], Decision] = {}
        self._asked: dict[str, tuple[str, ...]] = {}

    async def listen(self) -> None:
        if self._settings.changes is not None:
            await self._transport.subscribe(self._settings.changes, self._changed)

    async def start_component(self, subject: Subject) -> None:
        """Raises Denied."""
        what = f'the start of component "{subject.id}"'
        await self._permitted(what, "startComponent", subject.wire(), subject.id, subject.reference)

    async def start_provider(self, id: EntityId, reference: str, annotations: Mapping[str, str]) -> None:
        """Raises Denied."""
        asked = {"providerId": id, "imageRef": reference, "annotations": dict(annotations), "claims": None}
        await self._permitted(f'the start of provider "{id}"', "startProvider", asked, id, reference)

    def around(self, subject: Subject, handler: Handler) -> Handler:
        """`handler` for calls of `subject` that are permitted; the others get Denied."""
        if self._settings.topic is None:
            return handler
        target = {**subject.wire(), "maxInstances": 0}

        async def handle(invocation: Invocation) -> Value:
            function = invocation.function
            asked = {"interface": function.interface, "function": function.name, "target": target}
            key = (subject.id, subject.reference, function.interface, function.name)
            await self._permitted(f'a call of {function.key} of "{subject.id}"', "performInvocation", asked, *key)
            return await handler(invocation)

        return handle

    async def _permitted(self, what: str, kind: str, request: dict[str, Any], *about: str) -> None:
        if self._settings.topic is None:
            return
        key = (kind, *about)
        decision = self._decided.get(key)
        if decision is None:
            decision = await self._ask(self._settings.topic, what, key, request)
        if not decision.permitted:
            raise Denied(f"policy denied {what}: {decision.message or 'it gave no reason'}")

    async def _ask(self, topic: str, what: str, key: tuple[str, ...], request: dict[str, Any]) -> Decision:
        id = str(uuid.uuid4())
        body = {"requestId": id, "kind": key[0], "version": "v1", "request": request, "host": self._host()}
        try:
            answer = await self._transport.request(topic, json.dumps(body).encode(), timeout=self._settings.timeout)
            decision = Decision.model_validate_json(answer.data)
        except (LatticeError, ValidationError) as error:
            why = error.message if isinstance(error, LatticeError) else "its answer cannot be read"
            log.warning("policy.unanswered", topic=topic, error=why)
            raise Denied(f"the policy service was asked for {what}, in vain: {why}") from error
        if len(self._asked) >= MOST:
            oldest = next(iter(self._asked))
            self._decided.pop(self._asked.pop(oldest), None)
        self._decided[key] = decision
        self._asked[id] = key
        return decision

    def _changed(self, message: Message) -> None:
        try:
            decision = Decision.model_validate_json(message.data)
        except ValidationError:
            log.warning("policy.change_unreadable", topic=message.subject)
            return
        key = self._asked.get(decision.request_id)
        if key is not None:  # else it was another host's question
            self._decided[key] = decision
            log.info("policy.changed", about=key, permitted=decision.permitted)
