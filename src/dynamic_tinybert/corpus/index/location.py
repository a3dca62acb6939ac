"""The location of an index: a folder, or Milvus. The engine is imported when an index is opened."""

from __future__ import annotations

import os
import re
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index.protocol import Index
from dynamic_tinybert.files import extra

_SCHEMES = {"milvus": "http", "milvus+tls": "https"}
_PORT = 19530
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_turns: WeakValueDictionary[str, Any] = WeakValueDictionary()  # by location
_turns_lock = threading.Lock()


def _forget_turns() -> None:
    """Forget locks that threads of the parent process held at the fork."""
    global _turns_lock
    _turns_lock = threading.Lock()
    _turns.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_turns)


@dataclass(frozen=True)
class MilvusAddress:
    """The address of an index in Milvus: `milvus://HOST[:PORT]/[DATABASE/]COLLECTION`, `milvus+tls://` for TLS.

    Attributes:
        scheme: "milvus" or "milvus+tls".
        server: The host and the port.
        database: The database; empty for the default database.
        collection: The collection.
    """

    scheme: str
    server: str
    database: str
    collection: str

    def __str__(self) -> str:
        database = f"{self.database}/" if self.database else ""
        return f"{self.scheme}://{self.server}/{database}{self.collection}"

    @property
    def uri(self) -> str:
        """The server's address for the client of Milvus."""
        return f"{_SCHEMES[self.scheme]}://{self.server}"

    @property
    def token(self) -> str:
        """The credentials for the server: an API key or USER:PASSWORD, from the environment variable MILVUS_TOKEN."""
        return os.environ.get("MILVUS_TOKEN", "")


def is_address(location: str | os.PathLike[str]) -> bool:
    """Return whether a location is an address instead of a folder."""
    return isinstance(location, str) and location.partition("://")[0] in _SCHEMES


def parse(location: str | os.PathLike[str] | MilvusAddress) -> MilvusAddress | Path:
    """Parse the location of an index: an address or a folder.

    Raises:
        CorpusError: The address is not valid, or the name of the folder is empty.
    """
    if isinstance(location, MilvusAddress):
        return location
    if not (isinstance(location, str) and is_address(location)):
        if not os.fspath(location):  # as of a shell variable that is not set
            raise CorpusError("the name of the index is empty: give its folder")
        return Path(location)
    try:
        parts = urlsplit(location)
        port = parts.port or _PORT
    except ValueError:
        parts, port = urlsplit("milvus:"), 0
    if "@" in parts.netloc:
        raise CorpusError("a password in an address is seen by others: put USER:PASSWORD into MILVUS_TOKEN")
    names = parts.path.removeprefix("/").split("/")
    if not parts.hostname or parts.query or parts.fragment or len(names) > 2 or not all(map(_NAME.fullmatch, names)):
        raise CorpusError(
            "an index in Milvus must be milvus://HOST:PORT/COLLECTION, or .../DATABASE/COLLECTION, with names of "
            f"letters, digits and _, not {location!r:.100}"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    database, collection = names if len(names) == 2 else ("", names[0])
    return MilvusAddress(parts.scheme, f"{host}:{port}", database, collection)


def turn(location: MilvusAddress | Path) -> AbstractContextManager[object]:
    """Return the lock for changes of an index in this process: its threads wait for each other.

    The thread that holds it may take it again: the engine then refuses a change within a change.
    """
    key = os.path.realpath(location) if isinstance(location, Path) else str(location)
    with _turns_lock:
        lock: AbstractContextManager[object] = _turns.setdefault(key, threading.RLock())
        return lock


def open_index(
    location: MilvusAddress | Path, *, create: bool, passage_size: int | None, language: str | None = None
) -> Index:
    """Open an index, or make it if there is none; see `TantivyIndex` and `MilvusIndex`."""
    if isinstance(location, Path):
        with extra("corpus", "an index of documents"):
            from dynamic_tinybert.corpus.index.tantivy import TantivyIndex

        return TantivyIndex(location, create=create, passage_size=passage_size, language=language)
    with extra("milvus", "an index in Milvus"):
        from dynamic_tinybert.corpus.index.milvus import MilvusIndex

    return MilvusIndex(location, create=create, passage_size=passage_size, language=language)


def absolute_location(location: str | os.PathLike[str]) -> str:
    """Return an address unchanged, and the absolute path of a folder. Links are not resolved."""
    return str(location) if is_address(location) else os.path.abspath(location)
