"""Image references of a manifest: which forms there are, and which files they mean.

`file:///abs/x.wasm`, a path (`./x.wasm`), `builtin:NAME`, `wasmcloud+builtin://NAME`, `oci://REF` and a bare OCI
reference. Hosts fetch them; a manifest only has to say what it means.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path as FilePath
from urllib.parse import unquote, urlsplit

from lattice.builtin import NAMES, image_name, name_in

_PIN = re.compile(r"[@#]sha256:[0-9a-f]{64}$")
_FILES = (".wasm", ".wat", ".py", ".par", ".par.gz")


def file_path(image: str) -> str | None:
    """The path that `image` means, relative or absolute, or None when it is not a file."""
    if image.startswith("file://"):
        rest = image.removeprefix("file://").removeprefix("localhost/") if image.startswith("file://l") else image[7:]
        return unquote(rest)
    if "://" in image or image.startswith("builtin:"):
        return None
    if image.startswith(("/", "./", "../", "~/")) or image in (".", "..") or image.endswith(_FILES):
        return image
    return None


def is_relative(image: str) -> bool:
    """A file whose place depends on where the manifest is."""
    path = file_path(image)
    return path is not None and not FilePath(path).is_absolute()


def absolute(image: str, base: FilePath) -> str:
    """`image` with a file's path made absolute (from `base`) as a file:// URI; anything else as it is."""
    path = file_path(image)
    if path is None:
        return image
    return (base / FilePath(path).expanduser()).resolve().as_uri()


def local_file(image: str) -> FilePath | None:
    """The file behind an absolute file:// URI."""
    if not image.startswith("file:///"):
        return None
    return FilePath(unquote(urlsplit(image).path))


def repository(image: str) -> str:
    """Where an image is, without the tag and the digest that say which one."""
    plain = _PIN.sub("", image.removeprefix("oci://"))
    if file_path(plain) is not None or _SCHEME.match(plain):
        return plain
    folder, slash, last = plain.rpartition("/")
    return folder + slash + last.partition(":")[0]


def answered_by(image: str) -> str | None:
    """Which of our own providers runs when this image is asked for, as `builtin:NAME`; None for any other image."""
    name = name_in(image)
    return f"builtin:{name}" if name in NAMES else None


def native_code(image: str) -> tuple[str, str, str]:
    """(message, why, fix) of a provider's image that is an archive."""
    return (
        f"`{image}` is an archive of native code, which hosts here do not run",
        "a provider here is Python: one of ours by name, or a class in a file or module",
        f"use builtin:NAME ({', '.join(NAMES)}), or file://PATH.py for your own",
    )


def native_problem(image: str) -> tuple[str, str] | None:
    """(message, level) when `image`, a provider's, is an archive of native code, which no host of ours runs."""
    if answered_by(image) is not None:
        return None
    path = file_path(image)
    if path is not None and path.partition("#")[0].endswith((".par", ".par.gz")):
        return native_code(image)[0], "error"
    wasmclouds = image_name(image)
    if wasmclouds is not None:
        return f"no provider here answers wasmCloud's `{wasmclouds}`", "error"
    if image.startswith("oci://") or (path is None and "/" in image and _SCHEME.match(image) is None):
        return f"`{image}` is an archive of native code, if it is a provider; hosts here do not run those", "warning"
    return None


_SCHEME = re.compile(r"^[a-z][a-z0-9+]*:(?!\d)")
"""`python:`, `builtin:`, `file:`; not the port in `localhost:5000/x`."""


def builtin_problem(image: str, kind: str) -> tuple[str, str, str] | None:
    """(message, hint, level) when `image` cannot be the image of a `kind`, or None."""
    if not image.strip():
        return "the image is empty", "", "error"
    if image != image.strip() or any(c.isspace() for c in image):
        return f"image `{image}` has spaces in it", "", "error"
    for scheme in ("builtin:", "wasmcloud+builtin://"):
        if not image.startswith(scheme):
            continue
        name = image.removeprefix(scheme)
        if kind in ("component", "actor"):
            return f"`{image}` is a provider, not a Wasm component", "type: capability", "error"
        close = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.75)
        if not name:
            return f"`{image}` names no provider", f"such as builtin:{NAMES[0]}", "error"
        if name not in NAMES and close:
            return f"`{name}` is not a provider that hosts are known to have", f"did you mean `{close[0]}`?", "warning"
    return None
