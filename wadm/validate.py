"""Everything that can be wrong with a manifest, found at once and each with its place.

`check` is the one validator: the command line and the deployment manager's API both call it.

| code        | what                                            | code        | what                                  |
|-------------|-------------------------------------------------|-------------|---------------------------------------|
| TRL-MAN-001 | not YAML or JSON                                | TRL-MAN-016 | a shared component with settings      |
| TRL-MAN-002 | several documents                               | TRL-MAN-017 | a link to nothing                     |
| TRL-MAN-003 | a key written twice                             | TRL-MAN-018 | a link without interfaces             |
| TRL-MAN-004 | not an application                              | TRL-MAN-019 | an unknown interface (warning)        |
| TRL-MAN-005 | an unknown field                                | TRL-MAN-020 | one interface linked to two targets   |
| TRL-MAN-006 | a missing field                                 | TRL-MAN-021 | a link between two providers          |
| TRL-MAN-007 | a value of the wrong type                       | TRL-MAN-022 | a config name with two meanings       |
| TRL-MAN-008 | another apiVersion or kind (warning)            | TRL-MAN-023 | a number out of range                 |
| TRL-MAN-009 | a name with characters it cannot have           | TRL-MAN-024 | two spreads of one name               |
| TRL-MAN-010 | the version `latest`                            | TRL-MAN-025 | two scalers on one component          |
| TRL-MAN-011 | two components of one name                      | TRL-MAN-026 | a secret without a usable policy      |
| TRL-MAN-012 | two components of one id                        | TRL-MAN-027 | a label or annotation key             |
| TRL-MAN-013 | an unknown component type                       | TRL-MAN-028 | an outdated form (warning)            |
| TRL-MAN-014 | an unknown trait (warning)                      | TRL-MAN-029 | an image that cannot be               |
| TRL-MAN-015 | image and application, or neither               | TRL-MAN-030 | not a WIT name                        |
|             |                                                 | TRL-MAN-031 | a provider of native code             |
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lattice import Finding
from lattice.names import entity_id
from wadm.images import builtin_problem, native_code, native_problem
from wadm.manifest import (
    API_VERSION,
    COMPONENT_TYPES,
    DAEMONSCALER,
    KIND,
    LINK,
    ROLLOUT,
    SECRET_POLICY,
    SPREADSCALER,
    TRAITS,
    Component,
    Config,
    Link,
    Manifest,
    Metadata,
    Policy,
    Properties,
    Rollout,
    Scaler,
    Secret,
    Spec,
    Strict,
    Trait,
    component_id,
    config_name,
)
from wadm.source import Document, Path, read, read_json

M = TypeVar("M", bound=BaseModel)

MOST_INSTANCES = 4294967295

KNOWN_INTERFACES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "wasi": {
        "blobstore": frozenset({"blobstore", "container", "types"}),
        "cli": frozenset({"command", "environment", "exit", "run", "stderr", "stdin", "stdout"}),
        "clocks": frozenset({"monotonic-clock", "timezone", "wall-clock"}),
        "config": frozenset({"runtime", "store"}),
        "filesystem": frozenset({"preopens", "types"}),
        "http": frozenset({"incoming-handler", "outgoing-handler", "proxy", "types"}),
        "io": frozenset({"error", "poll", "streams"}),
        "keyvalue": frozenset({"atomics", "batch", "store", "watcher"}),
        "logging": frozenset({"logging"}),
        "messaging": frozenset({"consumer", "handler", "incoming-handler", "producer", "request-reply", "types"}),
        "random": frozenset({"insecure", "insecure-seed", "random"}),
        "sockets": frozenset({"instance-network", "ip-name-lookup", "network", "tcp", "tcp-create-socket", "udp"}),
    },
    "wasmcloud": {
        "bus": frozenset({"error", "lattice"}),
        "cron": frozenset({"scheduler"}),
        "identity": frozenset({"store"}),
        "messaging": frozenset({"consumer", "handler", "incoming-handler", "producer", "request-reply", "types"}),
        "postgres": frozenset({"managed-prepared", "managed-query", "prepared", "query", "types"}),
        "secrets": frozenset({"reveal", "store"}),
        "wadm": frozenset({"client", "handler", "types"}),
    },
}

_NAME = re.compile(r"^[A-Za-z0-9_-]+\Z")
_WIT = re.compile(r"^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$")
_OAM_KEY = re.compile(
    r"^(?:(?=.{1,253}/)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
)

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "dict_type": "a map (`key: value` lines)",
    "list_type": "a list (lines that begin with `- `)",
    "model_type": "a map (`key: value` lines)",
    "model_attributes_type": "a map (`key: value` lines)",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A manifest's text after the check. `manifest` and `data` (JSON data) are None when a finding is an error."""

    document: Document | None
    manifest: Manifest | None = None
    data: dict[str, Any] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level != "error")


def check(text: str, file: str = "app.yaml", *, places: bool = True) -> Checked:
    """Read and check one manifest: all findings, in the order of their places.

    Without `places`, JSON in which nothing is found is not read for them, which is most of the work.
    """
    if not places and (quick := read_json(text, file)) is not None:
        checker = _Checker(quick)
        manifest = checker.run()
        if not checker.findings:
            return Checked(quick, manifest, _plain(quick.data, ()))
    document, unreadable = read(text, file)
    if document is None:
        return Checked(None, findings=tuple(unreadable))
    checker = _Checker(document)
    checker.findings += unreadable
    manifest = checker.run()
    findings = tuple(sorted(checker.findings, key=_position))
    if any(f.level == "error" for f in findings):
        return Checked(document, findings=findings)
    return Checked(document, manifest, _plain(document.data, ()), findings)


def is_name(text: str) -> bool:
    """Whether an application, a component or a configuration can be called so."""
    return _NAME.match(text) is not None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for a name that is nearly right, or ""."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6) or [n for n in names if n.lower() == word.lower()]
    return f"did you mean `{close[0]}`?" if close else ""


def _position(finding: Finding) -> tuple[int, int, str]:
    return (finding.place.line, finding.place.column, finding.code) if finding.place else (0, 0, finding.code)


@dataclass(slots=True)
class _Part:
    """One entry of `spec.components`: the raw data, and what of it could be understood."""

    path: Path
    raw: dict[str, Any]
    name: str
    type: str
    properties: Properties | None = None
    scalers: list[tuple[Path, str, Scaler | None]] = field(default_factory=list)
    links: list[tuple[Path, Link]] = field(default_factory=list)


class _Checker:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings: list[Finding] = []

    def report(
        self,
        code: str,
        message: str,
        path: Path,
        *,
        key: bool = False,
        hint: str = "",
        why: str = "",
        fix: str = "",
        level: str = "error",
    ) -> None:
        place = self.document.place(path, key=key)
        self.findings.append(Finding(f"TRL-MAN-{code}", message, place, hint=hint, why=why, fix=fix, level=level))

    def line(self, path: Path) -> int:
        return self.document.place(path).line

    # -- shape

    def run(self) -> Manifest | None:
        data = self.document.data
        if not isinstance(data, dict):
            what = "the file is empty" if data is None else "this is not an application"
            self.report(
                "004",
                what,
                (),
                why="a manifest is a map with apiVersion, kind, metadata and spec",
                fix="trellis new  writes one to begin with",
            )
            return None
        parts = self.parts(data)
        self.shape(Manifest, data, (), skip=parts is not None)
        self.head(data)
        if parts is not None:
            self.components(data, parts)
        try:
            return Manifest.model_validate(data)
        except ValidationError:
            return None  # each of its errors is among the findings already

    def shape(self, model: type[M], data: Any, path: Path, *, skip: bool = False) -> M | None:
        """`data` as `model`, or None and findings. With `skip`, `spec.components` is somebody else's to report."""
        self.unknown(model, data, path, skip=skip)
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for problem in error.errors():
                loc = tuple(problem["loc"])
                if problem["type"] == "extra_forbidden" or (
                    skip and loc[:2] == ("spec", "components") and len(loc) > 2
                ):
                    continue
                self.misshapen(model, path, loc, problem["type"], problem.get("input"), str(problem["msg"]))
            return None

    def misshapen(self, model: type[BaseModel], base: Path, loc: Path, kind: str, given: Any, message: str) -> None:
        path = (*base, *loc)
        name = str(path[-1]) if path else "this"
        if kind == "missing":
            owner = _model_at(model, loc[:-1])
            self.report(
                "006",
                f"missing field `{name}`",
                path[:-1],
                key=True,
                why=_accepts(owner, path[:-1]) if owner else "",
                fix=f"add `{name}:` here",
            )
        elif kind == "literal_error":
            self.report(
                "013",
                f"unknown component type `{given}`",
                path,
                hint=did_you_mean(str(given), COMPONENT_TYPES),
                why="a component is a `component` (or `actor`: Wasm) or a `capability` (a provider)",
            )
        else:
            where = f"item {int(name) + 1} of `{path[-2]}`" if name.isdigit() and len(path) > 1 else f"`{name}`"
            wanted = _WANTED.get(kind)
            if wanted is None:
                self.report("007", f"{where}: {message}", path)
            else:
                fix = "put it in quotes" if wanted == "text" and isinstance(given, (int, float)) else ""
                self.report("007", f"{where} must be {wanted}, not {_called(given)}", path, fix=fix)

    def unknown(self, model: type[BaseModel], data: Any, path: Path, *, skip: bool = False) -> None:
        if not isinstance(data, dict):
            return
        fields = _fields(model)
        for key, value in data.items():
            if key.startswith("x-") and key not in fields:
                continue
            info = fields.get(key)
            if info is None:
                self.unknown_field(model, key, path, list(fields))
                continue
            if skip and model is Spec and key == "components":
                continue
            inner = _inner(info.annotation)
            if inner is None:
                continue
            for where, item in _items(value, (*path, key)):
                self.unknown(inner, item, where, skip=skip)

    def unknown_field(self, model: type[BaseModel], key: str, path: Path, fields: list[str]) -> None:
        strict = issubclass(model, Strict)
        hint = did_you_mean(key, fields)
        fix = "rename it" if hint else "remove it, or name it `x-...` to keep it as a note"
        if model in (Component, Trait):
            inner = Properties if model is Component else None
            deeper = set(_fields(inner)) if inner else {*_fields(Link), *_fields(Scaler)}
            if key in deeper:
                strict, hint, fix = True, "belongs under `properties`", "move it under `properties:`"
            elif model is Component and key in {"instances", "replicas", "spread"}:
                strict, hint = True, "belongs in a `spreadscaler` trait"
                fix = "add a trait with `type: spreadscaler` and put it under its `properties:`"
        self.report(
            "005",
            f"unknown field `{key}`",
            (*path, key),
            key=True,
            hint=hint,
            why=_accepts(model, path),
            fix=fix,
            level="error" if strict or hint else "warning",
        )

    def parts(self, data: dict[str, Any]) -> list[_Part] | None:
        """Each component that is at least a map; shape findings of every one of them."""
        spec = data.get("spec")
        listed = spec.get("components") if isinstance(spec, dict) else None
        if not isinstance(listed, list):
            return None
        found: list[_Part] = []
        for index, raw in enumerate(listed):
            path: Path = ("spec", "components", index)
            component = self.shape(Component, raw, path)
            if not isinstance(raw, dict):
                continue
            part = _Part(path, raw, str(raw.get("name") or ""), str(raw.get("type") or ""))
            part.properties = component.properties if component else _quiet(Properties, raw.get("properties"))
            self.traits(part)
            found.append(part)
        return found

    def traits(self, part: _Part) -> None:
        listed = part.raw.get("traits")
        for index, raw in enumerate(listed if isinstance(listed, list) else ()):
            path: Path = (*part.path, "traits", index)
            if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
                continue
            kind, properties = raw["type"], raw.get("properties")
            if kind not in TRAITS:
                if not kind.startswith("x-"):
                    hint = did_you_mean(kind, TRAITS)
                    self.report(
                        "014",
                        f"unknown trait `{kind}`; it is kept and does nothing",
                        (*path, "type"),
                        hint=hint,
                        why=f"the manager acts on {_listed(TRAITS)}",
                        fix="correct the name" if hint else "",
                        level="warning",
                    )
                continue
            if not isinstance(properties, dict):
                continue
            inside = (*path, "properties")
            if kind == LINK:
                link = self.shape(Link, properties, inside)
                if link is not None:
                    part.links.append((inside, link))
            else:
                part.scalers.append((inside, kind, self.shape(Scaler, properties, inside)))

    # -- meaning

    def head(self, data: dict[str, Any]) -> None:
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
        if isinstance(name, str) and not _NAME.match(name):
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
        rollout = {key: value for key, value in annotations.items() if key.startswith(ROLLOUT)}
        asked = self.shape(Rollout, rollout, ("metadata", "annotations"))
        if asked is not None and asked.max_surge.number == asked.max_unavailable.number == 0:
            self.report(
                "023",
                "a new version could never take over: `max-surge` and `max-unavailable` are both 0",
                ("metadata", "annotations", f"{ROLLOUT}max-surge"),
                key=True,
                why="the new one has to come before the old one leaves, or after it",
                fix="set one of them to 1 or more",
            )

    def bad_name(self, what: str, name: str, path: Path) -> None:
        better = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
        self.report(
            "009",
            f"{what} name `{name}` has characters that it cannot have" if name else f"the {what} name is empty",
            path,
            hint=f"perhaps `{better}`?" if better else "",
            why="a name is letters, digits, `-` and `_`",
            fix="rename it",
        )

    def components(self, data: dict[str, Any], parts: list[_Part]) -> None:
        metadata = data.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        app = name if isinstance(name, str) else ""
        self.names(app, parts)
        by_name = {part.name: part for part in parts if part.name}
        spec = data["spec"]
        raw_policies = spec.get("policies")
        policies = {}
        for raw in raw_policies if isinstance(raw_policies, list) else ():
            policy = _quiet(Policy, raw)
            if policy is not None:
                policies[policy.name] = policy
        configs = _Configs(self, app)
        for part in parts:
            if part.properties is not None:
                inside = (*part.path, "properties")
                self.properties(part, part.properties, inside)
                configs.add(part.properties.config, (*inside, "config"))
                self.secrets(part.properties.secrets, (*inside, "secrets"), policies)
            self.scalers(part)
            for path, link in part.links:
                self.link(part, path, link, by_name)
                target_at = (*path, "target", "config") if link.target.config else (*path, "target_config")
                source_at = (*path, "source", "config") if link.source else (*path, "source_config")
                configs.add(link.for_target(), target_at)
                configs.add(link.for_source(), source_at)
                self.secrets(link.target.secrets, (*path, "target", "secrets"), policies)
                self.secrets(link.source.secrets if link.source else [], (*path, "source", "secrets"), policies)
            self.twice_linked(part)
        configs.references()

    def names(self, app: str, parts: list[_Part]) -> None:
        named: dict[str, _Part] = {}
        ids: dict[str, _Part] = {}
        for part in parts:
            at = (*part.path, "name")
            if isinstance(part.raw.get("name"), str) and not _NAME.match(part.name):
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

    def properties(self, part: _Part, properties: Properties, path: Path) -> None:
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
            for name, there in (("config", properties.config), ("secrets", properties.secrets)):
                if there:
                    self.report(
                        "016",
                        f"shared component `{part.name}` cannot have `{name}` of its own",
                        (*path, name),
                        key=True,
                        why=f"application `{properties.application.name}` runs it and decides its settings",
                        fix=f"remove `{name}` here",
                    )
            for where, kind, _ in part.scalers:
                self.report(
                    "016",
                    f"shared component `{part.name}` cannot have a `{kind}`",
                    where[:-1],
                    why=f"application `{properties.application.name}` decides how often it runs",
                    fix="remove the trait here",
                )
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
            problem = builtin_problem(properties.image, part.type)
            if problem is not None:
                message, hint, level = problem
                self.report("029", message, (*path, "image"), hint=hint, level=level)
            native = native_problem(properties.image) if part.type == "capability" else None
            if problem is None and native is not None:
                self.report(
                    "031",
                    native[0],
                    (*path, "image"),
                    why=native_code(properties.image)[1],
                    fix=native_code(properties.image)[2],
                    level=native[1],
                )

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

    def scalers(self, part: _Part) -> None:
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
                name = "instances" if "instances" in _at(self.document.data, path) else "replicas"
                self.report(
                    "023",
                    f"`{name}` is {scaler.instances}",
                    (*path, name),
                    why=f"it is a number from 0 to {MOST_INSTANCES}",
                )
            seen: dict[str, Path] = {}
            weights = 0
            for index, spread in enumerate(scaler.spread):
                at = (*path, "spread", index)
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
                    (*path, "spread"),
                    key=True,
                    fix="give at least one spread a weight above 0",
                )
            if kind == DAEMONSCALER and part.type == "capability" and scaler.instances > 1:
                self.report(
                    "023",
                    f"`instances: {scaler.instances}` has no effect: a provider runs once on each host",
                    path,
                    key=True,
                    level="warning",
                )

    def link(self, part: _Part, path: Path, link: Link, by_name: Mapping[str, _Part]) -> None:
        raw = _at(self.document.data, path)
        by_string = isinstance(raw.get("target"), str)
        at_target = (*path, "target") if by_string else (*path, "target", "name")
        target = by_name.get(link.target.name)
        if target is None:
            by_id = next(
                (p.name for p in by_name.values() if p.properties and p.properties.id == link.target.name), None
            )
            others = [name for name in by_name if name != part.name]
            self.report(
                "017",
                f"link of `{part.name}` goes to `{link.target.name}`, which is not a component of this manifest",
                at_target,
                hint=f"use its name: `{by_id}`" if by_id else did_you_mean(link.target.name, others),
                why=f"this manifest has {_listed(sorted(others))}" if others else "",
                fix="correct the name, or add the component",
            )
        elif part.type == "capability" and target.type == "capability":
            self.report(
                "021",
                f"link from provider `{part.name}` to provider `{target.name}`",
                at_target,
                why="a link joins a component and a provider, or two components",
                fix="link a component in between, or configure the providers directly",
            )
        if not link.interfaces:
            self.report(
                "018",
                f"link of `{part.name}` to `{link.target.name}` names no interfaces",
                (*path, "interfaces"),
                key=True,
                fix=f"list them: interfaces: [{_example(link)}]",
            )
        if not _NAME.match(link.name):
            self.bad_name("link", link.name, (*path, "name"))
        for name in ("namespace", "package"):
            self.wit_name(getattr(link, name), name, (*path, name))
        for index, interface in enumerate(link.interfaces):
            at = (*path, "interfaces", index)
            if self.wit_name(interface, "interface", at):
                self.known_interface(link.namespace, link.package, interface, path, index)
        for old, new, there in (
            ("target_config", "target:\n  config:", link.target_config),
            ("source_config", "source:\n  config:", link.source_config),
        ):
            if there or old in raw:
                self.report(
                    "028",
                    f"`{old}` is an outdated form",
                    (*path, old),
                    key=True,
                    fix=f"write it as `{new.splitlines()[0]}` with `config:` below",
                    level="warning",
                )

    def wit_name(self, text: str, what: str, path: Path) -> bool:
        if _WIT.match(text):
            return True
        bare = text.rpartition("/")[2].partition("@")[0]
        self.report(
            "030",
            f"`{text}` is not a WIT {what} name",
            path,
            hint=f"perhaps `{bare}`?" if bare != text and _WIT.match(bare) else "",
            why="it is lower-case words joined by `-`, without a version: links match any compatible one",
        )
        return False

    def known_interface(self, namespace: str, package: str, interface: str, path: Path, index: int) -> None:
        packages = KNOWN_INTERFACES.get(namespace)
        if packages is None:
            return
        interfaces = packages.get(package)
        if interfaces is None:
            if index == 0:
                self.report(
                    "019",
                    f"unknown package `{namespace}:{package}`",
                    (*path, "package"),
                    hint=did_you_mean(package, packages),
                    level="warning",
                )
        elif interface not in interfaces:
            self.report(
                "019",
                f"unknown interface `{namespace}:{package}/{interface}`",
                (*path, "interfaces", index),
                hint=did_you_mean(interface, interfaces),
                why=f"{namespace}:{package} has {_listed(sorted(interfaces))}",
                level="warning",
            )

    def twice_linked(self, part: _Part) -> None:
        """One interface under one link name has one target; and two halves of one link must agree."""
        taken: dict[tuple[str, str, str, str], tuple[Path, Link]] = {}
        halves: dict[tuple[str, str, str, str], tuple[Path, Link]] = {}
        for path, link in part.links:
            clash = False
            for index, interface in enumerate(link.interfaces):
                key = (link.name, link.namespace, link.package, interface)
                other = taken.setdefault(key, (path, link))
                if other[1] is link or clash:
                    continue
                if other[1].target.name != link.target.name:
                    clash = True
                    self.report(
                        "020",
                        f"`{part.name}` links {link.namespace}:{link.package}/{interface} (name `{link.name}`) "
                        f"to `{link.target.name}` and also to `{other[1].target.name}`",
                        (*path, "interfaces", index),
                        hint=f"also linked at line {self.line((*other[0], 'interfaces'))}",
                        why="a call could go to either",
                        fix="remove one, or give one of the two links a `name:` of its own",
                    )
            half = (link.name, link.namespace, link.package, link.target.name)
            first = halves.setdefault(half, (path, link))
            if first[1] is not link and (first[1].for_target(), first[1].for_source()) != (
                link.for_target(),
                link.for_source(),
            ):
                self.report(
                    "020",
                    f"`{part.name}` has two links to `{link.target.name}` for {link.namespace}:{link.package} "
                    f"(name `{link.name}`) with different configuration",
                    path[:-1],
                    hint=f"the other is at line {self.line(first[0][:-1])}",
                    why="both are one link on the lattice, so one configuration would be lost",
                    fix="put all interfaces into one link, or give one of the two links a `name:` of its own",
                )


class _Configs:
    """All named configurations of a manifest: one name on the lattice, one meaning."""

    def __init__(self, checker: _Checker, app: str) -> None:
        self.checker = checker
        self.app = app
        self.ours: dict[str, tuple[Config, Path]] = {}
        self.named: dict[str, Path] = {}
        self.external: list[tuple[Config, Path]] = []

    def add(self, configs: Sequence[Config], path: Path) -> None:
        listed: dict[str, Path] = {}
        for index, config in enumerate(configs):
            at = (*path, index, "name")
            if config.name in listed:
                self.checker.report(
                    "022",
                    f"config `{config.name}` is listed twice here",
                    at,
                    hint=f"first at line {self.checker.line(listed[config.name])}",
                    fix="remove one of them",
                )
                continue
            listed[config.name] = at
            if config.properties is None:
                if not _NAME.match(config.name):
                    self.checker.bad_name("config", config.name, at)
                self.external.append((config, at))
                continue
            if not config.name:
                self.checker.bad_name("config", config.name, at)
            name = config_name(self.app, config)
            self.named.setdefault(config.name, at)
            known = self.ours.setdefault(name, (config, at))
            if known[0].properties != config.properties:
                self.checker.report(
                    "022",
                    f"config `{config.name}` is defined twice with different properties",
                    at,
                    hint=f"the other is at line {self.checker.line(known[1])}",
                    why=f"both are `{name}` on the lattice, so one would overwrite the other",
                    fix="give one of them another name",
                )

    def references(self) -> None:
        for config, at in self.external:
            here = self.named.get(config.name)
            if here is not None:
                self.checker.report(
                    "022",
                    f"`{config.name}` without properties means a config of that very name on the lattice, "
                    f"not the one defined at line {self.checker.line(here)}",
                    at,
                    fix="repeat the properties to use the same configuration",
                    level="warning",
                )


# -- reading models and data


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.validation_alias, AliasChoices):
            for alias in info.validation_alias.choices:
                found[str(alias)] = info
        elif isinstance(info.validation_alias, str):
            found[info.validation_alias] = info
        else:
            found[name] = info
    return found


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, types.UnionType, typing.Union):
        return next((m for m in map(_inner, get_args(annotation)) if m is not None), None)
    return None


def _model_at(model: type[BaseModel], loc: Path) -> type[BaseModel] | None:
    found: type[BaseModel] | None = model
    for step in loc:
        if isinstance(step, int):
            continue
        info = _fields(found).get(step) if found else None
        found = _inner(info.annotation) if info else None
    return found


def _items(value: Any, path: Path) -> Iterable[tuple[Path, Any]]:
    if isinstance(value, list):
        return [((*path, index), item) for index, item in enumerate(value)]
    return [(path, value)]


_CALLED: Mapping[type[BaseModel], str] = {
    Manifest: "an application",
    Metadata: "`metadata`",
    Component: "a component",
    Trait: "a trait",
    Link: "a link",
    Scaler: "a scaler",
    Rollout: "a rollout",
}


def _accepts(model: type[BaseModel], path: Path) -> str:
    called = _CALLED.get(model)
    if called is None:
        names = [str(step) for step in path if isinstance(step, str)]
        called = f"`{names[-1]}`" if names else "this"
    return f"{called} accepts {', '.join(_fields(model))}"


def _quiet(model: type[M], data: Any) -> M | None:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _at(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def _called(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a map"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _example(link: Link) -> str:
    known = KNOWN_INTERFACES.get(link.namespace, {}).get(link.package)
    return ", ".join(sorted(known - {"types"})) if known else "..."


_TEXT_MAPS = frozenset({"annotations", "labels", "requirements"})
_CONFIG_LISTS = frozenset({"config", "source_config", "target_config"})


def _plain(value: Any, path: Path) -> Any:
    """JSON data in which texts that were written as numbers are texts again, exactly as written."""
    if isinstance(value, dict):
        as_text = bool(path) and (
            path[-1] in _TEXT_MAPS or (path[-1] == "properties" and len(path) > 2 and path[-3] in _CONFIG_LISTS)
        )
        if as_text:
            return {key: _written(item) for key, item in value.items()}
        return {key: _plain(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return value


def _written(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return getattr(value, "raw", None) or str(value)
    return value
