"""How long calls took: counted in buckets, which add up over hosts and subtract over time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

BOUNDS = (
    *(0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"""The upper end of each bucket but the last, in seconds."""

ENDS = (*map(str, BOUNDS), "+Inf")
"""The same of all buckets, as Prometheus writes it."""


class Histogram:
    """`counts` has one more than BOUNDS: what took longer than all of them. `seconds` is the sum."""

    __slots__ = ("counts", "seconds")

    def __init__(self, counts: Sequence[int] = (), seconds: float = 0.0) -> None:
        """Raises ValueError for counts of other buckets."""
        self.counts = list(counts) or [0] * (len(BOUNDS) + 1)
        self.seconds = seconds
        if len(self.counts) != len(BOUNDS) + 1:
            raise ValueError(f"there are {len(BOUNDS) + 1} buckets, not {len(self.counts)}")

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def up_to(self) -> list[tuple[str, int]]:
        """Of each bucket its end and the calls that took no longer, as Prometheus has them."""
        return [*zip(ENDS, accumulate(self.counts), strict=True)]

    @property
    def count(self) -> int:
        return sum(self.counts)

    def add(self, other: Histogram) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds

    def since(self, before: Histogram) -> Histogram:
        """What has been added to `before`."""
        added = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        return Histogram(added, self.seconds - before.seconds)

    def quantile(self, part: float) -> float | None:
        """What `part` (0 to 1) of all calls took at most, in seconds, as well as the buckets tell; None without calls.

        Of the last bucket, which has no end, its beginning.
        """
        left = part * self.count
        if not left:
            return None
        begin = 0.0
        for count, end in zip(self.counts, BOUNDS, strict=False):
            if count >= left:
                return begin + (end - begin) * left / count
            left -= count
            begin = end
        return begin
