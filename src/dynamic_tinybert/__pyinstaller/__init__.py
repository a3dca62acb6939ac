"""Where PyInstaller finds its hook for this package."""

from __future__ import annotations

import os


def hook_dirs() -> list[str]:
    """Return the folder of the hook."""
    return [os.path.dirname(__file__)]
