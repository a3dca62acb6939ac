"""How many processors a process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from dynamic_tinybert.files import machine, processors


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".", 1)).write_text(content)


@pytest.mark.parametrize(
    ("own", "groups", "quota"),
    [
        ("0::/\n", {"": {"cpu__max": "150000 100000\n"}}, 1.5),
        ("0::/\n", {"": {"cpu__max": "max 100000\n"}}, math.inf),
        ("0::/a/b\n", {"a": {"cpu__max": "50000 100000"}, "a/b": {"cpu__max": "max 100000"}}, 0.5),
        ("0::/a/b\n", {"a": {"cpu__max": "400000 100000"}, "a/b": {"cpu__max": "200000 100000"}}, 2.0),
        ("0::/../x\n", {"": {"cpu__max": "300000 100000"}}, 3.0),
        ("4:cpu,cpuacct:/x\n", {"cpu,cpuacct/x": {"cpu__cfs_quota_us": "250000", "cpu__cfs_period_us": "100000"}}, 2.5),
        ("4:cpu:/x\n", {"cpu": {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}}, math.inf),
        ("1:memory:/x\n", {"": {"cpu__max": "100000 100000"}}, math.inf),
        ("nonsense\n\n0::/\n", {"": {"cpu__max": "nonsense"}}, math.inf),
        ("0::/\n", {"": {"cpu__max": ""}}, math.inf),
    ],
)
def test_the_limits_of_control_groups(
    tmp_path: Path, own: str, groups: dict[str, dict[str, str]], quota: float
) -> None:
    (tmp_path / "own").write_text(own)
    for name, files in groups.items():
        group(tmp_path / "root" / name, **files)
    assert machine._quota(tmp_path / "root", tmp_path / "own") == quota


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert machine._quota(tmp_path, tmp_path / "none") == math.inf


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
def test_affinity_and_the_least_limit_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for quota, count in ((math.inf, 8), (1.5, 2), (0.1, 1), (64.0, 8)):
        monkeypatch.setattr(machine, "_quota", lambda *_, quota=quota: quota)
        assert processors() == count
