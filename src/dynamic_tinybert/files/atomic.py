"""Writing files, so that a kill or a full disk leaves the old one or the new one, never half of either."""

from __future__ import annotations

import secrets
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a hidden name beside its place, and then put it there.

    Raises:
        OSError: It cannot be written; the error names `path`.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        draft.unlink(missing_ok=True)
