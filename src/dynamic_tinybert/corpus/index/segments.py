"""Check the files of an index in tantivy before the engine maps them into memory.

A segment file never changes after it was written. It ends with a footer: JSON with the CRC32 of the content, the length
of this JSON, and a magic number. The engine does not compare the checksum: with a flipped bit it may panic, or return
other scores. `meta.json` has no checksum, so its numbers are compared with those in the segment files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

META = "meta.json"
_SUFFIXES = ("term", "idx", "pos", "fast", "fieldnorm", "store")
_MAGIC = 1337
_LAYOUT = 7  # the version of the engine's format whose counts of documents are known here
_TEXT_FIELDS = 5  # of the schema: each has a byte per document in a .fieldnorm file
_LONGEST_FOOTER = 1 << 12  # bytes
_LONGEST_META = 1 << 26  # bytes
_BLOCK = 1 << 20  # bytes
_MOST_CHECKED = 1000  # files; with more, those of deleted indexes are forgotten
_SEGMENT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class DamagedError(ValueError):
    """A file of an index is not as the engine wrote it. The message says which and why."""


@dataclass(frozen=True)
class Segments:
    """The segments of a commit.

    Attributes:
        meta: The content of `meta.json`.
        files: The paths of the segment files, each with what tells it from another file or content of this path.
    """

    meta: bytes
    files: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Checked:
    """A file whose checksum was right, and what it says of the number of documents."""

    stamp: tuple[int, ...]
    counts: tuple[int, ...]


_checked: dict[str, _Checked] = {}  # by path, for all indexes of the process


def read_segments(engine: Path) -> Segments:
    """Read `meta.json` and check all files that it names. A file is read once in a process, unless it changes.

    Raises:
        DamagedError: A file is missing or damaged.
        OSError: A file cannot be read.
    """
    path = engine / META
    if not stat.S_ISREG(path.stat().st_mode):
        raise DamagedError(f"{META} is not a file")
    with path.open("rb") as file:
        content = file.read(_LONGEST_META)
    try:
        segments = [_names(segment) for segment in json.loads(content)["segments"]]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise DamagedError(f"{META} does not describe segments") from None
    files: dict[str, tuple[int, ...]] = {}
    for most, deleted, names in segments:
        paths = [os.path.join(engine, name) for name in names]
        checked = [_check(path) for path in paths]
        counts = {name.rpartition(".")[2]: each.counts for name, each in zip(names, checked, strict=True)}
        if counts["fieldnorm"] not in ((), (most, 0)) or counts.get("del", ()) not in ((), (most, deleted)):
            raise DamagedError(f"{META} and {names[0].partition('.')[0]} have different numbers of documents")
        files |= {path: each.stamp for path, each in zip(paths, checked, strict=True)}
    if len(_checked) > _MOST_CHECKED:
        for old in [path for path in list(_checked) if not os.path.exists(path)]:
            _checked.pop(old, None)
    folder = os.path.join(engine, "")
    for old in {path for path in list(_checked) if path.startswith(folder)}.difference(files):
        _checked.pop(old, None)
    return Segments(content, files)


def have_changed(segments: Segments) -> bool:
    """Return whether a file has changed since it was checked, or is another one. A file that is gone is still mapped.

    Nothing may be read from the old mapping then: if the file was cut off, the system ends the process (SIGBUS), also
    when a whole file has taken its path meanwhile.

    Raises:
        OSError: A file cannot be looked at.
    """
    for path, stamp in segments.files.items():
        with contextlib.suppress(FileNotFoundError):
            if _stamp_of(os.stat(path)) != stamp:
                return True
    return False


def _names(segment: dict[str, Any]) -> tuple[int, int, list[str]]:
    """Return the documents, the deleted documents, and the names of the files of a segment."""
    id_, most, deletes = segment["segment_id"], segment["max_doc"], segment["deletes"]
    if not _SEGMENT.fullmatch(id_) or type(most) is not int:
        raise ValueError
    base = id_.replace("-", "")
    names = [f"{base}.{suffix}" for suffix in _SUFFIXES]
    if deletes is None:
        return most, 0, names
    return most, int(deletes["num_deleted_docs"]), [*names, f"{base}.{int(deletes['opstamp'])}.del"]


def _stamp_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _check(path: str) -> _Checked:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise DamagedError(f"{os.path.basename(path)} is missing") from None
    stamp = _stamp_of(status)
    known = _checked.get(path)
    if known is None or known.stamp != stamp:
        if not stat.S_ISREG(status.st_mode):
            raise DamagedError(f"{os.path.basename(path)} is not a file")
        known = _checked[path] = _Checked(stamp, _counts(path, status.st_size))
    return known


def _counts(path: str, size: int) -> tuple[int, ...]:
    """Compare the checksum of a file, and return the numbers of documents in it; of most kinds of files, none."""
    name = os.path.basename(path)
    with open(path, "rb", buffering=0) as file:
        tail = _tail(file, size, min(size, _LONGEST_FOOTER))
        length = int.from_bytes(tail[-8:-4], "little")
        if int.from_bytes(tail[-4:], "little") != _MAGIC or length + 8 > len(tail):
            raise DamagedError(f"{name} is cut off or overwritten")
        try:
            footer = json.loads(tail[-8 - length : -8])
            expected, layout = footer["crc"], footer["version"]["index_format_version"]
        except (KeyError, TypeError, ValueError):
            raise DamagedError(f"{name} is cut off or overwritten") from None
        end = size - length - 8
        found, left = _crc(file, end)
        if left or found != expected:
            raise DamagedError(f"the checksum of {name} is wrong")
        if layout != _LAYOUT:
            return ()
        if name.endswith(".fieldnorm"):
            inner = int.from_bytes(_tail(file, end, 4), "little")
            return divmod(end - 4 - inner, _TEXT_FIELDS)
        if name.endswith(".del"):
            bits = _tail(file, end, end)
            most = int.from_bytes(bits[:4], "little")
            return (most, most - int.from_bytes(bits[4:], "little").bit_count())
    return ()


def _tail(file: Any, end: int, length: int) -> bytes:
    """Read the `length` bytes before `end`."""
    file.seek(max(0, end - length))
    parts = []
    while length > 0 and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _crc(file: Any, left: int) -> tuple[int, int]:
    """Return the CRC32 of the first `left` bytes of a file, and how many of them are missing."""
    block, crc = memoryview(bytearray(min(_BLOCK, max(left, 1)))), 0
    file.seek(0)
    while left and (count := file.readinto(block[: min(left, len(block))])):
        crc, left = zlib.crc32(block[:count], crc), left - count
    return crc, left


@contextlib.contextmanager
def view(segments: Segments) -> Iterator[str]:
    """Make a folder with links to the files of a commit: the engine can open it if it may write nothing in the index.

    The engine maps the files when it opens them, so the folder is needed only for that.

    Raises:
        OSError: The folder cannot be made, or the system has no symbolic links.
    """
    with tempfile.TemporaryDirectory(prefix="dynamic-tinybert-", ignore_cleanup_errors=True) as folder:
        for path in segments.files:
            os.symlink(os.path.abspath(path), os.path.join(folder, os.path.basename(path)))
        Path(folder, META).write_bytes(segments.meta)
        yield folder
