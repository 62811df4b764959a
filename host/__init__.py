"""A process that keeps promises: composes actors and providers on the lattice."""
