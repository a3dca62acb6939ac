"""How much of the machine this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def processors() -> int:
    """Return how many processors this process may use: by its affinity, and by the limits of its control groups.

    A container with `--cpus 1.5` on a machine of 64 cores may use 2.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _quota(_CGROUPS, _OWN))))


def _quota(root: Path, own: Path) -> float:
    """Return the processors that the control groups allow; infinite without a limit."""
    try:
        lines = own.read_text("utf-8", "replace").splitlines()
    except OSError:  # no Linux
        return math.inf
    limits = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if controllers == "":  # version 2
            limits += [_limit(folder / "cpu.max", None) for folder in _upwards(root, path)]
        elif "cpu" in controllers.split(","):
            for mount in (root / controllers, root / "cpu"):
                limits += [
                    _limit(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
                    for folder in _upwards(mount, path)
                ]
    return min(limits)


def _upwards(root: Path, path: str) -> list[Path]:
    """Return a group and those that it is in, as this process sees them: in a container, only the root may be there."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _limit(quota: Path, period: Path | None) -> float:
    try:
        values = quota.read_text("ascii").split()
        if period is not None:
            values += period.read_text("ascii").split()
        used, of = float(values[0]), float(values[1])
    except (OSError, ValueError, IndexError):  # no such file, or "max"
        return math.inf
    return used / of if used > 0 and of > 0 else math.inf
