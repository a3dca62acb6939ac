"""The settings of a server, which are declared once for Python, the command, and Ray Serve."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from dynamic_tinybert.model import BudgetError
from dynamic_tinybert.serve import SETTINGS, ServeOptions, parse_keys


def test_settings_that_nobody_gives_are_the_defaults_of_python() -> None:
    assert ServeOptions.from_settings({}, indexes={}, api_keys=()) == ServeOptions()


def test_settings_as_people_write_them_become_options() -> None:
    settings = {
        "slo_ms": 0,
        "budget": "0.5",
        "min_budget": "fast",
        "allow_origin": ["https://a"],
        "allowed_host": ["a"],
    }
    options = ServeOptions.from_settings({**settings, "max_waiting": 7}, indexes={"docs": "a"}, api_keys=("key",))
    assert (options.slo_ms, options.budget, options.min_budget) == (None, 0.5, "fast")
    assert (options.allow_origins, options.allowed_hosts) == (("https://a",), ("a",))
    assert (options.max_waiting, options.max_questions) == (7, 7)
    assert (options.indexes, options.api_keys) == ({"docs": "a"}, ("key",))
    assert "key" not in repr(options)
    with pytest.raises(BudgetError, match="cheap"):
        ServeOptions.from_settings({"budget": "cheap"}, indexes={}, api_keys=())


def test_every_option_is_a_setting_with_a_help_text() -> None:
    assert all(setting.help for setting in SETTINGS.values())
    for option in fields(ServeOptions):
        assert f"{option.name}: {SETTINGS[option.metadata['name'] or option.name].help}" in (ServeOptions.__doc__ or "")


def test_keys_are_lines_without_comments() -> None:
    assert parse_keys("# ours\n one \n\ntwo\r\n") == ("one", "two")


def test_the_face_imports_nothing_that_serves() -> None:
    code = (
        "import sys\n"
        "from dynamic_tinybert.serve import SETTINGS, ServeOptions\n"
        "ServeOptions()\n"
        "assert not {'fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "origin",
    ["https://a.example/", "a.example", "https://a.example/x", "https://A.example", "https://*.a", "https://a:", ""],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="allow-origin must be SCHEME://HOST"):
        ServeOptions.from_settings({"allow_origin": [origin]}, indexes={}, api_keys=())
    for good in ("https://a.example", "http://localhost:3000", "*", "null", "http://[::1]:80"):
        assert ServeOptions.from_settings({"allow_origin": [good]}, indexes={}, api_keys=()).allow_origins == (good,)
