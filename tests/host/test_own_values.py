"""What configurations leave to the host is filled with what that host has for the purpose, and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host.configs import Configs
from host.own_values import OwnValues
from lattice import BadInput
from lattice.memory import MemoryBroker

ENVIRONMENT = {"TRELLIS_CONFIG_REDIS_HOST": "10.0.0.7", "TRELLIS_SECRET_KEY": "hush", "HOME": "/root"}


async def merged(own: OwnValues, **values: str) -> dict[str, str]:
    bucket = await MemoryBroker().connect().bucket("configs")
    await bucket.put("site", json.dumps(values).encode())
    return await Configs(bucket, own).merged(["site"])


async def test_values_come_from_the_environment_and_from_files(tmp_path: Path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "region").write_text("eu-3")
    own = OwnValues(tmp_path, ENVIRONMENT)
    assert await merged(own, url="redis://${env:redis-host}:6379/", where="${file:site/region}/${env:redis-host}") == {
        "url": "redis://10.0.0.7:6379/",
        "where": "eu-3/10.0.0.7",
    }


async def test_what_only_looks_like_a_reference_stays(tmp_path: Path):
    plain = {"price": "$5", "shell": "${HOME}", "open": "${env:"}
    assert await merged(OwnValues(tmp_path, ENVIRONMENT), **plain, meant="$${env:x}") == {**plain, "meant": "${env:x}"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("${env:home}", "it has no ${env:home}"),
        ("${env:SECRET_KEY}", "it has no ${env:SECRET_KEY}"),
        ("${file:absent}", "it has no ${file:absent}"),
        ("${file:../outside}", "`../outside` is not within that folder"),
        ("${file:/etc/hostname}", "`/etc/hostname` is not within that folder"),
    ],
)
async def test_nothing_else_of_the_host_is_within_reach(tmp_path: Path, value: str, said: str):
    (tmp_path / "own").mkdir()
    (tmp_path / "outside").write_text("hush")
    with pytest.raises(BadInput) as refused:
        await merged(OwnValues(tmp_path / "own", ENVIRONMENT), key=value)
    [finding] = refused.value.findings
    assert (finding.code, finding.message) == ("TRL-CFG-003", f'the value of "key" is left to the host: {said}')


async def test_a_host_without_such_a_folder_says_so():
    with pytest.raises(BadInput, match="no folder of configuration for .*--config-dir"):
        await merged(OwnValues(), key="${file:a}")
