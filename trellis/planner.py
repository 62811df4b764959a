"""The deployment manager, as commands talk to it: wadm's API, and what Trellis adds to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lattice import subjects
from lattice.errors import DeadlineExceeded, ProtocolError, Unreachable
from lattice.large import opened
from lattice.lattice import Lattice
from trellis.failures import UNREACHABLE, Failure, failure

TIMEOUT = 5.0
"""Seconds for one answer of the manager, which talks only to the lattice's store before it answers."""


class Planner:
    """Raises Unreachable or DeadlineExceeded when no manager answers, ProtocolError for an answer that is not one."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice

    # -- wadm's API

    async def apps(self) -> list[dict[str, Any]]:
        """Every stored application: `name`, `version`, `deployed_version`."""
        answer = await self._wadm("list")
        if not isinstance(answer, list):
            raise ProtocolError(f"not a list of applications: {answer!r}")
        return answer

    async def put(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        return await self._object("put", body=manifest)

    async def get(self, app: str, version: str | None = None) -> dict[str, Any]:
        return await self._object("get", app, {"version": version} if version else None)

    async def versions(self, app: str) -> dict[str, Any]:
        return await self._object("versions", app)

    async def deploy(self, app: str, version: str, note: str = "") -> dict[str, Any]:
        return await self._object("deploy", app, {"version": version, **({"note": note} if note else {})})

    async def undeploy(self, app: str) -> dict[str, Any]:
        return await self._object("undeploy", app)

    async def delete(self, app: str, version: str | None = None) -> dict[str, Any]:
        return await self._object("del", app, {"version": version} if version else None)

    async def _object(
        self, operation: str, app: str | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = await self._wadm(operation, app, body)
        if not isinstance(answer, dict):
            raise ProtocolError(f"the manager answered {operation} with {answer!r}")
        return answer

    async def _wadm(self, operation: str, app: str | None = None, body: Mapping[str, Any] | None = None) -> Any:
        tokens = [subjects.WADM_PREFIX, self.lattice.name, "model", operation]
        return await self._ask(".".join([*tokens, app] if app else tokens), body)

    # -- ours

    async def status(self) -> dict[str, Any]:
        """`apps`: how each stored application stands; `hosts`: those of the lattice."""
        return await self._ours("status", {})

    async def by_name(self) -> dict[str, dict[str, Any]]:
        """How each stored application stands, by its name."""
        return {app["name"]: app for app in (await self.status())["apps"]}

    async def app(self, name: str) -> dict[str, Any] | None:
        """How one application stands; None when nothing is known of it."""
        answer = await self._ours("status", {"app": name})
        apps = answer.get("apps") or []
        return apps[0] if answer.get("success") and apps else None

    async def scale(self, app: str, component: str, instances: int | None) -> dict[str, Any]:
        """Record an override of the manifest's number; None takes it back. `success` and `message` say how it went."""
        return await self._ours("scale", {"app": app, "component": component, "instances": instances})

    async def plan(
        self, *, manifest: Mapping[str, Any] | None = None, app: str | None = None, version: str | None = None
    ) -> dict[str, Any]:
        """What deploying a manifest, or a stored version, would change (`wadm.answers`). Raises Failure."""
        asked = {"manifest": manifest} if manifest is not None else {"app": app, "version": version}
        return granted(await self._ours("plan", asked))

    async def explain(self, app: str, thing: str | None) -> dict[str, Any]:
        """Why a part of an app is as it is (`wadm.answers.Answers.explain`). Raises Failure."""
        return granted(await self._ours("explain", {"app": app, "thing": thing}))

    async def history(self, app: str) -> dict[str, Any]:
        """Its stored versions and its deployments (`wadm.answers.Answers.history`). Raises Failure."""
        return granted(await self._ours("history", {"app": app}))

    async def _ours(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self._ask(subjects.manager(self.lattice.name, verb), body)
        if not isinstance(answer, dict):
            raise ProtocolError(f"the manager answered {verb} with {answer!r}")
        return answer

    async def _ask(self, subject: str, body: Mapping[str, Any] | None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        answer = await self.lattice.transport.request(subject, data, timeout=TIMEOUT)
        try:
            return json.loads(opened(answer.data))
        except ValueError as error:
            raise ProtocolError(f"not JSON on {subject}: {answer.data[:200]!r}") from error


def granted(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, if the manager could give one. Raises Failure with its sentence."""
    if not answer.get("success"):
        raise failure("TRL-APP-005", f"the manager refused: {answer.get('message', '')}")
    return answer


def granted_by_wadm(answer: dict[str, Any]) -> dict[str, Any]:
    """The same for an answer of wadm's API."""
    if answer.get("result") in ("error", "notfound"):
        raise failure("TRL-APP-005", f"the manager refused: {answer.get('message', '')}")
    return answer


@contextmanager
def managed(lattice: Lattice) -> Iterator[Planner]:
    """The manager of that lattice. Raises Failure when none answers within the block."""
    try:
        yield Planner(lattice)
    except (Unreachable, DeadlineExceeded) as error:
        raise unmanaged(lattice, error) from error


def unmanaged(lattice: Lattice, error: Unreachable | DeadlineExceeded) -> Failure:
    """There is a lattice, and nobody plans for it."""
    silent = isinstance(error, DeadlineExceeded)
    return failure(
        "TRL-NET-002",
        f"the deployment manager of lattice `{lattice.name}` does not answer"
        if silent
        else f"no deployment manager runs on lattice `{lattice.name}` at {lattice.transport.url}",
        why=error.message if silent else "deploy, status, scale and undeploy are requests to it",
        fix="start one:  trellis wadm start"
        if not silent
        else "look at its log, or start another:  trellis wadm start",
        exit_code=UNREACHABLE,
    )
