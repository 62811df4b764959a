"""An app whose requests go a long way: HTTP, a component, one on another host, a provider there."""

from __future__ import annotations

from pathlib import Path

from worlds import ASK, ASKER

from lattice import EntityId

__all__ = ["ASK", "SHOP_ASKER", "SHOP_STORE", "put_shop", "web"]

SHOP_ASKER, SHOP_STORE = EntityId("shop-asker"), EntityId("shop-store")

STORE = """
from providers import Link, Provider, export


class Store(Provider):
    @export("demo:math/ops#add")
    async def add(self, link: Link, a: int, b: int) -> int:
        return a + b
"""

MANIFEST = """apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {name: shop}
spec:
  components:
    - name: http
      type: capability
      properties: {image: builtin:http-server}
      traits:
        - type: spreadscaler
          properties: {instances: 1, spread: [{name: there, requirements: {zone: a}}]}
        - type: link
          properties:
            target: web
            namespace: wasi
            package: http
            interfaces: [incoming-handler]
            source_config: [{name: address, properties: {address: "127.0.0.1:PORT"}}]
    - name: web
      type: component
      properties: {image: ./web.wat}
      traits:
        - type: spreadscaler
          properties: {instances: 2, spread: [{name: there, requirements: {zone: a}}]}
        - type: link
          properties: {target: asker, namespace: demo, package: math, interfaces: [asks]}
    - name: asker
      type: component
      properties: {image: ./asker.wat}
      traits:
        - type: spreadscaler
          properties: {instances: 2, spread: [{name: there, requirements: {zone: b}}]}
        - type: link
          properties: {target: store, namespace: demo, package: math, interfaces: [ops]}
    - name: store
      type: capability
      properties: {image: ./store.py}
      traits:
        - type: spreadscaler
          properties: {instances: 1, spread: [{name: there, requirements: {zone: b}}]}
"""


def web() -> str:
    """The component of benchmarks/hello_http.wat, which asks `demo:math/asks` before it answers."""
    text = (Path(__file__).parents[1] / "benchmarks" / "hello_http.wat").read_text()
    for place, added in (
        (
            "  (core module $libc",
            '  (import "demo:math/asks@0.1.0" (instance $asks (export "ask" (func (param "n" u32) (result u32)))))\n'
            '  (core func $ask (canon lower (func $asks "ask")))\n',
        ),
        ('    (data (i32.const 1024) "Hello', '    (import "h" "ask" (func $ask (param i32) (result i32)))\n'),
        ("      (local.set $resp (call $rnew", "      (drop (call $ask (i32.const 1)))\n"),
        ('(export "fnew" (func $fnew)) (export "rnew"', '(export "ask" (func $ask)) '),
    ):
        assert text.count(place) == 1, place
        text = text.replace(place, added + place)
    return text


def put_shop(folder: Path, port: int) -> Path:
    """Its manifest, and what that names: `http` and `web` in zone a, `asker` and `store` in zone b."""
    (folder / "web.wat").write_text(web())
    (folder / "asker.wat").write_text(ASKER)
    (folder / "store.py").write_text(STORE)
    (folder / "app.yaml").write_text(MANIFEST.replace("PORT", str(port)))
    return folder / "app.yaml"
