"""The lease that lets one process at a time write to an index in Milvus."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time

from pymilvus import DataType, MilvusClient

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index.milvus.client import BEAT, CALL_S, NO_VECTOR, Server, is_absence

_BEAT_S = 2.0
_STALE_S = 15.0  # a writer without a beat for so long counts as dead


class WriterLease:
    """The right to write, for one process at a time.

    Milvus creates a collection only once, so it refuses the second of two writers. The name of the collection's vector
    field identifies the writer. A row that changes every two seconds (the beat) shows that the writer is alive. If the
    row does not change for fifteen seconds, the writer was killed, and the next one replaces it. Clocks of different
    machines are never compared.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._owner = f"owner_{secrets.token_hex(8)}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="milvus-writer", daemon=True)

    def __enter__(self) -> WriterLease:
        while not self._take():
            self._take_over_stale_lease()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(CALL_S)
        with contextlib.suppress(CorpusError):
            if self._present() == self._owner:
                self._server.call("drop_collection", self._server.writer)

    def check(self) -> None:
        """Check that this writer still holds the lease.

        Raises:
            CorpusError: Another process has taken over the lease.
        """
        if self._present() != self._owner:
            raise CorpusError(
                f"another process has begun to change {self._server.address}: what was not committed is lost"
            )

    def _take(self) -> bool:
        server = self._server
        schema = MilvusClient.create_schema(enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field(self._owner, DataType.FLOAT_VECTOR, dim=2)
        try:
            server.call("create_collection", server.writer, schema=schema)
        except CorpusError:
            if self._present() is None:
                raise
            return False
        return self._present() == self._owner

    def _present(self) -> str | None:
        """Return the owner of the lease."""
        try:
            found = self._server.call("describe_collection", self._server.writer)
        except CorpusError as error:
            if is_absence(error):
                return None
            raise
        return next((str(f["name"]) for f in found["fields"] if f["name"].startswith("owner_")), "")

    def _take_over_stale_lease(self) -> None:
        """Wait until the owner of the lease counts as dead, then end its lease."""
        owner, beat = self._present(), self._beat()
        if owner is None:
            return
        for _ in range(round(4 * _STALE_S / _BEAT_S)):  # count answers, not seconds: the server may have stopped
            time.sleep(_BEAT_S / 4)
            if self._present() != owner:
                return
            if self._beat() != beat:
                raise CorpusError(f"another process is changing {self._server.address}: wait until it has finished")
        if self._present() == owner:
            self._server.call("drop_collection", self._server.writer)

    def _beat(self) -> object:
        rows = self._server.call("get", self._server.sources, ids=[BEAT], output_fields=["record"])
        return rows[0]["record"] if rows else None

    def _live(self) -> None:
        for number in range(1 << 62):
            record = f"{self._owner} {number}"
            row = {"id": BEAT, "batch": 0, "version": "", "record": record, "doomed": "", "v": NO_VECTOR}
            with contextlib.suppress(Exception):  # the next beat tries again
                self._server.put(self._server.sources, [row])
            if self._over.wait(_BEAT_S):
                return
