"""SQL databases behind links: trellis:sql on SQLite, wasmcloud:postgres on PostgreSQL."""
