"""Threads of one process that change an index."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamic_tinybert.corpus import Corpus, CorpusError
from dynamic_tinybert.corpus.index import parse, turn


def test_threads_that_change_an_index_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("A file.")
    (tmp_path / "link").symlink_to(tmp_path / "index", target_is_directory=True)
    corpus, failed = Corpus(tmp_path / "index"), list[BaseException]()
    corpus.put_many([(f"old{i}", "", "An old text.") for i in range(4)])

    def run(change: Callable[[], object]) -> None:
        try:
            change()
        except BaseException as error:
            failed.append(error)

    changes: list[Callable[[], object]] = [
        *(lambda i=i: Corpus(tmp_path / "link").put(f"new{i}", "A new text.") for i in range(4)),
        *(lambda i=i: corpus.put(f"same{i}", "A text.") for i in range(4)),
        *(lambda i=i: corpus.remove(f"old{i}") for i in range(4)),
        lambda: corpus.add(tmp_path / "file.txt"),
    ]
    threads = [threading.Thread(target=run, args=(change,)) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    names = {os.path.basename(info.name) for info in corpus.documents()}
    assert names == {"file.txt", *(f"{kind}{i}" for kind in ("new", "same") for i in range(4))}


def test_threads_that_make_an_index_make_one(tmp_path: Path) -> None:
    corpora = [Corpus(tmp_path / "index") for _ in range(4)]
    threads = [
        threading.Thread(target=corpus.put, args=(f"n{number}", "A text.")) for number, corpus in enumerate(corpora)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(corpora[0]) == 4


def test_change_within_a_change_is_refused(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "index")

    def texts() -> list[tuple[str, str, str]]:
        corpus.put("inner", "A text.")
        return []

    with pytest.raises(CorpusError, match="is changing"):
        corpus.put_many(text for each in range(1) for text in texts())
    corpus.put("outer", "A text.")
    assert [info.name for info in corpus.documents()] == ["outer"]


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_turn_of_a_parent_does_not_block_its_child(tmp_path: Path) -> None:
    taken, free = threading.Event(), threading.Event()

    def hold() -> None:
        with turn(parse(tmp_path)):
            taken.set()
            free.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(30)
    child = os.fork()
    if not child:
        with turn(parse(tmp_path)):
            os._exit(7)
    _, status = os.waitpid(child, 0)
    free.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 7
