"""Verbs as a person meets them at a terminal, and the exit codes that scripts meet."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from pseudo_terminal import CTRL_C, terminal
from shell import SHOP, Shell, shell_on

from trellis.cli import cli
from trellis.live.terminal import for_people
from trellis.show import columns

pytestmark = pytest.mark.nats

NOWHERE = SHOP.replace("{instances: 2}", "{instances: 2, spread: [{name: ap, requirements: {zone: ap}}]}")
PAUSED = SHOP.replace("{version: v1}", '{version: v2, rollout.trellis.dev/pause: "true"}').replace("img:1", "img:2")


@pytest.fixture
async def shell(tmp_path: Path, nats_url: str, lattice_name: str) -> AsyncIterator[Shell]:
    async with shell_on(tmp_path, nats_url, lattice_name) as shell:
        yield shell


async def run(shell: Shell, *arguments: str) -> Result:
    """In this process, which costs less."""
    invoke = functools.partial(CliRunner().invoke, cli, arguments, env=shell.environment)
    return await asyncio.wait_for(asyncio.to_thread(invoke), 60)


async def test_a_deploy_that_waits_is_let_go_with_ctrl_c_and_says_how_to_look_again(shell: Shell):
    for host in shell.hosts:
        host.endless.add("img:1")
    async with terminal("deploy", folder=shell.folder, environment=shell.place) as shown:
        await shown.sees(r"^accepted +shop +v1")
        await shown.sees(r"^provider +kv")
        shown.types(CTRL_C)
        assert await shown.ends() == 130
        assert "detached: the manager goes on. next: trellis status -w" in shown.screen
        assert "Traceback" not in shown.shown
    assert (await shell.json("status"))["apps"][0]["state"] == "progressing"


async def test_a_watched_status_follows_and_ends_with_ctrl_c(shell: Shell):
    await run(shell, "deploy", str(shell.folder), "--no-wait")
    async with terminal("status", "-w", folder=shell.folder, environment=shell.place) as shown:
        await shown.sees(r"^shop v1 +ready")
        assert "\x1b[32mready\x1b[0m" in shown.shown, "states have colours at a terminal"
        assert (await run(shell, "scale", "api=4", "--no-wait")).exit_code == 0
        await shown.sees(r"api +ready +4/4 .*override")
        assert shown.screen.count("lattice ") == 1, "what was shown before has been cleared away"
        shown.types(CTRL_C)
        assert await shown.ends() == 130
        assert "Traceback" not in shown.shown


async def test_no_line_is_wider_than_a_narrow_terminal(shell: Shell):
    assert (await run(shell, "deploy", str(shell.folder))).exit_code == 0
    narrow = {**shell.place, "NO_COLOR": "1"}
    async with terminal("status", folder=shell.folder, environment=narrow, columns=40) as shown:
        assert await shown.ends() == 0
    assert "\x1b[" not in shown.shown, "NO_COLOR counts at a terminal, too"
    table = shown.screen.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) > 3 and max(len(line) for line in table) <= 40, table
    assert " ".join(shown.screen.split()).count("(answered by builtin:keyvalue-nats)") == 1


async def test_a_build_server_gets_plain_lines_even_at_a_terminal(shell: Shell):
    async with terminal("status", "-w", folder=shell.folder, environment={**shell.place, "CI": "1"}) as shown:
        await shown.sees("no apps")
        assert (await run(shell, "deploy", str(shell.folder), "--no-wait")).exit_code == 0
        await shown.sees(r"^shop v1 +ready")
        assert "\x1b[" not in shown.shown
        assert shown.screen.count("lattice ") > 1, "what was shown before is still there"
        shown.types(CTRL_C)
        assert await shown.ends() == 130


async def test_an_error_is_folded_between_words_and_keeps_its_commands_whole(tmp_path: Path):
    nowhere = ("status", "--nats", "nats://127.0.0.1:1")
    async with terminal(*nowhere, folder=tmp_path, environment={"NO_COLOR": "1"}, columns=60) as shown:
        assert await shown.ends() == 3
    lines = shown.screen.splitlines()
    assert max(map(len, lines)) <= 60, lines
    assert lines[-2:] == [
        "  fix: start a lattice here with  trellis up",
        "       or name a server with  --nats nats://HOST:PORT",
    ]


async def test_the_time_of_a_stage_stands_at_the_end_of_its_line_at_a_narrow_terminal(shell: Shell):
    environment = {**shell.place, "NO_COLOR": "1"}
    async with terminal("deploy", folder=shell.folder, environment=environment, columns=80) as shown:
        assert await shown.ends() == 0
    accepted = re.search(r"^accepted .*s$", shown.screen, re.MULTILINE)
    assert accepted is not None and len(accepted[0]) == 80, shown.screen


async def test_a_mistyped_verb_is_answered_in_colour(tmp_path: Path):
    async with terminal("depoly", folder=tmp_path) as shown:
        assert await shown.ends() == 1
    assert "did you mean `deploy`?" in shown.screen and "\x1b[31m" in shown.shown


def test_a_row_without_a_terminal_is_never_folded():
    row = ["name", click.style("word " * 60, fg="red")]
    assert len(columns([row])) == 1


async def test_each_exit_code_has_its_meaning(shell: Shell):
    app = str(shell.folder)
    assert (await run(shell, "status", "--exit-code")).exit_code == 0, "nothing is deployed that could be unwell"
    assert (await run(shell, "deploy", app)).exit_code == 0
    shell.write(PAUSED)
    gate = await run(shell, "deploy", app)
    assert (gate.exit_code, "TRL-RUN-003" in gate.stderr) == (5, True), gate.output
    assert (await run(shell, "status", "--exit-code")).exit_code == 2
    assert (await run(shell, "status")).exit_code == 0
    assert (await run(shell, "rollback", "v1", "--yes", "-a", "shop")).exit_code == 0
    assert (await run(shell, "plan", app, "--exit-code")).exit_code == 4
    shell.write(NOWHERE.replace("v1", "v3"))
    blocked = await run(shell, "deploy", app)
    assert (blocked.exit_code, "TRL-PLC-001" in blocked.stderr) == (2, True), blocked.output
    assert (await run(shell, "undeploy", "nothing")).exit_code == 1
    slow = await run(shell, "status", "--timeout", "0.001")
    assert (slow.exit_code, "TRL-NET-007" in slow.stderr) == (3, True), slow.output
    unmanaged = await run(shell, "status", "--lattice", "nobody-is-here")
    assert (unmanaged.exit_code, "TRL-NET-002" in unmanaged.stderr) == (3, True)


async def test_the_stages_of_a_deploy_are_objects_for_programs(shell: Shell):
    said = await run(shell, "deploy", str(shell.folder), "-o", "ndjson")
    *stages, last = [json.loads(line) for line in said.stdout.splitlines()]
    assert {"checked", "accepted", "component", "ready"} <= {stage["stage"] for stage in stages}
    assert last["state"] == "ready" and last["version"] == "v1"


def test_keys_are_left_alone_at_a_terminal_that_is_not_this_process_own(monkeypatch: pytest.MonkeyPatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as somebody_elses:
        monkeypatch.setattr(sys, "stdin", somebody_elses)
        monkeypatch.setattr(sys, "stdout", somebody_elses)
        assert not for_people()
    os.close(ours)
