"""wadm's API (`wadm.api.{lattice}.model.*`), answered as wadm answers; clients depend on its result strings.

Requests are handled one after another. Any one manager of the lattice takes a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from lattice import LatticeError, read_json
from lattice.transport import Message
from wadm.checker import is_name
from wadm.claims import clashes
from wadm.desired import desired_from
from wadm.keeping import users
from wadm.manifest import Manifest
from wadm.resolve import relative_images
from wadm.status import plain_type
from wadm.store import Store, Stored, added, new_version, with_version, without
from wadm.telling import utc
from wadm.validate import check
from wadm.world import World

log = structlog.get_logger("wadm.api")

LATEST = "latest"

LARGE = 64 * 1024
"""Characters of a manifest from which on checking it, which may take seconds, must not keep others waiting."""


class Refusal(Exception):
    """The request is answered with an error result."""


class Api:
    def __init__(self, store: Store, world: World, *, prefix: str = "wadm.api") -> None:
        self.store = store
        self.world = world
        self.prefix = f"{prefix}.{store.lattice}."

    async def answer(self, message: Message) -> bytes:
        """The reply to one request. Never raises for what a client sent."""
        try:
            return json.dumps(await self._dispatch(message)).encode()
        except Refusal as error:
            told = str(error)
        except LatticeError as error:
            log.error("request.failed", subject=message.subject, error=error.message)
            told = f"Internal storage error: {error.message}"
        except Exception as error:
            log.exception("request.failed", subject=message.subject)
            told = f"Internal error: {type(error).__name__}: {error}"
        result: dict[str, Any] = {"result": "error", "message": told}
        if message.subject.startswith(f"{self.prefix}model.versions."):
            result["versions"] = []  # clients cannot read the error without
        return json.dumps(result).encode()

    async def _dispatch(self, message: Message) -> Any:
        rest = message.subject.removeprefix(self.prefix).split(".")
        if len(rest) > 3:
            raise Refusal(
                "Invalid subject: Found extra components of subject, ensure your manifest name consists of only "
                "alphanumeric characters, dashes, and underscores."
            )
        if not message.subject.startswith(self.prefix) or len(rest) < 2 or rest[0] != "model":
            raise Refusal(f"Unsupported subject: {message.subject}")
        body, named = message.data, rest[2:]
        if named and not is_name(named[0]):
            raise Refusal(
                f"Manifest name {named[0]} contains invalid characters. Manifest names can only contain alphanumeric "
                "characters, dashes, and underscores."
            )
        match rest[1:]:
            case ["put"]:
                return await self.put(body, message.headers or {})
            case ["get"]:
                return {
                    "result": "success",
                    "message": "Successfully fetched list of applications",
                    "models": await self.summaries(),
                }
            case ["list"]:
                return await self.summaries()
            case ["get", name]:
                return await self.get(name, _version(body, "get"))
            case ["versions", name]:
                return await self.versions(name)
            case ["deploy", name]:
                return await self.deploy(name, _version(body, "deploy"), _note(body))
            case ["undeploy", name]:
                _version(body, "undeploy")
                return await self.undeploy(name)
            case ["del", name]:
                return await self.delete(name, _version(body, "delete"))
            case ["status", name]:
                status = self.world.app_status(name, await self.store.get(name))
                message_text = f"Successfully fetched status for application {name}"
                return {"result": "ok", "message": message_text, "status": status}
            case ["history", _]:
                raise Refusal(
                    "Model deployment history is not currently supported. It may be added in a future version"
                )
        raise Refusal(f"Unsupported subject: {message.subject}")

    # -- manifests

    async def put(self, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        kind = next((v for k, v in headers.items() if k.lower() == "content-type"), None)
        if kind is not None and kind not in ("application/json", "application/yaml"):
            raise Refusal(f"Unsupported content type {kind} given. Wadm supports YAML and JSON")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise Refusal(f"Unable to parse manifest: {error}") from error
        if len(text) > LARGE:
            checked = await asyncio.to_thread(check, text, "manifest", places=False)
        else:
            checked = check(text, "manifest", places=False)
        if checked.manifest is None or checked.data is None:
            first = checked.errors[0] if checked.errors else None
            if first is not None and first.code == "TRL-MAN-010":
                raise Refusal('invalid manifest version, errors: "latest is not allowed in wadm"')
            told = "\n\n".join(finding.render() for finding in checked.errors)
            raise Refusal(f"Unable to parse manifest: {told}")
        manifest, data = checked.manifest, checked.data
        for component, image in relative_images(manifest).items():
            raise Refusal(
                f"Unable to parse manifest: the image `{image}` of `{component}` is a relative path, which means "
                f"nothing here; `trellis deploy` makes it absolute"
            )
        version = manifest.version or new_version()
        data = with_version(data, version)
        created = False

        def decide(old: Stored | None) -> Stored:
            nonlocal created
            created = old is None
            if old is not None and version in old.manifests:
                raise Refusal(f"Manifest version {version} already exists")
            return added(old, version, data)

        stored = await self.store.change(manifest.name, decide)
        assert stored is not None
        self.world.changed(manifest.name, stored)
        told = f"Successfully put manifest {manifest.name} {version}"
        missing = await self.missing_shared(manifest)
        if missing:
            told += f", but some shared components are not deployed: {json.dumps(missing)}"
        return {
            "result": "created" if created else "newversion",
            "total_versions": len(stored.manifests),
            "current_version": version,
            "message": told,
            "name": manifest.name,
        }

    async def get(self, name: str, version: str | None) -> dict[str, Any]:
        stored = await self.store.get(name)
        if stored is None:
            return {"result": "notfound", "message": f"Application with the name {name} not found"}
        if version is not None and version not in stored.manifests:
            return {"result": "notfound", "message": f"Application {name} with version {version} doesn't exist"}
        said = f"Successfully fetched application {name}" + (f" {version}" if version else "")
        return {"result": "success", "message": said, "manifest": stored.manifests[version or stored.latest]}

    async def summaries(self) -> list[dict[str, Any]]:
        found = []
        for name, stored in sorted((await self.store.all()).items()):
            status = self.world.app_status(name, stored)
            found.append(
                {
                    "name": name,
                    "version": stored.latest,
                    "description": stored.description,
                    "deployed_version": stored.deployed_version,
                    "detailed_status": status,
                    "status": plain_type(status),
                    "status_message": status["status"].get("message", ""),
                }
            )
        return found

    async def versions(self, name: str) -> dict[str, Any]:
        stored = await self.store.get(name)
        if stored is None:
            told = f"Application with the name {name} not found"
            return {"result": "notfound", "message": told, "versions": []}
        listed = [{"version": v, "deployed": v == stored.deployed_version} for v in stored.manifests]
        return {
            "result": "success",
            "message": f"Successfully fetched versions for application {name}",
            "versions": listed,
        }

    # -- deployments

    async def deploy(self, name: str, asked: str | None, note: str = "") -> dict[str, Any]:
        stored = await self.store.get(name)
        if stored is None:
            return {"result": "notfound", "message": f"Application with the name {name} not found"}
        version = stored.latest if asked in (None, LATEST) else asked
        assert version is not None
        if version not in stored.manifests:
            raise Refusal(f"Application with the name '{name}' does not have a version '{version}' to deploy")
        manifest = stored.manifest(version)
        if manifest is None:
            raise Refusal(f"Version '{version}' of application '{name}' cannot be read any more")
        others = [part for other, part in self.world.parts().items() if other != name]
        taken = list(clashes(desired_from(manifest, shared=self.world.shared()), others))
        if taken:
            raise Refusal(" ".join(f"{reason.message} To mend it, {reason.fix}." for reason in taken))
        missing = await self.missing_shared(manifest)
        if missing:
            references = ((c.name, c.properties.application) for c in manifest.spec.components)
            said = [f"{n} is {r.component} of {r.name}" for n, r in references if n in missing and r is not None]
            raise Refusal(
                "Application contains shared components that are not deployed in other applications: "
                f"{json.dumps(missing)} ({', '.join(said)})"
            )

        changed = stored.deployed_version != version

        def decide(old: Stored | None) -> Stored | None:
            if old is None or version not in old.manifests:
                raise Refusal(f"Application with the name '{name}' does not have a version '{version}' to deploy")
            return replace(old, deployed_version=version)

        if changed:
            await self.store.drop_overrides(name)
        self.world.changed(name, await self.store.change(name, decide))
        if changed or note:
            await self.store.note_deployed(name, version, utc(), note)
        log.info("app.deployed", app=name, version=version)
        told = f"Successfully deployed application {name} {version}"
        return {"result": "acknowledged", "message": told, "name": name, "version": version}

    async def undeploy(self, name: str) -> dict[str, Any]:
        was = False
        kept = await self._keep_shared(name)

        def decide(old: Stored | None) -> Stored | None:
            nonlocal was
            if old is None:
                return None
            was = old.deployed_version is not None
            return replace(old, deployed_version=None)

        stored = await self.store.change(name, decide)
        if stored is None:
            return {"result": "notfound", "message": f"Application with the name {name} not found"}
        self.world.changed(name, stored)
        await self.store.drop_overrides(name)
        log.info("app.undeployed", app=name)
        said = "Successfully undeployed application {}" if was else "Application {} was already undeployed"
        return {
            "result": "acknowledged",
            "message": said.format(name),
            "name": name,
            "version": stored.latest,
            **kept,
        }

    async def _keep_shared(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Before `name` (or that version of it) is taken away: note which of its components others use.

        Those go on until nobody uses them any more. They are our addition to the answer: `kept`, when there are any.
        """
        mine = await self.store.get(name) or Stored()
        manifest = mine.deployed
        if manifest is None or mine.deployed_version is None or version not in (None, mine.deployed_version):
            return {}
        used = users(name, self.world.deployed().values())
        here = {component: by for component, by in used.items() if manifest.component(component) is not None}
        if not here:
            return {}
        await self.store.note_kept(name, mine.manifests[mine.deployed_version])
        return {"kept": [{"name": component, "used_by": list(by)} for component, by in here.items()]}

    async def delete(self, name: str, version: str | None) -> dict[str, Any]:
        stored = await self.store.get(name)
        if stored is None:
            told = f"Application {name} doesn't exist or was already deleted"
            return {"result": "noop", "message": told, "undeploy": True}
        if version is None:
            kept = await self._keep_shared(name)
            self.world.changed(name, await self.store.change(name, lambda _: None))
            await self._forget(name)
            told = f"Successfully deleted application {name}"
            return {"result": "deleted", "message": told, "undeploy": True, **kept}
        if version not in stored.manifests:
            told = f"Application version {version} doesn't exist"
            return {"result": "noop", "message": told, "undeploy": False}
        undeploys = stored.deployed_version == version
        await self._keep_shared(name, version)
        after = await self.store.change(name, lambda old: without(old, version) if old is not None else None)
        self.world.changed(name, after)
        if after is None:
            await self._forget(name)
            told = f"Successfully deleted last version of application {name}"
            return {"result": "deleted", "message": told, "undeploy": True}
        told = f"Successfully deleted version {version} of application {name}"
        return {"result": "deleted", "message": told, "undeploy": undeploys}

    async def _forget(self, name: str) -> None:
        await self.store.drop_overrides(name)
        await self.store.forget_deployments(name)

    async def missing_shared(self, manifest: Manifest) -> list[str]:
        """Names of this manifest's components that refer to something no shared, deployed application has."""
        missing = []
        for component in manifest.spec.components:
            reference = component.properties.application
            if reference is None:
                continue
            stored = await self.store.get(reference.name)
            owner = stored.deployed if stored is not None else None
            if owner is None or not owner.shared or owner.component(reference.component) is None:
                missing.append(component.name)
        return missing


def _note(body: bytes) -> str:
    """Our addition to a deploy request: `note`, why it is deployed."""
    note = read_json(body).get("note") if body.strip() else None
    return note if isinstance(note, str) else ""


def _version(body: bytes, what: str) -> str | None:
    """The version that a request names. An empty body names none; unknown fields are nobody's business."""
    if not body.strip():
        return None
    try:
        data = read_json(body)
    except ValueError as error:
        raise Refusal(f"Unable to parse {what} application request: {error}") from error
    if not isinstance(data, dict):
        raise Refusal(f"Unable to parse {what} application request: expected an object")
    version = data.get("version")
    if version is not None and not isinstance(version, str):
        raise Refusal(f"Unable to parse {what} application request: `version` must be a string")
    return version or None
