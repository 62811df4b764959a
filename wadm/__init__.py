"""The planner: wanted versus seen gives commands. Talks only to the lattice."""
