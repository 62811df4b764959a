"""An app while somebody works on it: what `trellis up` does when a file of it changes."""
