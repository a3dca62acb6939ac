"""Make training data realistic: windows of whole articles, near distractors, questions as typed, text as extracted.

A recipe's `data` sets a share for each of the four, 0 by default. A draw depends only on the seed, the setting and the
question's id: settings do not change each other's draws, and a larger share changes the same questions as a smaller
one, and others too. And find answers that the text writes a little differently.
"""

from dynamic_tinybert.train.data.articles import Articles, check_article_lengths, place_window
from dynamic_tinybert.train.data.distractors import Distractors, beside
from dynamic_tinybert.train.data.draw import drawn
from dynamic_tinybert.train.data.layout import lay_out
from dynamic_tinybert.train.data.matching import find_loosely
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
    "find_loosely",
    "lay_out",
    "place_window",
]
