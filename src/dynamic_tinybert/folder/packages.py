"""Models that are Python packages, as spaCy's are: an entry point gives each its name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from dynamic_tinybert.files import folder_of_package
from dynamic_tinybert.folder.errors import ModelFolderError

GROUP = "dynamic_tinybert.models"
"""The group of entry points. The name of each is a model's; its value is the package that is the model folder."""


OURS = ("dynamic-tinybert-6l",)
"""This project's own models, each a package in `models/` of its repository."""


def installed_models() -> dict[str, EntryPoint]:
    """Return the models that are installed as packages, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def find_package(name: str) -> Path | None:
    """Return the model folder of an installed model; None if no package has a model of this name.

    Raises:
        ModelFolderError: The package is broken.
    """
    point = installed_models().get(name)
    if point is None:
        return None
    try:
        return folder_of_package("", point.module)
    except Exception as error:  # the package's own code runs
        owner = point.dist.name if point.dist else point.module
        raise ModelFolderError(
            f"the package {owner} of the model {name} cannot be used ({error}): install it again"
        ) from None
