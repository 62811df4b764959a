"""Python as a capability: knows the lattice, not Wasm."""
