"""Doors for code that was written for others: the pipeline of transformers 5.2, and haystack's reader."""
