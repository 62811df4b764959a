"""What the lattice knows of a manifest's providers and configurations is held against it before anything starts."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import BaseModel, Field

from lattice import EntityId
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from providers import Link, Provider, export
from providers.description import describe, publish
from trellis.cli import cli

pytestmark = pytest.mark.nats

MANIFEST = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {name: sums}
spec:
  components:
    - name: loud
      type: capability
      properties: {image: "python:a_package_of_another_machine"}
    - name: asker
      type: component
      properties: {application: {name: elsewhere, component: asker}}
      traits:
        - type: link
          properties:
            target: {name: loud, config: CONFIG}
            namespace: demo
            package: math
            interfaces: [ops]
"""


class Volume(BaseModel):
    volume: int = Field(ge=0, le=10)


class Loud(Provider):
    link_config = Volume

    @export("demo:math/ops#add")
    async def add(self, link: Link[Volume], a: int, b: int) -> int:
        return a + b


@pytest.fixture
async def lattice(nats_url: str, lattice_name: str) -> AsyncIterator[Lattice]:
    async with Lattice(lattice_name, await connect(nats_url)) as joined:
        yield joined


@pytest.fixture
def checked(lattice: Lattice, nats_url: str, tmp_path: Path) -> Any:
    """What `check --on-lattice` says of a manifest whose link has this configuration."""
    environment = {**os.environ, "TRELLIS_NATS": nats_url, "TRELLIS_LATTICE": lattice.name}

    async def of(config: str, verb: tuple[str, ...] = ("check", "--on-lattice")) -> list[dict[str, Any]]:
        (tmp_path / "app.yaml").write_text(MANIFEST.replace("CONFIG", config))
        arguments = [*verb, str(tmp_path), "-o", "json"]
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=environment)
        if verb[0] == "check":
            return json.loads(done.stdout)["findings"]
        return [json.loads(line) for line in done.stderr.splitlines()]

    return of


async def test_a_provider_that_runs_elsewhere_says_what_its_links_may_hold(lattice: Lattice, checked: Any):
    link = "[{name: own, properties: {volume: 11}}]"
    [unloaded] = await checked(link)
    assert unloaded["code"] == "TRL-PRV-004", "nobody knows more"
    said = await publish(lattice, EntityId("sums-loud"), describe(Loud, "python:a_package_of_another_machine"))
    await lattice.transport.flush()
    _, wrong = await checked(link)
    assert (wrong["code"], wrong["level"]) == ("TRL-CFG-002", "error")
    assert wrong["message"] == (
        "link of `asker` to `loud`: \"volume\" input should be less than or equal to 10 (got '11')"
    )
    assert wrong["place"]["text"].strip().startswith("target: {name: loud, config: [{name: own")
    assert any(one["code"] == "TRL-CFG-002" for one in await checked(link, ("plan",))), "so says plan as well"
    await said.unsubscribe()


async def test_what_another_version_of_a_provider_says_is_a_warning(lattice: Lattice, checked: Any):
    await publish(lattice, EntityId("sums-loud"), describe(Loud, "python:an_older_one"))
    await lattice.transport.flush()
    _, doubtful = await checked("[{name: own, properties: {volume: 11}}]")
    assert (doubtful["code"], doubtful["level"]) == ("TRL-CFG-002", "warning")
    assert doubtful["why"] == "so says the one that runs, from python:an_older_one"


async def test_configurations_that_are_only_on_the_lattice_are_verified(lattice: Lattice, checked: Any):
    await publish(lattice, EntityId("sums-loud"), describe(Loud, "python:a_package_of_another_machine"))
    link = "[{name: shared-volume}]"
    _, missing = await checked(link)
    assert (missing["code"], missing["level"]) == ("TRL-CFG-001", "warning")
    bucket = await lattice.config_data()
    await bucket.put("shared-volume", b'{"volume": "quiet"}')
    _, wrong = await checked(link)
    assert wrong["message"].startswith('link of `asker` to `loud`: "volume" input should be a valid integer')
    assert wrong["place"]["text"].strip() == "target: {name: loud, config: [{name: shared-volume}]}"
    await bucket.put("shared-volume", b'{"volume": "3"}')
    assert [one["code"] for one in await checked(link)] == ["TRL-PRV-004"]
