"""HTTP into the lattice: a server whose requests become invocations of wasi:http/incoming-handler."""
