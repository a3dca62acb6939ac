"""An index that is gone, damaged, replaced or not readable: one line that says what to do, and never other scores."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dynamic_tinybert.cli.app import app
from dynamic_tinybert.corpus import Corpus, CorpusError
from dynamic_tinybert.corpus.index import Hit, tantivy
from dynamic_tinybert.corpus.index import segments as checks
from support.commands import complaint

QUESTION = "Where does tower 7 stand?"
NOTE = "dynamic-tinybert-index.json"


def made(place: Path) -> Path:
    """Make an index of three segments, one of them with deleted documents."""
    corpus = Corpus(place)
    corpus.put_many([(f"n{i}", "Tower", f"Tower {i} stands in city {i % 7}.") for i in range(60)])
    corpus.remove("n3", "n4")
    corpus.put("more", "Another tower stands in Prague.")
    return place


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("original") / "index")


@pytest.fixture
def index(original: Path, tmp_path: Path) -> Path:
    """A copy of an index, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "index"))


def files(index: Path, suffix: str) -> Path:
    """The largest file of a kind."""
    return max((index / "tantivy").glob(f"*.{suffix}"), key=lambda path: path.stat().st_size)


def refused(index: Path) -> str:
    """Check that every use of an index is refused with one line, and return the line."""
    lines = set()
    uses: list[Callable[[Corpus], Any]] = [
        lambda corpus: corpus.find(QUESTION),
        lambda corpus: corpus.status(),
        lambda corpus: list(corpus.documents()),
        lambda corpus: corpus.text("more"),
        lambda corpus: corpus.put("new", "A text."),
        lambda corpus: corpus.remove("more"),
    ]
    for use in uses:
        with pytest.raises(CorpusError) as caught:
            use(Corpus(index))
        lines.add(str(caught.value))
    (line,) = lines
    assert "\n" not in line
    return line


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["term", "idx", "pos", "fast", "fieldnorm", "store", "del"])
def test_segment_with_a_flipped_bit_or_cut_off_is_refused(index: Path, suffix: str) -> None:
    path = files(index, suffix)
    good = path.read_bytes()
    for at in (0, len(good) // 3, len(good) - 101):
        flip(path, at)
        line = refused(index)  # the footer of a short file may be hit
        assert "damaged and cannot be used" in line
        assert path.name in line
        path.write_bytes(good)
    for length in (0, 5, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        assert f"{path.name} is cut off or overwritten" in refused(index)
    path.write_bytes(good)
    assert Corpus(index).find(QUESTION)
    path.unlink()
    assert f"{path.name} is missing" in refused(index)
    path.mkdir()
    assert f"{path.name} is not a file" in refused(index)


def test_each_flipped_bit_of_meta_changes_no_score(index: Path) -> None:
    path = index / "tantivy" / "meta.json"
    good, expected = path.read_bytes(), Corpus(index).find(QUESTION)
    for at in range(good.index(b'"schema"')):  # where the numbers are
        flip(path, at)
        with contextlib.suppress(CorpusError):
            assert Corpus(index).find(QUESTION) == expected
    changed = json.loads(good)
    for segment in changed["segments"]:
        for key in segment:
            less = dict(segment)
            del less[key]
            path.write_text(json.dumps(changed | {"segments": [less]}))
            assert "does not describe segments" in refused(index)
        path.write_text(json.dumps(changed | {"segments": [segment | {"max_doc": segment["max_doc"] + 1}]}))
        assert "different numbers of documents" in refused(index)
    deleted = next(segment for segment in changed["segments"] if segment["deletes"])
    deleted["deletes"]["num_deleted_docs"] += 1
    path.write_text(json.dumps(changed))
    assert "different numbers of documents" in refused(index)
    path.write_text(good.decode().replace('"freq"', '"basic"'))
    assert "other fields" in refused(index)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"format": 1}', b"[" * 9999, b'{"format": []}'])
@pytest.mark.parametrize("name", [NOTE, "tantivy/meta.json"])
def test_broken_descriptions_are_refused(index: Path, name: str, content: bytes) -> None:
    (index / name).write_bytes(content)
    line = refused(index)
    assert "damaged" in line or "format []" in line
    assert "index add" in line


def test_index_that_is_replaced_is_refused(index: Path, tmp_path: Path) -> None:
    for name in (NOTE, "tantivy/meta.json"):
        content = (index / name).read_bytes()
        (index / name).unlink()
        os.mkfifo(index / name)
        assert "is not a file" in refused(index)
        (index / name).unlink()
        (index / name).write_bytes(content)
    (index / "tantivy").rename(index / "elsewhere")
    assert "damaged" in refused(index)
    (index / "tantivy").write_text("A file.")
    assert "damaged" in refused(index)
    shutil.rmtree(index)
    index.write_text("A file.")
    assert "is a file" in refused(index)
    index.unlink()
    index.symlink_to(tmp_path / "nowhere")
    assert "is a link to nothing" in refused(index)
    index.unlink()
    index.symlink_to(index)
    assert "cannot be read: Too many levels" in refused(index)


def test_open_index_is_checked_when_its_files_change(index: Path) -> None:
    corpus = Corpus(index)
    expected = corpus.find(QUESTION)
    path = files(index, "store")
    good = path.read_bytes()
    with path.open("r+b") as file:  # in place, under the map of the engine
        file.seek(10)
        file.write(bytes([good[10] ^ 1]))
    for _ in range(2):
        with pytest.raises(CorpusError, match="checksum"):
            corpus.find(QUESTION)
    with path.open("r+b") as file:
        file.seek(10)
        file.write(good[10:11])
    assert corpus.find(QUESTION) == expected
    (index / "tantivy" / "meta.json").write_text("{")
    with pytest.raises(CorpusError, match="damaged"):
        corpus.find(QUESTION)


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut off there")
def test_file_cut_off_under_an_open_index_ends_no_process(index: Path) -> None:
    code = (
        "import os, sys\nfrom dynamic_tinybert.corpus import Corpus, CorpusError\n"
        "corpus = Corpus(sys.argv[1])\ncorpus.find('tower')\nos.truncate(sys.argv[2], 9)\n"
        "for use in (lambda: corpus.find('tower'), lambda: corpus.text('more'), lambda: corpus.put('x', 'y')):\n"
        "    try: use()\n    except CorpusError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(index), str(files(index, "store"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("is cut off or overwritten")) == (0, 3), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut off there")
def test_file_cut_off_and_replaced_by_a_whole_one_is_mapped_again(index: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom dynamic_tinybert.corpus import Corpus, CorpusError\n"
        "corpus, paths = Corpus(sys.argv[1]), list(map(Path, sys.argv[2:]))\n"
        "before, whole = corpus.find('tower'), [path.read_bytes() for path in paths]\n"
        "for path in paths: os.truncate(path, 9)\n"
        "try: corpus.find('tower')\nexcept CorpusError: print('refused')\n"
        "for path, content in zip(paths, whole):\n"
        "    path.with_suffix('.part').write_bytes(content)\n    path.with_suffix('.part').replace(path)\n"
        "print(corpus.find('tower') == before, corpus.text('more'))\n"
    )
    paths = [str(files(index, suffix)) for suffix in ("store", "idx", "term", "pos", "fast", "fieldnorm")]
    command = [sys.executable, "-c", code, str(index), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "refused\nTrue Another tower stands in Prague.\n", (done.returncode, done.stderr)


def test_index_renamed_over_another_is_seen(index: Path, tmp_path: Path) -> None:
    corpus = Corpus(index)
    assert corpus.find("Prague")
    other = Corpus(tmp_path / "other")
    other.put("lyon", "A tower stands in Lyon.")
    index.rename(tmp_path / "old")
    (tmp_path / "other").rename(index)
    assert [hit.passage.document for hit in corpus.find("tower")] == ["lyon"]


def test_files_are_read_once_unless_they_change(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    counts = checks._counts
    monkeypatch.setattr(checks, "_counts", lambda path, size: read.append(path) or counts(path, size))  # type: ignore[func-returns-value]
    corpus = Corpus(index)
    corpus.find(QUESTION)
    assert len(read) == len(set(read)) == len(list((index / "tantivy").glob("*.*"))) - 1 - 3  # not meta, hidden files
    Corpus(index).put("other", "A text.")
    read.clear()
    corpus.find(QUESTION)
    corpus.find(QUESTION)
    assert len(read) <= 6  # the new segment
    assert all(path.startswith(str(index)) for path in read)


def test_panic_of_the_engine_is_one_line(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(*_: object) -> None:
        raise PanicException("range end index 9 out of range")

    monkeypatch.setattr(tantivy, "passage_of", panic)
    with pytest.raises(CorpusError, match="damaged and cannot be used"):
        Corpus(index).find(QUESTION)


def test_damage_is_one_line_at_the_command_line(index: Path) -> None:
    flip(files(index, "idx"), 3)
    for command in (["index", "list"], ["index", "status"], ["ask", "Where?"], ["index", "add", __file__]):
        done = CliRunner().invoke(app, [*command, "--index", str(index)])
        assert "delete this folder, and make the index again with `dynamic-tinybert index add`" in complaint(done, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of open files")
def test_no_more_open_files_is_one_line(index: Path) -> None:
    code = (
        "import resource, sys\nfrom dynamic_tinybert.corpus import Corpus, CorpusError\n"
        "from dynamic_tinybert.corpus.index import open_index\n"
        "corpus = Corpus(sys.argv[1])\ncorpus.find('tower')\nCorpus(sys.argv[1]).put('again', 'Text.')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\nheld = []\n"
        "try:\n    while True: held.append(open('/dev/null'))\nexcept OSError: pass\n"
        "for free in range(12):\n"
        "    for use in (lambda c: c.find('tower'), lambda c: c.put('x', 'y')):\n"
        "        for each in (corpus, Corpus(sys.argv[1])):\n"
        "            try: use(each); print('good')\n"
        "            except CorpusError as error: print(error)\n"
        "    held.pop().close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(index)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = set(done.stdout.splitlines()) - {"good"}
    assert "good" in done.stdout
    assert all("open files" in line for line in lines), lines


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that other users may look into."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@contextlib.contextmanager
def as_reader(index: Path) -> Iterator[None]:
    """Be a user who may read the index and not write it."""
    folders = (index, index / "tantivy")
    for path in folders:
        path.chmod(0o555)
    for path in (index / "tantivy").iterdir():
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in folders:
            path.chmod(0o755)
        for path in (index / "tantivy").iterdir():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o200)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_index_that_may_only_be_read_is_asked(open_place: Path) -> None:
    index = made(open_place / "index")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (index / "tantivy").iterdir()}
    assert modes == {stat.S_IMODE((index / NOTE).stat().st_mode)}
    expected: list[Hit] = Corpus(index).find(QUESTION)
    reader = Corpus(index)
    with as_reader(index):
        assert reader.find(QUESTION) == expected
        assert reader.status().documents == 59
        with pytest.raises(CorpusError, match="may not read or write"):
            reader.put("new", "A text.")
        with pytest.raises(CorpusError, match="may not read or write"):
            Corpus(open_place / "another").put("new", "A text.")
    Corpus(index).put("lyon", "A new tower stands in Lyon.")
    with as_reader(index):
        assert [hit.passage.document for hit in reader.find("Lyon")] == ["lyon"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_have_the_permissions_of_the_note(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        index = made(tmp_path / "index")
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (index / "tantivy").iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o640}


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_file_system_without_locks_is_said(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    with Corpus(index).index.writer():
        with pytest.raises(CorpusError, match="another process is changing"):
            Corpus(index).put("new", "A text.")

        def fail(*_: object) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(fcntl, "flock", fail)
        with pytest.raises(CorpusError, match="has no file locks"):
            Corpus(index).put("new", "A text.")
