"""What `deploy` says when a provider will not have a link as it was changed."""

from pathlib import Path

import pytest

import trellis
from trellis.failures import Failure

PROVIDER = """import asyncio
from lattice import BadInput, Finding
from providers import Provider, export

class Store(Provider):
    async def link_added(self, link):
        await asyncio.sleep(0.15)  # it takes a while to find out
        if link.config["size"] == "0":
            raise BadInput(Finding("TRL-PRV-008", "a store of size 0 holds nothing"))

    @export("demo:store/numbers#add")
    async def add(self, link, amount):
        return amount
"""

ACTOR = """(component (import "demo:store/numbers" (instance
  (export "add" (func (param "amount" u32) (result u32))))))"""

APP = """apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: sized
spec:
  components:
    - name: actor
      type: component
      properties:
        image: ./actor.wat
      traits:
        - type: link
          properties:
            target:
              name: store
              config:
                - name: size
                  properties: {size: "1"}
            namespace: demo
            package: store
            interfaces: [numbers]
    - name: store
      type: capability
      properties:
        image: ./store.py
"""


async def test_deploy_waits_for_the_providers_answer_to_a_changed_link(tmp_path: Path):
    (tmp_path / "store.py").write_text(PROVIDER)
    (tmp_path / "actor.wat").write_text(ACTOR)
    manifest = tmp_path / "app.yaml"
    manifest.write_text(APP)
    async with trellis.lattice() as lat:
        await lat.deploy(manifest)
        manifest.write_text(APP.replace('size: "1"', 'size: "0"'))
        with pytest.raises(Failure, match="a store of size 0 holds nothing"):
            await lat.deploy(manifest)
        manifest.write_text(APP.replace('size: "1"', 'size: "2"'))
        await lat.deploy(manifest)
