"""What `trellis up` is told of its hosts reaches them as it was said."""

from __future__ import annotations

import click
import pytest

from trellis.commands import host, up
from trellis.failures import Failure
from trellis.hosting import as_arguments, hosting_fields
from trellis.options import given

SAID = {
    "allow_latest": ["--allow-latest"],
    "insecure_registry": ["--insecure-registry", "127.0.0.1:5000", "--insecure-registry", "registry.test"],
    "directories": ["--allow-dir", "/tmp", "--allow-dir", "/var:rw"],
    "network": ["--allow-net", "db.test:5432"],
    "http": ["--allow-http", "api.test"],
    "config_dir": ["--config-dir", "/tmp"],
    "secrets_dir": ["--secrets-dir", "/tmp"],
    "limits": ["--limit", "memory=1Gi", "--limit", "time=5s"],
    "stack": ["--stack", "1Mi"],
    "policy_topic": ["--policy-topic", "judge"],
    "policy_timeout": ["--policy-timeout", "0.5"],
    "config_service": ["--config-service"],
}


OWN = set(hosting_fields.__annotations__)
"""The names of the options."""


def understood(command: click.Command, words: list[str]) -> tuple[dict[str, object], tuple[str, ...]]:
    """What `command` makes of the words, registries included, and how it passes them on."""
    with command.make_context("x", words) as context:
        own = {name: value for name, value in context.params.items() if name in OWN}
        kept = {name: value for name, value in given().items() if name in ("insecure_registry", "registry_ca")}
        return {**own, **kept}, as_arguments(own)


def test_every_option_of_up_for_hosts_is_understood_by_host_start_as_it_was_said():
    words = [word for some in SAID.values() for word in some]
    meant, passed = understood(up.command, words)
    assert understood(host.start, list(passed))[0] == meant
    usual = understood(host.start, [])[0]
    assert all(meant[name] != usual[name] for name in SAID), "none was lost on the way"


def test_a_slip_is_said_before_anything_starts():
    with pytest.raises(Failure, match="there is no limit `instances`"):
        up.command.main(["--limit", "instances=5"], standalone_mode=False)
