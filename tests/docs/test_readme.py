"""What the README says beside its code, which test_documents runs."""

from __future__ import annotations

import re
from pathlib import Path

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.model import parse_budget

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/**/*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_a_budget_buys_what_the_table_says(qa: QuestionAnswerer) -> None:
    rows = re.findall(r"^\| `([^|]*)` \| ([a-z]+(?:-[\d.]+)?) \| ([\d.]+) \|", README, re.MULTILINE)
    assert len(rows) > 4
    for budgets, name, share in rows:
        for budget in budgets.split("` or `"):
            choice = qa.table.select(qa.shape, parse_budget(budget))
            assert choice.name == name
            assert round(choice.share, 2) == float(share)
