"""SQL databases behind links: trellis:sql on SQLite, wasmcloud:postgres on PostgreSQL."""

from pathlib import Path

WIT = Path(__file__).parents[2] / "actors" / "wit" / "deps"
"""The WIT that guests are built against. The providers' arguments and results are held against the same files."""
