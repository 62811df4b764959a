"""One component, run well: knows Wasm, not the network."""
