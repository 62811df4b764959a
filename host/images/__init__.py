"""Where components come from: files, the web, OCI registries, and the lattice's own store."""

from host.images.resolver import Images, ImageSettings, component_bytes, component_digest

__all__ = ["ImageSettings", "Images", "component_bytes", "component_digest"]
