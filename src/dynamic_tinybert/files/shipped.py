"""Find the recipes inside the package, and the lists of held-out articles next to them."""

from __future__ import annotations

from pathlib import Path

SHIPPED = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")  # installed; in the repository


def find_list(path: Path) -> Path:
    """Return the path of a list of titles: `path` if it exists, otherwise the file of that name in the package."""
    if path.exists():
        return path
    return next((folder / path.name for folder in SHIPPED if (folder / path.name).is_file()), path)


def shipped_recipes() -> dict[str, Path]:
    """Return the paths of the recipes inside the package, by name."""
    return {file.stem: file for folder in SHIPPED for file in sorted(folder.glob("*.yaml"))}
