"""Files: writing them whole, text from bytes, the files that ship with the package."""
