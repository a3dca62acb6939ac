"""The release notes that a tag publishes are the changelog's section of that version."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHANGELOG = """# Changelog

Words before.

## 0.3.0 (unreleased)

Not yet.

## 0.2.0 (2027-01-31)

- Faster ([how](docs/speed.md#why),
  [paper](https://example.org/x)).
- Smaller.

### Fixed

- A [fault](#faults) in Grüße.

## 0.1.0 (2026-12-01)

The first.

## 0.0.9 (2026-11-01)
"""


@pytest.fixture(scope="module")
def release_notes():
    spec = importlib.util.spec_from_file_location("release_notes", ROOT / "scripts" / "release_notes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.release_notes


def test_the_section_of_a_version_and_no_other(release_notes):
    notes = release_notes(CHANGELOG, "0.2.0")
    assert notes.startswith("- Faster")
    assert notes.endswith("Grüße.")
    # GitHub shows each end of a line in a release.
    assert "why), [paper](https://example.org/x)).\n- Smaller.\n\n### Fixed\n\n- A" in notes
    assert release_notes(CHANGELOG, "0.1.0") == "The first."


def test_links_into_the_repository_get_its_address(release_notes):
    notes = release_notes(CHANGELOG, "0.2.0", "https://host/x/blob/v0.2.0/")
    assert "[how](https://host/x/blob/v0.2.0/docs/speed.md#why)" in notes
    assert "[paper](https://example.org/x)" in notes
    assert "[fault](https://host/x/blob/v0.2.0/CHANGELOG.md#faults)" in notes


@pytest.mark.parametrize(
    ("version", "error"),
    [("0.3.0", "no date for 0.3.0"), ("0.0.9", "says nothing"), ("1.0.0", "no section"), ("0.2", "no section")],
)
def test_what_cannot_be_released_is_refused_in_a_line(release_notes, version, error):
    with pytest.raises(SystemExit, match=error):
        release_notes(CHANGELOG, version)


def test_the_changelog_has_a_section_that_can_be_dated(release_notes):
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").replace("(unreleased)", "(2027-01-01)", 1)
    assert "first release" in release_notes(text, "0.1.0").lower()
