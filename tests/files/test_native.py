"""What is written to standard error while compiled code is called."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dynamic_tinybert.files import told_once


def test_standard_error_of_a_call_that_succeeds_comes_whole(capfd: pytest.CaptureFixture[str]) -> None:
    with told_once():
        os.write(2, b"from below\n")
        with told_once():
            os.write(2, "Été 東京 ".encode() * 20_000)
    assert capfd.readouterr().err == "from below\n" + "Été 東京 " * 20_000


def test_standard_error_of_a_call_that_fails_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    def panic() -> None:
        with told_once():
            os.write(2, b"thread panicked\n")
            raise ValueError("told once")

    with pytest.raises(ValueError, match="told once"):
        panic()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_a_closed_standard_error_is_no_obstacle() -> None:
    code = "import os\nos.close(2)\nfrom dynamic_tinybert.files import told_once\nwith told_once(): print('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")
