"""Make a checked manifest independent of where it lies: files become absolute `file://` references."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from lattice import Finding
from wadm.images import absolute, is_relative, local_file
from wadm.manifest import Manifest
from wadm.validate import Checked

NO_IMAGE = "TRL-MAN-029"


def resolve_images(
    checked: Checked, base: FilePath, *, must_exist: bool = True, instead: Mapping[FilePath, FilePath] | None = None
) -> Checked:
    """The same manifest with relative files resolved against `base`, the manifest's folder.

    `instead` names files that others take the place of. With `must_exist`, a file that is not there is an error finding
    (and the manifest is dropped).
    """
    if checked.manifest is None or checked.data is None or checked.document is None:
        return checked
    data: dict[str, Any] = json.loads(json.dumps(checked.data))
    missing: list[Finding] = []
    for index, component in enumerate(data["spec"]["components"]):
        properties = component["properties"]
        image = properties.get("image")
        if image is None:
            continue
        properties["image"] = absolute(image, base)
        file = local_file(properties["image"])
        if file is not None and instead and file in instead:
            file = instead[file]
            properties["image"] = file.as_uri()
        if must_exist and file is not None and not file.exists():
            place = checked.document.place(("spec", "components", index, "properties", "image"))
            missing.append(
                Finding(
                    NO_IMAGE,
                    f"no such file: {file}",
                    place,
                    why=f"`{component['name']}` would be started from it",
                    fix="build it:  trellis build",
                )
            )
    if missing:
        return replace(checked, manifest=None, data=None, findings=(*checked.findings, *missing))
    return replace(checked, manifest=Manifest.model_validate(data), data=data)


def relative_images(manifest: Manifest) -> Mapping[str, str]:
    """Component name -> image, of every image that only means something beside the manifest's file."""
    return {
        component.name: component.properties.image
        for component in manifest.spec.components
        if component.properties.image is not None and is_relative(component.properties.image)
    }
