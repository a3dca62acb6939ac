"""Nothing is sent, and nothing is written outside the folders that a user names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import time
{before}
from dynamic_tinybert import QuestionAnswerer
qa = QuestionAnswerer(threads=1)
begun = time.monotonic()
while time.monotonic() < begun + {seconds}:
    assert qa("Where is the tower?", "The tower stands in Paris.").text == "Paris"
    time.sleep(0.5)
"""


def without_ci(home: Path) -> dict[str, str]:
    """An environment as a user has it: where `CI` is set, ONNX Runtime reports nothing by itself."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG", "VIRTUAL_ENV")}
    return {**kept, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.slow
def test_a_session_makes_no_network_call_and_writes_nothing(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    (tmp_path / "home").mkdir()
    log = tmp_path / "log"
    program = [sys.executable, "-c", ASK.format(before="", seconds=20)]  # its events are sent after ten seconds
    traced = "trace=%network,openat,open,creat,mkdir,mkdirat,rename,renameat2,unlink,unlinkat"
    command = [strace, "-f", "-qq", "--seccomp-bpf", "-o", str(log), "-e", traced, *program]
    result = subprocess.run(command, env=without_ci(tmp_path / "home"), capture_output=True, text=True, check=False)
    if "ptrace" in result.stderr:
        pytest.skip("processes cannot be traced here")
    assert result.returncode == 0, result.stderr
    calls = log.read_text("utf-8", "replace").splitlines()
    assert any("dynamic_tinybert" in call for call in calls)  # so the log is of the session
    sent = [call for call in calls if re.search(r"AF_INET|\bconnect\(|\bsendto\(", call) and "AF_UNIX" not in call]
    assert sent == []
    allowed = re.compile(r'"/(?:dev/(?:null|shm)|proc/)')
    wrote = [
        call for call in calls
        if re.search(r"O_CREAT|O_WRONLY|O_RDWR|\b(?:creat|mkdir|rename|unlink)", call) and not allowed.search(call)
    ]  # fmt: skip
    assert wrote == []
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(
    "door", ["import dynamic_tinybert", "import dynamic_tinybert.cli", "import dynamic_tinybert.serve"]
)
def test_it_is_off_before_onnx_runtime_is_loaded(door: str, tmp_path: Path) -> None:
    program = (
        f"{door}; import os, sys; assert 'onnxruntime' not in sys.modules; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=without_ci(tmp_path), capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"


def test_what_the_user_says_stays(tmp_path: Path) -> None:
    program = "import dynamic_tinybert, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    env = {**without_ci(tmp_path), "ORT_DISABLE_TELEMETRY": "0"}
    found = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "0"
