"""Answers in JSON that are larger than one message of the broker.

Our own clients read them compressed: JSON cannot begin as zlib does. Others cannot, so they are told what is too small.
"""

from __future__ import annotations

import json
import zlib

_ZLIB = b"x"


def fit(answer: bytes, most: int, *, ours: bool) -> bytes:
    """`answer`, or what can be sent in its place in `most` bytes."""
    if len(answer) <= most:
        return answer
    packed = zlib.compress(answer)
    if ours and len(packed) <= most:
        return packed
    told = f"the answer has {len(answer)} bytes, and the broker takes {most} at most: raise its max_payload"
    return json.dumps({"success": False, "result": "error", "message": told}).encode()


def opened(data: bytes) -> bytes:
    """The answer that `fit` made `data` of. Raises ValueError."""
    try:
        return zlib.decompress(data) if data.startswith(_ZLIB) else data
    except zlib.error as error:
        raise ValueError(str(error)) from error
