"""Convert the errors of tantivy, and of the system, to errors of one line that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from dynamic_tinybert.corpus.errors import CorpusError

_LOCK = ".tantivy-writer.lock"
_NO_FILES = ("Too many open files", "TooManyOpenFiles")
_FULL = ("writer was killed", "No space left", "Disk quota exceeded")
_FORBIDDEN = ("PermissionDenied", "Permission denied", "ReadOnlyFilesystem", "Read-only file system")
_NO_LOCKS = tuple(
    f"code: {getattr(errno, name)}," for name in ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP") if hasattr(errno, name)
)


def is_panic(error: BaseException) -> bool:
    """Return whether an error is a panic of Rust code, which is no `Exception`."""
    return type(error).__name__ == "PanicException"


def is_refused_lock(error: Exception) -> bool:
    """Return whether the engine could not make or use its lock file, or could not read its list of files."""
    why = str(error)
    return ("Failed to acquire Lockfile" in why or "managed.json" in why) and not any(mark in why for mark in _NO_FILES)


@contextlib.contextmanager
def translate_errors(directory: Path, engine: Path) -> Iterator[None]:
    """Convert the errors of tantivy and of the system to a `CorpusError` of one line."""
    try:
        yield
    except CorpusError:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        raise CorpusError(_message(error, directory, engine)) from None
    except BaseException as error:
        if not is_panic(error):
            raise
        raise CorpusError(damaged(directory, error)) from None


def damaged(directory: Path, why: object) -> str:
    """Return the message for a damaged index."""
    line = " ".join(str(why).split()) or type(why).__name__
    return (
        f"the index {directory} is damaged and cannot be used ({line:.200}): delete this folder, and make the index "
        "again with `dynamic-tinybert index add`"
    )


def _message(error: Exception, directory: Path, engine: Path) -> str:
    why = str(error)

    def says(marks: tuple[str, ...]) -> bool:
        return any(mark in why for mark in marks)

    if says(_NO_FILES):
        return (
            f"the index {directory} cannot be opened: this process has too many open files: close some, or raise the "
            "limit (ulimit -n), and try again"
        )
    if "LockBusy" in why and not _has_no_locks(engine):
        return f"another process is changing {directory}: wait until it has finished"
    if "LockBusy" in why or ("Lockfile" in why and says(_NO_LOCKS)):
        return (
            f"{directory} cannot be changed: its file system has no file locks (flock): keep the index on one that "
            "has them"
        )
    if says(_FULL):
        return (
            f"{directory} could not be written, and holds what was committed before: {_free(directory):,.0f} MB are "
            "free there"
        )
    if says(_FORBIDDEN):
        return f"{directory} cannot be used: this user may not read or write its files, or the file system is read-only"
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
        return damaged(directory, f"{error.filename}: {error.strerror}")
    if isinstance(error, OSError) and error.errno is not None:
        return f"{directory} cannot be used: {error.strerror or type(error).__name__}"
    return damaged(directory, error)


def _free(directory: Path) -> float:
    """Return the free space in megabytes."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(directory).free / 1e6
    return 0.0


def _has_no_locks(engine: Path) -> bool:
    """Return whether the file system has no file locks: the engine says "busy" for every failure of its lock."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        file = os.open(engine / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        os.close(file)
    return False  # the other process has just finished
