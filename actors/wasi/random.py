"""wasi:random: from the operating system, or repeatable when the guest was given a seed."""

from __future__ import annotations

import os

from actors.guest import Guest
from actors.host_api import serves
from lattice import LimitExceeded

MOST = 1 << 20
"""Bytes that one call gives."""


def _bytes(guest: Guest, size: int) -> bytes:
    if size > MOST:
        raise LimitExceeded(
            f"wasi:random was asked for {size} bytes at once; {MOST} at most, ask in smaller pieces",
            limit="random-bytes",
        )
    return os.urandom(size) if guest.random is None else guest.random.randbytes(size)


def _u64(guest: Guest) -> int:
    return int.from_bytes(_bytes(guest, 8), "little")


@serves("wasi:random/random")
class Random:
    @staticmethod
    def get_random_bytes(guest: Guest, size: int) -> bytes:
        return _bytes(guest, size)

    @staticmethod
    def get_random_u64(guest: Guest) -> int:
        return _u64(guest)


@serves("wasi:random/insecure")
class Insecure:
    @staticmethod
    def get_insecure_random_bytes(guest: Guest, size: int) -> bytes:
        return _bytes(guest, size)

    @staticmethod
    def get_insecure_random_u64(guest: Guest) -> int:
        return _u64(guest)


@serves("wasi:random/insecure-seed")
class InsecureSeed:
    @staticmethod
    def insecure_seed(guest: Guest) -> tuple[int, int]:
        return _u64(guest), _u64(guest)
