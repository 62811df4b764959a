"""The manager knows the names of our providers without importing them; these are the names there are."""

import pytest

from lattice import BadInput
from lattice.builtin import ALIASES, NAMES
from providers.load import BUILTINS, builtin_name, resolve
from wadm import images


def test_the_manager_knows_every_provider_there_is_and_no_other():
    assert set(NAMES) == set(BUILTINS)
    assert set(ALIASES.values()) <= set(NAMES)


@pytest.mark.parametrize(
    "image",
    [
        *(f"builtin:{name}" for name in (*BUILTINS, *ALIASES)),
        *(f"wasmcloud+builtin://{name}" for name in BUILTINS),
        *(f"ghcr.io/wasmcloud/{name}:0.28.0" for name in BUILTINS),
        *(f"oci://ghcr.io/wasmcloud/{name}@sha256:0123" for name in BUILTINS),
        *("wasmcloud.azurecr.io/httpserver:0.17.0", "ghcr.io/wasmcloud/sqldb-unheard-of:1", "builtin:nothing"),
        *("ghcr.io/acme/http-server:1", "file:///p.py", "python:a.b:C", "./provider.py"),
    ],
)
def test_the_manager_says_of_an_image_what_a_host_will_do_with_it(image: str):
    try:
        name = builtin_name(image)
    except BadInput:
        name = None
    assert images.answered_by(image) == (None if name is None else f"builtin:{name}")


@pytest.mark.parametrize(
    "image", ["ghcr.io/acme/sensors:1", "oci://ghcr.io/acme/sensors:1", "ghcr.io/wasmcloud/other:2"]
)
def test_another_providers_archive_is_refused_with_a_sentence_that_says_what_it_is(image: str):
    with pytest.raises(BadInput) as refused:
        resolve(image)
    (finding,) = refused.value.findings
    assert image in finding.message and "an archive of native code, which hosts here do not run" in finding.why
