"""Find what is inside the package: the embedded model, the recipes, and the lists of held-out articles next to them."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from importlib import resources
from pathlib import Path

SHIPPED = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")  # installed; in the repository


@functools.cache
def folder_of_package(name: str) -> Path:
    """Return a folder of files inside the package. If the package is in a zip file, they are unpacked until the end."""
    there = resources.files("dynamic_tinybert") / name
    if isinstance(there, Path):
        return there
    folder = Path(tempfile.mkdtemp(prefix="dynamic-tinybert-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in there.iterdir():
        if file.is_file():
            with file.open("rb") as source, (folder / file.name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    return folder


def find_list(path: Path) -> Path:
    """Return the path of a list of titles: `path` if it exists, otherwise the file of that name in the package."""
    if path.exists():
        return path
    return next((folder / path.name for folder in SHIPPED if (folder / path.name).is_file()), path)


def shipped_recipes() -> dict[str, Path]:
    """Return the paths of the recipes inside the package, by name."""
    return {file.stem: file for folder in SHIPPED for file in sorted(folder.glob("*.yaml"))}
