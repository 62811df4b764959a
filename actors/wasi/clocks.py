"""wasi:clocks. Guests live in UTC."""

from __future__ import annotations

import time

from actors.guest import Guest
from actors.host_api import serves
from actors.wasi.io import Pollable, timer
from lattice import Value

NANOSECONDS = 10**9
MOST_U64 = 2**64 - 1


def _datetime(nanoseconds: int) -> dict[str, int]:
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return {"seconds": seconds, "nanoseconds": rest}


def _tick(resolution: float) -> int:
    return max(1, round(resolution * NANOSECONDS))


_MONOTONIC = _tick(time.get_clock_info("monotonic").resolution)
_WALL = _datetime(_tick(time.get_clock_info("time").resolution))


@serves("wasi:clocks/monotonic-clock")
class MonotonicClock:
    @staticmethod
    def now(guest: Guest) -> int:
        return time.monotonic_ns()

    @staticmethod
    def resolution(guest: Guest) -> int:
        return _MONOTONIC

    @staticmethod
    def subscribe_instant(guest: Guest, when: int) -> Pollable:
        return timer(when)

    @staticmethod
    def subscribe_duration(guest: Guest, when: int) -> Pollable:
        return timer(min(time.monotonic_ns() + when, MOST_U64))


@serves("wasi:clocks/wall-clock")
class WallClock:
    @staticmethod
    def now(guest: Guest) -> Value:
        return _datetime(time.time_ns())

    @staticmethod
    def resolution(guest: Guest) -> Value:
        return _WALL


@serves("wasi:clocks/timezone")
class Timezone:
    @staticmethod
    def display(guest: Guest, when: Value) -> Value:
        return {"utc-offset": 0, "name": "UTC", "in-daylight-saving-time": False}

    @staticmethod
    def utc_offset(guest: Guest, when: Value) -> int:
        return 0
