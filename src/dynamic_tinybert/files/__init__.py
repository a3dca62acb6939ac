"""Write files atomically, decode text, read JSON Lines, and find the files inside the package."""

from dynamic_tinybert.files.atomic import write_whole
from dynamic_tinybert.files.jsonl import LineError, parse_object, split_lines
from dynamic_tinybert.files.shipped import SHIPPED, find_list, shipped_recipes
from dynamic_tinybert.files.text import SURROGATE, NoTextError, UndecodableError, encodable, text_blocks

__all__ = [
    "SHIPPED",
    "SURROGATE",
    "LineError",
    "NoTextError",
    "UndecodableError",
    "encodable",
    "find_list",
    "parse_object",
    "shipped_recipes",
    "split_lines",
    "text_blocks",
    "write_whole",
]
