"""The command line. Each command parses its options, calls the library and prints the result."""

from dynamic_tinybert.cli.app import main

__all__ = ["main"]
