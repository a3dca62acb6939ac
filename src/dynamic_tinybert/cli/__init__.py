"""The command line: doors to the road. They parse, call and print."""

from dynamic_tinybert.cli.app import main

__all__ = ["main"]
