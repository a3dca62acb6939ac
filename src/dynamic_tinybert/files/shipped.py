"""Where the recipes are that came with the package, and the lists of held-out articles beside them."""

from __future__ import annotations

from pathlib import Path

SHIPPED = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")  # installed; in the repository


def find_list(path: Path) -> Path:
    """Return a list of titles: the file, or where there is none, that of its name which came with the package."""
    if path.exists():
        return path
    return next((folder / path.name for folder in SHIPPED if (folder / path.name).is_file()), path)
