"""Training data as in use: windows of whole articles, near distractors, questions as typed, text as extracted.

Each of the four is a share of a recipe's `data`, and 0 by default. What is drawn for a question depends on the seed,
the setting and the question's id alone: one setting does not change what another draws, and a greater share changes
the same questions as a smaller one, and more.
"""

from dynamic_tinybert.train.data.articles import Articles, check_article_lengths, place_window
from dynamic_tinybert.train.data.distractors import Distractors, beside
from dynamic_tinybert.train.data.draw import drawn
from dynamic_tinybert.train.data.layout import lay_out
from dynamic_tinybert.train.data.passage import Passage
from dynamic_tinybert.train.data.typed import as_typed

__all__ = [
    "Articles",
    "Distractors",
    "Passage",
    "as_typed",
    "beside",
    "check_article_lengths",
    "drawn",
    "lay_out",
    "place_window",
]
