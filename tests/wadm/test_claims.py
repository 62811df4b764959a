"""What two applications cannot both have."""

from __future__ import annotations

from simulated_lattice import SimLattice, component, manifest_text

from wadm.claims import clashes
from wadm.desired import Desired, desired_from, together
from wadm.manifest import Manifest
from wadm.reasons import State
from wadm.validate import check


def manifest(name: str, *components: str) -> Manifest:
    checked = check(manifest_text(name, components))
    assert checked.manifest is not None, "\n".join(f.render() for f in checked.findings)
    return checked.manifest


BASE = manifest("base", component("api"))


def user(name: str, url: str, *, link: str = "default") -> Desired:
    """An application that links the shared `api` of BASE to a store, with a configuration of its own."""
    shared = f"""    - name: api
      type: component
      properties: {{application: {{name: base, component: api}}}}
      traits:
        - type: link
          properties:
            target: {{name: kv, config: [{{name: where, properties: {{url: {url}}}}}]}}
            namespace: wasi
            package: keyvalue
            interfaces: [store]
            name: {link}"""
    text = manifest(name, shared, component("kv", kind="capability", image="p:1", id="kv"))
    return desired_from(text, shared={"base": BASE})


def without_store(part: Desired) -> Desired:
    return Desired(apps=part.apps, links=part.links, configs=part.configs, owners=part.owners)


def test_two_links_of_one_source_under_one_name_are_an_error_that_names_both():
    (said,) = clashes(without_store(user("b", "two")), [user("a", "one")])
    assert said.code == "TRL-LNK-002"
    assert "Application a links wasi:keyvalue/store of base-api" in said.message and "and b wants" in said.message


def test_links_of_different_names_do_not_clash():
    assert not list(clashes(without_store(user("b", "two", link="other")), [user("a", "one")]))


def test_one_link_with_two_configurations_is_not_fought_over():
    """Both have the same ends, so each put would overwrite the other's."""
    lattice = SimLattice()
    lattice.add("A")
    plan = lattice.settle(together([desired_from(BASE), user("a", "one"), without_store(user("b", "two"))]))
    assert plan.apps["a"].state is State.READY
    (link,) = plan.apps["b"].links
    assert link.state is State.BLOCKED and link.reason is not None
    assert "Application a" in link.reason.message and "b wants" in link.reason.message
