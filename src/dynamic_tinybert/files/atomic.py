"""Write files atomically: after a kill or with a full disk, the file is the old one or the complete new one."""

from __future__ import annotations

import secrets
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: write a hidden file in the same folder, then rename it.

    Raises:
        OSError: The file cannot be written; the error names `path`.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        draft.unlink(missing_ok=True)
