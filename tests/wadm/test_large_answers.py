"""Lattices about which more is to be told than fits into one message of the broker."""

from __future__ import annotations

import json

from simulated_lattice import component, manifest_text

from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from trellis.planner import Planner
from wadm import Manager

LIMIT = 4096


async def test_our_clients_get_a_large_status_whole_and_wadms_are_told_why_not() -> None:
    broker = MemoryBroker(max_payload=LIMIT)
    async with Lattice("default", broker.connect()) as lattice:
        async with Manager(Lattice("default", broker.connect()), discovery=0.05, tick=0.05):
            names = [f"app{n}" for n in range(30)]
            for name in names:
                body = manifest_text(name, [component("api", instances=4)]).encode()
                await lattice.transport.request("wadm.api.default.model.put", body, timeout=5)
            status = await Planner(lattice).status()
            assert [app["name"] for app in status["apps"]] == sorted(names)
            assert len(json.dumps(status)) > LIMIT
            listed = await lattice.transport.request("wadm.api.default.model.get", b"", timeout=5)
            answer = json.loads(listed.data)
            assert answer["result"] == "error" and "raise its max_payload" in answer["message"]
