"""`python -m dynamic_tinybert`."""

from dynamic_tinybert.cli import main

main()
