"""Sizes on the command line: `64Mi`, `2G`, or bytes."""

from __future__ import annotations

import re

import click

_SIZE = re.compile(r"(\d+)\s*([KMGT]?)i?B?", re.IGNORECASE)
_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def size(text: str) -> int:
    """Bytes, for use as an option's type; K, M, G and T are powers of 1024, however they are written."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"`{text}` is not a size; write 64Mi, 2G or a number of bytes")
    return int(match[1]) << _SHIFT[match[2].upper()]
