"""Print the release notes of a version: its section of CHANGELOG.md, with links that work outside of the repository."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_JOIN = re.compile(r"(?<=\S)\n[ \t]*(?![-*+#|>\s]|```|\d+\.)")
_LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]+)\)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The version's heading has its date: ## 0.2.0 (2027-01-31). One that says (unreleased) is refused.",
    )
    parser.add_argument("version", help="as 0.2.0, or its tag, v0.2.0")
    parser.add_argument("--url", metavar="URL", help="what relative links begin with, as https://.../blob/v0.2.0")
    args = parser.parse_args()
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    print(release_notes(text, args.version.removeprefix("v"), args.url))


def release_notes(changelog: str, version: str, url: str | None = None) -> str:
    """Return the section of a version, without its heading.

    Args:
        changelog: The text of CHANGELOG.md.
        version: The version, such as 0.2.0.
        url: What relative links begin with; by default they stay relative.

    Raises:
        SystemExit: There is no such section, it is empty, or its heading has no date.
    """
    headings = list(re.finditer(r"^## (\S+)(?: \((.*)\))?.*$", changelog, re.MULTILINE))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading[1] != version:
            continue
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[2] or ""):
            raise SystemExit(
                f"release_notes.py: CHANGELOG.md has no date for {version}: write ## {version} (YYYY-MM-DD)"
            )
        section = changelog[heading.end() : following.start() if following else None].strip()
        if not section:
            raise SystemExit(f"release_notes.py: CHANGELOG.md says nothing of {version}")
        section = _JOIN.sub(" ", section)  # GitHub shows each end of a line in a release
        return section if url is None else _LINK.sub(lambda link: f"]({_absolute(link[1], url)})", section)
    raise SystemExit(f"release_notes.py: CHANGELOG.md has no section of {version}")


def _absolute(link: str, url: str) -> str:
    return f"{url.rstrip('/')}/{'CHANGELOG.md' if link.startswith('#') else ''}{link}"


if __name__ == "__main__":
    main()
