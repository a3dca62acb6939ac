"""Reading in a child process: the same text, and no file that ends, fills or stops the process that asks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamic_tinybert import Corpus
from dynamic_tinybert.corpus import Reading, UnreadableError
from dynamic_tinybert.corpus.errors import ReaderDiedError
from dynamic_tinybert.corpus.formats import child, read
from support.formats import Read, html, pdf, unreadable, write
from support.hostile import form_that_draws_itself

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with signals and FIFOs")
PAGE = "<title>The tower</title>" + "<p>The tower — 東京 😀 — stands in Paris.</p>" * 20


@pytest.fixture(autouse=True)
def _none_idle() -> Iterator[None]:
    child._end_idle(0.0)
    yield
    child._end_idle(0.0)


def test_the_text_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inscriptis")
    pytest.importorskip("pypdfium2")
    files = [
        write(tmp_path / "a.html", PAGE),
        write(tmp_path / "b.html", ""),
        write(tmp_path / "c.html", html("Le caf\xe9", "<meta charset=euc-jp>").encode("latin-1")),
        write(tmp_path / "d.pdf", pdf(["one", "", "three"])),
        write(tmp_path / "e.html", "<p>" + "long " * 500_000),
    ]
    there = [(Read(file).documents, Read(file).complaints) for file in files]
    broken = unreadable(write(tmp_path / "f.pdf", "no PDF"))
    monkeypatch.setattr(child, "_take", lambda: None)
    assert there == [(Read(file).documents, Read(file).complaints) for file in files]
    assert there[2][1] == ["has bytes that are not text in EUC-JP"]
    assert broken == unreadable(tmp_path / "f.pdf")


def test_one_child_reads_one_file_after_the_other_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inscriptis")
    page = write(tmp_path / "a.html", PAGE)
    Read(page)
    ((first, _),) = child._idle
    with pytest.raises(FileNotFoundError):
        Read(tmp_path / "none.html")
    Read(page)
    assert [one for one, _ in child._idle] == [first]
    child._end_idle(0.0)
    assert not first.alive
    assert child._idle == []


def test_a_missing_file_and_one_that_may_not_be_read_are_errors_of_the_system(tmp_path: Path) -> None:
    pytest.importorskip("inscriptis")
    with pytest.raises(FileNotFoundError) as raised:
        Read(tmp_path / "none.html")
    assert raised.value.filename == str(tmp_path / "none.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(IsADirectoryError):
        Read(tmp_path / "folder.html")


def test_a_file_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_SECONDS", 0.5)
    os.mkfifo(tmp_path / "a.html")
    with pytest.raises(ReaderDiedError, match=r"it takes more than 0\.5 seconds"):
        Read(tmp_path / "a.html")
    assert child._idle == []


def test_a_child_that_is_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.html")
    started = child._Child()
    assert started.is_ready()
    monkeypatch.setattr(child, "_take", lambda: started)
    threading.Timer(0.5, started._process.kill).start()
    with pytest.raises(UnreadableError, match=r"ended its reader \(SIGKILL\)"):
        Read(tmp_path / "a.html")


def test_a_caller_that_takes_its_time_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inscriptis")
    monkeypatch.setattr(child, "_SECONDS", 2.0)
    write(tmp_path / "a.html", "<p>" + "long " * 1_000_000)
    (draft,) = read(tmp_path / "a.html", Reading())
    blocks = iter(draft.blocks)
    size = len(next(blocks))
    time.sleep(4)
    assert size + sum(map(len, blocks)) > 4_000_000


def test_where_no_child_starts_the_file_is_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inscriptis")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "The tower" in Read(write(tmp_path / "a.html", PAGE)).documents[0][2]


def test_no_code_of_the_current_folder_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inscriptis")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in ("json", "struct", "inscriptis", "lxml", "threading"):
        Path(f"{name}.py").write_text("open('ran', 'w')\n")
    Read(write(tmp_path / "a.html", PAGE))
    assert len(child._idle) == 1
    assert not Path("ran").exists()


def test_many_files_take_few_threads(tmp_path: Path) -> None:
    pytest.importorskip("inscriptis")
    before = threading.active_count()
    for number in range(60):
        Read(write(tmp_path / f"{number}.html", "<p>x"))
    assert threading.active_count() < before + 10


def test_a_text_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inscriptis")
    monkeypatch.setattr(child, "_CHARACTERS", 10_000)
    assert "more than 10,000 characters" in unreadable(write(tmp_path / "a.html", PAGE * 100))
    assert child._idle == []


def test_a_hostile_file_ends_no_run_and_is_not_read_again(tmp_path: Path) -> None:
    for package in ("tantivy", "pypdfium2"):
        pytest.importorskip(package)
    folder = tmp_path / "documents"
    folder.mkdir()
    write(folder / "a.pdf", form_that_draws_itself())
    write(folder / "b.pdf", pdf(["The tower stands in Paris."]))
    corpus = Corpus(tmp_path / "index")
    report = corpus.add(folder)
    assert report.added == 1
    ((path, why),) = report.skipped
    assert path == str(folder / "a.pdf")
    assert "\n" not in why
    assert len(corpus) == 1
    again = corpus.add(folder)
    assert (again.added, again.unchanged + len(again.skipped)) == (0, 2)


def test_a_process_that_ends_leaves_no_child(tmp_path: Path) -> None:
    pytest.importorskip("inscriptis")
    write(tmp_path / "a.html", PAGE)
    code = (
        "import sys\nfrom pathlib import Path\nfrom dynamic_tinybert.corpus import Reading, read_file\n"
        "from dynamic_tinybert.corpus.formats import child\n"
        "[''.join(draft.blocks) for draft in read_file(Path(sys.argv[1]), Reading())]\n"
        "print(child._idle[0][0]._process.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.html")], capture_output=True, text=True, check=True, timeout=60
    )
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the child is still there")
