"""Find what is inside the package: the embedded model, the recipes, and the lists of held-out articles next to them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from importlib import resources
from pathlib import Path

SHIPPED = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")  # installed; in the repository


_unpacked: dict[tuple[str, str], tuple[Path, int]] = {}  # by package and name: the folder, and who made it
_lock = threading.Lock()


def folder_of_package(name: str, package: str = "dynamic_tinybert") -> Path:
    """Return a folder of files inside a package. If the package is in a zip file, they are unpacked until the end.

    Args:
        name: The folder in the package; "" for that of the package itself.
        package: The name of the package, which is imported.
    """
    there = resources.files(package)
    there = there / name if name else there
    if isinstance(there, Path):
        return there
    key = package, name
    with _lock:
        if key not in _unpacked:
            folder = Path(tempfile.mkdtemp(prefix="dynamic-tinybert-"))
            _unpacked[key] = folder, os.getpid()
            for file in there.iterdir():
                if file.is_file():
                    with file.open("rb") as source, (folder / file.name).open("wb") as copy:
                        shutil.copyfileobj(source, copy)
        return _unpacked[key][0]


def remove_unpacked() -> None:
    """Remove what this process has unpacked: at its end."""
    for folder, owner in _unpacked.values():
        if owner == os.getpid():
            shutil.rmtree(folder, ignore_errors=True)


atexit.register(remove_unpacked)


def find_list(path: Path) -> Path:
    """Return the path of a list of titles: `path` if it exists, otherwise the file of that name in the package."""
    if path.exists():
        return path
    return next((folder / path.name for folder in SHIPPED if (folder / path.name).is_file()), path)


def shipped_recipes() -> dict[str, Path]:
    """Return the paths of the recipes inside the package, by name."""
    return {file.stem: file for folder in SHIPPED for file in sorted(folder.glob("*.yaml"))}
