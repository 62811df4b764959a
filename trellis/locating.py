"""Where in the manifest here stands what the manager speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellis.project import manifest_in
from trellis.show import relative
from wadm.places import Part, component_of, path_of
from wadm.validate import Checked, check


@dataclass(frozen=True, slots=True)
class Locator:
    """A manifest's text, and the manifest that is deployed: a line is only told where both say the same."""

    file: Path
    checked: Checked
    deployed: Mapping[str, Any]

    def place(self, part: Part) -> str:
        """`app.yaml:21`; "" when the part is not there, or not as it is deployed."""
        path = path_of(self.checked.data, part)
        if path is None or self.checked.document is None:
            return ""
        name = part.component
        if name and component_of(self.checked.data, name) != component_of(self.deployed, name):
            return ""
        return f"{relative(self.file)}:{self.checked.document.place(path).line}"


def locator(app: str, deployed: Mapping[str, Any], folder: Path) -> Locator | None:
    """Of the manifest in `folder`; None when there is none that can be used, or it is another application's."""
    file = manifest_in(folder)
    if file is None:
        return None
    try:
        checked = check(file.read_text(encoding="utf-8"), str(file))
    except (OSError, ValueError):
        return None
    return Locator(file, checked, deployed) if checked.manifest is not None and checked.manifest.name == app else None
