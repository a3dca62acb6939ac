"""The index of a corpus: the protocol, and its engines."""
