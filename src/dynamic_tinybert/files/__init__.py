"""What all rooms need of the system: files written atomically, text, JSON Lines, files of the package, processors."""

from dynamic_tinybert.files.atomic import write_whole
from dynamic_tinybert.files.installed import extra, install_command, install_model_command, missing
from dynamic_tinybert.files.jsonl import LineError, parse_object, split_lines
from dynamic_tinybert.files.machine import processors
from dynamic_tinybert.files.native import native_call, told_once
from dynamic_tinybert.files.shipped import SHIPPED, find_list, folder_of_package, remove_unpacked, shipped_recipes
from dynamic_tinybert.files.text import SURROGATE, NoTextError, UndecodableError, decode_text, encodable, text_blocks

__all__ = [
    "SHIPPED",
    "SURROGATE",
    "LineError",
    "NoTextError",
    "UndecodableError",
    "decode_text",
    "encodable",
    "extra",
    "find_list",
    "folder_of_package",
    "install_command",
    "install_model_command",
    "missing",
    "native_call",
    "parse_object",
    "processors",
    "remove_unpacked",
    "shipped_recipes",
    "split_lines",
    "text_blocks",
    "told_once",
    "write_whole",
]
