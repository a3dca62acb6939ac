"""Find the files to add, name their documents and hash their content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dynamic_tinybert.corpus.formats import Draft, endless, is_readable, most_bytes
from dynamic_tinybert.files import encodable

LONGEST_NAME = 1000
"""The most characters of a document's name."""


def find_files(
    paths: Sequence[str | os.PathLike[str]],
    ignored: Counter[str],
    skip: Callable[[str, str], None],
    aliases: list[str] | None = None,
) -> Iterator[tuple[str, int]]:
    """Yield each file of the paths once, with its size.

    Folders are sorted by name. A link to a folder is followed after all folders that are none, if its folder was not
    visited before: so loops end, and a new link never takes the place of a folder.

    Args:
        paths: Files and folders.
        ignored: Gets the number of files of unknown types, by suffix.
        skip: Called with a path and the reason, for each file or folder that cannot be read.
        aliases: Gets the links that were not followed.
    """
    seen_files: set[str] = set()
    for given in paths:
        top = os.path.abspath(os.fspath(given))
        if not os.path.isdir(top):
            if top not in seen_files:
                seen_files.add(top)
                yield from _sized(top, skip)
            continue
        for folder, names in _walk(top, skip, [] if aliases is None else aliases):
            for name in names:
                path = os.path.join(folder, name)
                if path in seen_files:
                    continue
                seen_files.add(path)
                if is_readable(Path(path)):
                    yield from _sized(path, skip)
                else:
                    ignored[os.path.splitext(name)[1].lower() or "no suffix"] += 1


def _walk(top: str, skip: Callable[[str, str], None], aliases: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with the names in it that are no folders, all sorted and none hidden, however deep they are."""
    seen: set[tuple[int, int]] = set()
    waiting, links = [top], deque[str]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.popleft()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                aliases.append(folder)
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                there = [e for e in sorted(entries, key=lambda e: e.name) if not e.name.startswith(".")]
                folders = {entry.name: entry.is_symlink() for entry in there if _is_folder(entry)}
        except OSError as error:
            skip(folder, error.strerror or str(error))
            continue
        yield folder, [entry.name for entry in there if entry.name not in folders]
        links += [os.path.join(folder, name) for name, linked in folders.items() if linked]
        waiting += [os.path.join(folder, name) for name, linked in reversed(folders.items()) if not linked]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, for example: reported as a file
        return False


def _sized(path: str, skip: Callable[[str, str], None]) -> Iterator[tuple[str, int]]:
    try:
        if not is_readable(Path(path)):
            skip(path, f"has an unknown type: {os.path.splitext(path)[1] or 'it has no suffix'}")
        elif not stat.S_ISREG((status := os.stat(path)).st_mode):  # a pipe or a device may never end
            skip(path, "is not a file")
        else:
            yield path, status.st_size
    except FileNotFoundError as error:
        skip(path, "is a broken link" if os.path.islink(path) else error.strerror or str(error))
    except OSError as error:
        skip(path, error.strerror or str(error))


def is_gone(path: str) -> bool:
    """Return whether there is no such file, or a folder in its place; no if its own folder cannot be read."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


class DocumentNames:
    """Names for the documents of a file: its path, or `path#id` for a record, or `path#id (2)` if the id is repeated.

    Names are unique: a path gets a suffix if it is not UTF-8, or if it looks like the name of a record.
    """

    def __init__(self, path: str) -> None:
        self._path = encodable(path)
        if self._path != path:
            self._path += f"~{hash_bytes(os.fsencode(path))[:8]}"
        file, mark, _ = path.rpartition("#")
        if mark and is_readable(Path(file)) and os.path.isfile(file):
            self._path += " (file)"
        self._seen: set[int] = set()

    def next(self, draft: Draft) -> str:
        """Return the name of the next document."""
        if not draft.id:
            return self._path
        name = f"{self._path}#{draft.id}"
        if len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}…{hash_bytes(name.encode())[:16]}"
        count, one = 1, name
        while hash(one) in self._seen:
            count += 1
            one = f"{name} ({count})"
        self._seen.add(hash(one))
        return one


def hash_bytes(content: bytes) -> str:
    """Return the digest of some content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def hash_file(path: str) -> str:
    """Return the same digest as `hash_bytes` for a file's content, in bounded memory.

    Raises:
        UnreadableError: The file has more content than its size says, perhaps without end.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        most = most_bytes(file)
        while block := file.read(1 << 20):
            digest.update(block)
            if most is not None and file.tell() > most:
                raise endless()
    return digest.hexdigest()
