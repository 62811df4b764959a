"""Whether what a manifest says can be: its names, ids, images, secrets, scalers and how it wants to be rolled out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lattice.names import entity_id
from wadm.checker import NAME, Checker, did_you_mean
from wadm.images import builtin_problem, native_code, native_problem
from wadm.manifest import (
    API_VERSION,
    DAEMONSCALER,
    KIND,
    ROLLOUT,
    SECRET_POLICY,
    SPREADSCALER,
    Component,
    Policy,
    Properties,
    Rollout,
    Scaler,
    Secret,
    component_id,
)
from wadm.shape import Part
from wadm.source import Path

MOST_INSTANCES = 4294967295

_OAM_KEY = re.compile(
    r"^(?:(?=.{1,253}/)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
)


class Meaning(Checker):
    """Looks at what could be read."""

    def head(self, data: dict[str, Any], rollout: Rollout | None) -> None:
        for key, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
            value = data.get(key)
            if isinstance(value, str) and value != expected:
                self.report(
                    "008",
                    f"{key} is `{value}`; read as `{expected}`",
                    (key,),
                    fix=f"{key}: {expected}",
                    level="warning",
                )
        metadata = data.get("metadata")
        if not isinstance(metadata, dict):
            return
        name = metadata.get("name")
        if isinstance(name, str) and not NAME.match(name):
            self.bad_name("application", name, ("metadata", "name"))
        for group in ("annotations", "labels"):
            entries = metadata.get(group)
            for key in entries if isinstance(entries, dict) else ():
                if not _OAM_KEY.match(key):
                    self.report(
                        "027",
                        f"`{key}` cannot be the name of {'an annotation' if group == 'annotations' else 'a label'}",
                        ("metadata", group, key),
                        key=True,
                        why="a key is letters, digits, `-`, `_` and `.` (63 at most), after an optional `domain/`",
                    )
        annotations = metadata.get("annotations")
        if not isinstance(annotations, dict):
            return
        if annotations.get("version") == "latest":
            self.report(
                "010",
                "a version cannot be called `latest`",
                ("metadata", "annotations", "version"),
                why="`latest` always means the newest version that was put",
                fix="use a number such as v1.0.0, or leave the version out to get one made",
            )
        if rollout is not None and rollout.max_surge.number == rollout.max_unavailable.number == 0:
            self.report(
                "023",
                "a new version could never take over: `max-surge` and `max-unavailable` are both 0",
                ("metadata", "annotations", f"{ROLLOUT}max-surge"),
                key=True,
                why="the new one has to come before the old one leaves, or after it",
                fix="set one of them to 1 or more",
            )

    def names(self, app: str, parts: list[Part]) -> None:
        named: dict[str, Part] = {}
        ids: dict[str, Part] = {}
        for part in parts:
            at = (*part.path, "name")
            if isinstance(part.raw.get("name"), str) and not NAME.match(part.name):
                self.bad_name("component", part.name, at)
            if not part.name:
                continue
            if part.name in named:
                self.report(
                    "011",
                    f"a second component is named `{part.name}`",
                    at,
                    hint=f"the first is at line {self.line((*named[part.name].path, 'name'))}",
                    why="links and commands find a component by its name",
                    fix="give one of them another name",
                )
                continue
            named[part.name] = part
            explicit = part.properties.id if part.properties else None
            if explicit is not None:
                try:
                    entity_id(explicit)
                except ValueError:
                    self.bad_name("id", explicit, (*part.path, "properties", "id"))
            if part.properties is None or part.properties.application is not None:
                continue
            wanted = explicit or component_id(
                app, Component.model_construct(name=part.name, properties=part.properties)
            )
            if wanted in ids:
                other = ids[wanted]
                self.report(
                    "012",
                    f"components `{other.name}` and `{part.name}` have the same id `{wanted}`",
                    (*part.path, "properties", "id") if explicit else at,
                    hint=f"the other is at line {self.line((*other.path, 'name'))}",
                    why="an id is made from the names in lower case with `_` for other characters"
                    if not explicit
                    else "an id names one component on the whole lattice",
                    fix="give one of them another `id`",
                )
            ids.setdefault(wanted, part)

    def properties(self, part: Part, properties: Properties, path: Path) -> None:
        called = f"`{part.name}`" if part.name else "this component"
        if properties.image is not None and properties.application is not None:
            self.report(
                "015",
                f"{called} has both `image` and `application`",
                (*path, "application"),
                key=True,
                why="`image` runs it here; `application` uses the one another application runs",
                fix="remove one of them",
            )
        elif properties.image is None and properties.application is None:
            self.report(
                "015",
                f"{called} has neither `image` nor `application`",
                path,
                key=True,
                fix="add `image:` with a file://, an OCI reference or builtin:NAME",
            )
        if properties.application is not None and properties.image is None:
            self.shared(part, properties, properties.application.name, path)
        if properties.limits is not None and part.type == "capability":
            self.report(
                "016",
                f"provider {called} cannot have `x-limits`",
                (*path, "x-limits"),
                key=True,
                why="limits are of the instances of a Wasm component",
                fix="remove them",
            )
        if properties.image is not None:
            self.image(properties.image, part.type, (*path, "image"))

    def shared(self, part: Part, properties: Properties, app: str, path: Path) -> None:
        """What a component that another application runs cannot have."""
        for name, there in (("config", properties.config), ("secrets", properties.secrets)):
            if there:
                self.report(
                    "016",
                    f"shared component `{part.name}` cannot have `{name}` of its own",
                    (*path, name),
                    key=True,
                    why=f"application `{app}` runs it and decides its settings",
                    fix=f"remove `{name}` here",
                )
        for where, kind, _ in part.scalers:
            self.report(
                "016",
                f"shared component `{part.name}` cannot have a `{kind}`",
                where[:-1],
                why=f"application `{app}` decides how often it runs",
                fix="remove the trait here",
            )

    def image(self, image: str, kind: str, path: Path) -> None:
        problem = builtin_problem(image, kind)
        if problem is not None:
            message, hint, level = problem
            self.report("029", message, path, hint=hint, level=level)
            return
        native = native_problem(image) if kind == "capability" else None
        if native is not None:
            message, level = native
            _, why, fix = native_code(image)
            self.report("031", message, path, why=why, fix=fix, level=level)

    def secrets(self, secrets: Sequence[Secret], path: Path, policies: Mapping[str, Policy]) -> None:
        for index, secret in enumerate(secrets):
            at = (*path, index, "properties", "policy")
            name = secret.properties.policy
            policy = policies.get(name)
            if policy is None:
                self.report(
                    "026",
                    f"secret `{secret.name}` names policy `{name}`, which is not in this manifest",
                    at,
                    hint=did_you_mean(name, policies),
                    fix=f"add it to `spec.policies` with type {SECRET_POLICY}",
                )
            elif policy.type != SECRET_POLICY:
                self.report(
                    "026",
                    f"policy `{name}` of secret `{secret.name}` is not a secret policy",
                    at,
                    why=f"its type is `{policy.type}`",
                    fix=f"its type must be {SECRET_POLICY}",
                )
            elif "backend" not in policy.properties:
                self.report(
                    "026",
                    f"policy `{name}` of secret `{secret.name}` names no backend",
                    at,
                    fix="add `backend:` to the policy's properties",
                )

    def scalers(self, part: Part) -> None:
        for path, kind, _ in part.scalers[1:]:
            first = part.scalers[0]
            self.report(
                "025",
                f"`{part.name}` has a second scaler (`{kind}`)",
                path[:-1],
                hint=f"the first is at line {self.line(first[0][:-1])}",
                why="two scalers would pull against each other",
                fix="keep one of them",
            )
        for path, kind, scaler in part.scalers:
            if scaler is None:
                continue
            if not 0 <= scaler.instances <= MOST_INSTANCES:
                name = "instances" if "instances" in self.value(path) else "replicas"
                self.report(
                    "023",
                    f"`{name}` is {scaler.instances}",
                    (*path, name),
                    why=f"it is a number from 0 to {MOST_INSTANCES}",
                )
            self.spreads(kind, scaler, (*path, "spread"))
            if kind == DAEMONSCALER and part.type == "capability" and scaler.instances > 1:
                self.report(
                    "023",
                    f"`instances: {scaler.instances}` has no effect: a provider runs once on each host",
                    path,
                    key=True,
                    level="warning",
                )

    def spreads(self, kind: str, scaler: Scaler, path: Path) -> None:
        seen: dict[str, Path] = {}
        weights = 0
        for index, spread in enumerate(scaler.spread):
            at = (*path, index)
            if spread.weight is not None and spread.weight < 0:
                self.report("023", f"`weight` is {spread.weight}", (*at, "weight"), why="a weight is 0 or more")
            weights += 100 if spread.weight is None else max(0, spread.weight)
            if spread.name in seen:
                self.report(
                    "024",
                    f"a second spread is named `{spread.name}`",
                    (*at, "name"),
                    hint=f"the first is at line {self.line(seen[spread.name])}",
                    fix="give it another name",
                )
            seen.setdefault(spread.name, (*at, "name"))
        if scaler.spread and weights == 0 and kind == SPREADSCALER and scaler.instances > 0:
            self.report(
                "023",
                "every `weight` is 0, so no spread would get an instance",
                path,
                key=True,
                fix="give at least one spread a weight above 0",
            )
