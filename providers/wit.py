"""The WIT of the standard interfaces, for providers to hold arguments and results against.

An interface that passes resources has another form on the lattice, without them: that one is beside its provider.
"""

from pathlib import Path

GUESTS = Path(__file__).parents[1] / "actors" / "wit" / "deps"
"""What guests are built against: files, not code."""
