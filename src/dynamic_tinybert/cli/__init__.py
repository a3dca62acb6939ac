"""The command line. Each command parses its options, calls the library and prints the result."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 failed, 2 misuse, 130 interrupted, while it is imported, too."""
    try:
        from dynamic_tinybert.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
