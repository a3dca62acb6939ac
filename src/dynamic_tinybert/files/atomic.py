"""Write files atomically: after a kill or with a full disk, the file is the old one or the complete new one."""

from __future__ import annotations

import contextlib
import errno
import secrets
from pathlib import Path

_NOT_REPLACED = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: write a hidden file in the same folder, then rename it.

    A file that cannot be replaced is written in place: it is a mount point, or its folder is not writable.

    Raises:
        OSError: The file cannot be written; the error names `path`. A device, pipe or folder is never replaced.
    """
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        raise FileExistsError(errno.EEXIST, "is there and not a regular file", str(path))
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        if error.errno in _NOT_REPLACED and path.is_file():
            path.write_bytes(content)
        else:
            raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):  # of a folder that is read-only, even if there is no draft
            draft.unlink(missing_ok=True)
