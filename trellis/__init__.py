"""The command line `trellis`, and what it needs."""
