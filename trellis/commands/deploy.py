"""`trellis deploy`"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import GATED, NOT_CONVERGED, USER_ERROR, Failure, failure, show
from trellis.options import Where, output_option, registry_options, waiting_options, where
from trellis.output import TEXT, Output
from trellis.running import run_detachable

if TYPE_CHECKING:
    from lattice import Place
    from lattice.lattice import Lattice
    from trellis.planner import Planner
    from trellis.preflight import Examined
    from trellis.waiting import Line, Outcome
    from wadm.source import Document

TIMEOUT = 60.0
PIN = re.compile(r"[#@]sha256:[0-9a-f]{64}$")
"""What `deploy` puts behind an image: the digest of what it was then."""

GATES = ("TRL-RUN-003", "TRL-POL-001")
"""Reasons that somebody wanted: a change that waits to be let on, a policy that says no."""

WIDTH = 100
"""Columns of a stage's line; the time stands at its end."""


@click.command
@click.argument("path", metavar="[FILE]", default=".", type=click.Path(path_type=Path))
@click.option(
    "-m", "--message", metavar="WHY", default="", help="Kept with the deployment; `trellis history` shows it."
)
@click.option("--no-wait", is_flag=True, help="Return when the manager has accepted it.")
@click.option("--replace", is_flag=True, help="Take the place of what was deployed under the same version.")
@registry_options
@output_option
@waiting_options(TIMEOUT)
def command(
    path: Path,
    message: str,
    no_wait: bool,
    replace: bool,
    timeout: float,
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> None:
    """Put an app on the lattice, and wait until all of it is ready.

    FILE is a manifest, or a folder with an app.yaml. Ctrl-C stops the waiting, not the deployment.
    """
    place, wait = where(nats, lattice), not no_wait
    found = run_detachable(
        deploy(place, path, timeout=timeout, wait=wait, replace=replace, message=message, output=output)
    )
    output.answer(found, lines(found))


class Progress:
    """A line for each stage, with the time since the command began. A single JSON document leaves no room for them."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.begun = time.monotonic()

    def say(self, kind: str, name: str, text: str) -> None:
        if self.output.form == "json":
            return
        from trellis.show import folded, seconds, width

        elapsed = time.monotonic() - self.begun
        line, after = f"{kind:<10} {name:<24} {text}".rstrip(), seconds(elapsed)
        room = int(min(WIDTH, width())) - len(click.unstyle(line))
        stage = {"stage": kind, "name": name, "text": click.unstyle(text), "seconds": round(elapsed, 4)}
        whole = f"{line}{after:>{room}}" if room > len(after) else f"{line}  {after}"
        self.output.next(stage, "\n".join(folded(whole, " " * 4)))

    def line(self, line: Line) -> None:
        self.say(line.kind, line.name, "; ".join(line.text.splitlines()))


async def deploy(
    place: Where,
    path: Path,
    *,
    timeout: float = TIMEOUT,
    wait: bool = True,
    replace: bool = False,
    message: str = "",
    output: Output = TEXT,
    instead: Mapping[Path, Path] | None = None,
) -> dict[str, Any]:
    """Check, put, deploy, wait: what became of it. Raises Failure for whatever keeps it from being ready.

    `instead` names component files that others take the place of.
    """
    from trellis.carrying import carry
    from trellis.commands.check import examined_manifest
    from trellis.project import urls
    from trellis.published import verified
    from trellis.session import joined

    progress = Progress(output)
    examined = await examined_manifest(path, progress.say, fetch=True, instead=instead)
    checked = examined.checked
    show(*checked.findings)
    if checked.manifest is None or checked.data is None:
        raise Failure(USER_ERROR)
    manifest = checked.manifest
    async with joined(place) as lattice:
        await verified(lattice, examined)
        await carry(lattice, examined, progress.say)
        version, outcome = await put_and_await(
            lattice,
            examined,
            timeout=timeout,
            wait=wait,
            replace=replace,
            message=message,
            progress=progress,
        )
    if outcome is None:
        return {"app": manifest.name, "version": version, "state": "progressing"}
    progress.say("ready", manifest.name, "")
    return {
        "app": manifest.name,
        "version": version,
        "state": "ready",
        "seconds": round(outcome.seconds, 4),
        "first_instance": {name: round(s, 4) for name, s in outcome.first.items()},
        "urls": urls(manifest),
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What became of it, for people; the last line says what to do next."""
    from trellis.show import seconds

    if found["state"] == "ready":
        yield f"{found['app']} {found['version']} is ready after {seconds(found['seconds'])}"
        yield f"next: {' '.join(['curl', *found['urls'][:1]]) if found['urls'] else 'trellis status'}"


async def put_and_await(
    lattice: Lattice,
    examined: Examined,
    *,
    timeout: float,
    wait: bool = True,
    replace: bool = False,
    message: str = "",
    progress: Progress,
) -> tuple[str, Outcome | None]:
    """Hand a manifest without errors to the manager, and wait for it: its version, and how waiting ended.

    Raises Failure when there is no manager, when it refuses, or when the app is not ready within `timeout` seconds.
    """
    from trellis.planner import granted_by_wadm, managed
    from trellis.waiting import until_deployed

    checked = examined.checked
    assert checked.manifest is not None and checked.data is not None
    manifest = checked.manifest
    with managed(lattice) as planner:
        data = pinned(checked.data, examined)
        version, how = await _put(planner, manifest.name, manifest.version, data, replace)
        granted_by_wadm(await planner.deploy(manifest.name, version, message))
        progress.say("accepted", manifest.name, f"{version} {how}".strip())
        if not wait:
            return version, None
        outcome = await until_deployed(planner, manifest.name, version, data, timeout, progress.line)
    if outcome.end != "ready" or outcome.app is None:
        raise unready(manifest.name, outcome, timeout, _place(checked.document, outcome))
    return version, outcome


def pinned(data: Mapping[str, Any], examined: Examined) -> dict[str, Any]:
    """The manifest with the digest behind each component's file or reference.

    A rebuilt file is another component, although its path is the same, and so is what a tag means tomorrow: this is how
    hosts and manager can tell.
    """
    copy: dict[str, Any] = json.loads(json.dumps(data))
    for component in copy["spec"]["components"]:
        image = examined.images.get(component["name"])
        if image is not None:
            component["properties"]["image"] = image
    return copy


async def _put(
    planner: Planner, app: str, version: str | None, data: Mapping[str, Any], replace: bool
) -> tuple[str, str]:
    """Store the manifest under its version: (version, what to say about it)."""
    from trellis.planner import granted_by_wadm

    if version is None:
        latest = await planner.get(app)
        if latest["result"] == "success" and _same(latest["manifest"], data):
            return str(latest["manifest"]["metadata"]["annotations"]["version"]), "unchanged"
        return str(granted_by_wadm(await planner.put(data))["current_version"]), ""
    known = await planner.get(app, version)
    if known["result"] != "success":
        return str(granted_by_wadm(await planner.put(data))["current_version"]), ""
    if _same(known["manifest"], data):
        return version, "unchanged"
    if not replace:
        raise failure(
            "TRL-APP-004",
            f"version {version} of `{app}` is stored already, with other content",
            why=_difference(known["manifest"], data),
            fix="give the manifest another `version`, or take its place with  trellis deploy --replace",
        )
    # a version cannot be overwritten; another one bridges the gap, so that nothing stops meanwhile
    bridge = str(granted_by_wadm(await planner.put(_unversioned(data)))["current_version"])
    granted_by_wadm(await planner.deploy(app, bridge))
    granted_by_wadm(await planner.delete(app, version))
    granted_by_wadm(await planner.put(data))
    granted_by_wadm(await planner.deploy(app, version))
    granted_by_wadm(await planner.delete(app, bridge))
    return version, "replaced"


def _unversioned(data: Mapping[str, Any]) -> dict[str, Any]:
    annotations = data["metadata"].get("annotations") or {}
    kept = {key: value for key, value in annotations.items() if key != "version"}
    return {**data, "metadata": {**data["metadata"], "annotations": kept}}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """But for the version."""
    return _unversioned(one) == _unversioned(other)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The names of what differs."""
    before = {c["name"]: c for c in old["spec"]["components"]}
    after = {c["name"]: c for c in new["spec"]["components"]}
    changed = [name for name in after if name in before and before[name] != after[name]]
    rebuilt = [
        name
        for name in changed
        if {**before[name], "properties": None} == {**after[name], "properties": None}
        and PIN.sub("", before[name]["properties"].get("image", ""))
        == PIN.sub("", after[name]["properties"].get("image", ""))
    ]
    said = [f"`{name}` was built anew" for name in rebuilt]
    said += [f"`{name}` differs" for name in changed if name not in rebuilt]
    said += [f"`{name}` is new" for name in after if name not in before]
    said += [f"`{name}` is gone" for name in before if name not in after]
    return ", ".join(said)


def _place(document: Document | None, outcome: Outcome) -> Place | None:
    """Where the worst part of the application stands in its manifest."""
    from trellis.waiting import worst
    from wadm.places import Part, path_of

    found = worst(outcome.app) if outcome.app is not None else None
    if found is None or document is None:
        return None
    name, _, target = found.partition(" -> ")
    path = path_of(document.data, Part(name, target=target))
    return None if path is None else document.place(path)


def unready(app: str, outcome: Outcome, timeout: float, place: Place | None = None) -> Failure:
    """Why it is not ready, in the manager's words, and the next step. `place` is that of what is worst."""
    from lattice import Finding
    from trellis.show import indented
    from trellis.waiting import reasons

    word = outcome.app["state"] if outcome.app is not None else "unknown to the manager"
    known = reasons(outcome.app) if outcome.app is not None else []
    if outcome.end == "stuck":
        head = f"`{app}` is {word} and will stay so until somebody acts"
        code = known[0]["code"] if known else "TRL-APP-006"
    else:
        head, code = f"`{app}` is {word} after {timeout:g} s", "TRL-APP-007"
    fixes = [reason["fix"] for reason in known if reason["fix"]]
    return Failure(
        GATED if code in GATES else NOT_CONVERGED,
        Finding(
            code,
            head,
            place,
            why=indented("\n".join(reason["message"] for reason in known), "       "),
            fix="; ".join(dict.fromkeys(fixes)) or "to see more:  trellis status",
        ),
    )
