from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tantivy

from dynamic_tinybert.corpus import Corpus, CorpusError, Reading, ingest

Contents = Callable[[Corpus], dict[str, str]]


def names(texts: dict[str, str], folder: Path) -> list[str]:
    return [os.path.relpath(name, folder) for name in texts]


def test_a_folder_becomes_documents_with_their_texts(corpus: Corpus, folder: Path, contents: Contents) -> None:
    texts = contents(corpus)
    assert names(texts, folder) == [
        "berlin.html",
        "more/cities.jsonl#7",
        "more/cities.jsonl#tokyo",
        "paris.txt",
        "rome.md",
    ]
    assert texts[str(folder / "paris.txt")] == (folder / "paris.txt").read_text()
    assert texts[str(folder / "more/cities.jsonl#tokyo")] == "Tokyo Tower, painted orange, was built in 1958."
    assert [info.title for info in corpus.documents()] == ["Gate", "Sydney", "Tokyo", "", "The Colosseum"]


def test_what_is_unchanged_is_left_alone_and_what_changed_is_replaced(
    corpus: Corpus, folder: Path, contents: Contents
) -> None:
    before = contents(corpus)
    report = corpus.add(folder)
    assert (report.added, report.replaced, report.unchanged) == (0, 0, 4)
    (folder / "paris.txt").write_text("The tower was moved to Lyon.")
    os.utime(folder / "rome.md", (1, 1))  # another time, the same content
    report = corpus.add(folder)
    assert (report.added, report.replaced, report.unchanged) == (0, 1, 3)
    assert contents(corpus) == before | {str(folder / "paris.txt"): "The tower was moved to Lyon."}
    assert not [hit for hit in corpus.find("Champ de Mars") if "paris" in hit.passage.document]
    assert corpus.find("Lyon")[0].passage.document == str(folder / "paris.txt")


def test_a_change_without_a_change_of_size_is_seen(corpus: Corpus, folder: Path) -> None:
    text = (folder / "rome.md").read_text()
    (folder / "rome.md").write_text(text.replace("Titus", "Nerva"))
    assert corpus.add(folder).replaced == 1
    assert corpus.find("Nerva")


def test_records_that_went_from_a_file_of_records_go(corpus: Corpus, folder: Path, contents: Contents) -> None:
    (folder / "more/cities.jsonl").write_text('{"id": 7, "text": "Jørn Utzon."}\n')
    corpus.add(folder)
    texts = contents(corpus)
    assert texts[str(folder / "more/cities.jsonl#7")] == "Jørn Utzon."
    assert not [name for name in texts if name.endswith("tokyo")]


def test_other_options_of_reading_read_a_file_anew(corpus: Corpus, folder: Path, contents: Contents) -> None:
    report = corpus.add(folder / "more", reading=Reading(text_field="title"))
    assert report.replaced == 1
    assert contents(corpus)[str(folder / "more/cities.jsonl#7")] == "Sydney"


def test_prune_removes_what_is_gone_and_nothing_else(corpus: Corpus, folder: Path, contents: Contents) -> None:
    corpus.put("note", "A text by name.")
    (folder / "paris.txt").unlink()
    before = contents(corpus)
    assert corpus.add(folder).removed == 0
    assert contents(corpus) == before
    assert corpus.add(folder / "more", prune=True).removed == 0
    assert corpus.add(folder, prune=True).removed == 1
    before.pop(str(folder / "paris.txt"))
    assert contents(corpus) == before


def test_ids_given_twice_name_two_documents(tmp_path: Path, place: Path | str, contents: Contents) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n{"id": "a", "text": "two"}\n{"text": "three"}\n')
    corpus = Corpus(place)
    corpus.add(path)
    assert list(contents(corpus).values()) == ["three", "one", "two"]


def test_what_cannot_be_read_is_reported_and_the_rest_is_added(
    folder: Path, place: Path | str, contents: Contents
) -> None:
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 100)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing more")
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 nothing more")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "records.jsonl").write_text('{"text": "The first is good."}\n{"text": \n[1]\n{"no": "text"}\n')
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "dangling.txt").symlink_to(folder / "nowhere")
    (folder / "名前 😀 é.txt").write_text("Unicode everywhere: 名前.")
    (folder / "empty.txt").write_text("")
    os.mkfifo(folder / "pipe.txt")
    told: list[tuple[str, str]] = []
    corpus = Corpus(place)
    report = corpus.add(folder, skipped=lambda path, why: told.append((path, why)))
    assert report.skipped == told
    assert sorted({os.path.basename(path) for path, _ in told}) == [
        "binary.txt",
        "broken.docx",
        "broken.pdf",
        "dangling.txt",
        "pipe.txt",
        "records.jsonl",
    ]
    assert len([why for path, why in told if path.endswith("records.jsonl")]) == 3
    assert report.ignored == {".png": 1}
    texts = contents(corpus)
    assert texts[str(folder / "名前 😀 é.txt")] == "Unicode everywhere: 名前."
    assert texts[str(folder / "empty.txt")] == ""
    assert texts[str(folder / "records.jsonl#1")] == "The first is good."
    assert len(texts) == 5 + 3
    assert corpus.add(folder).added == 0  # what was skipped is tried again, and skipped again


def test_names_that_are_no_utf8_are_shown_with_marks_and_told_apart(
    tmp_path: Path, place: Path | str, contents: Contents
) -> None:
    for byte, text in ((b"\xe9", "Coffee."), (b"\xea", "Tea.")):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf" + byte + b".txt"))).write_text(text)
    corpus = Corpus(place)
    corpus.add(tmp_path / os.fsdecode(b"caf\xe9.txt"), tmp_path / os.fsdecode(b"caf\xea.txt"))
    found = contents(corpus)
    assert sorted(found.values()) == ["Coffee.", "Tea."]
    assert all(name.startswith(str(tmp_path / "caf\ufffd.txt~")) for name in found)
    assert corpus.add(tmp_path / os.fsdecode(b"caf\xe9.txt")).unchanged == 1
    assert corpus.remove(str(tmp_path / os.fsdecode(b"caf\xe9.txt")))
    assert list(contents(corpus).values()) == ["Tea."]


def test_no_two_documents_have_one_name(tmp_path: Path, place: Path | str, contents: Contents) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"id": i, "text": f"record {n}"}) + "\n" for n, i in enumerate(["a", "a", "a (2)", "1.txt"]))
    )
    (tmp_path / "a.jsonl#1.txt").write_text("file")
    (tmp_path / "C# notes.txt").write_text("notes")
    corpus = Corpus(place)
    corpus.add(tmp_path)
    found = contents(corpus)
    assert sorted(found.values()) == ["file", "notes", "record 0", "record 1", "record 2", "record 3"]
    assert found[str(tmp_path / "C# notes.txt")] == "notes"


def test_a_file_that_can_no_longer_be_read_keeps_its_last_content(
    corpus: Corpus, folder: Path, contents: Contents
) -> None:
    before = contents(corpus)
    (folder / "paris.txt").write_bytes(b"Now \0 binary")
    report = corpus.add(folder)
    assert [os.path.basename(path) for path, _ in report.skipped] == ["paris.txt"]
    assert contents(corpus) == before


def test_a_path_that_is_not_there_adds_nothing(corpus: Corpus, folder: Path, contents: Contents) -> None:
    before = contents(corpus)
    (folder / "new.txt").write_text("New.")
    with pytest.raises(FileNotFoundError):
        corpus.add(folder, folder / "nowhere")
    assert contents(corpus) == before


def test_texts_go_in_by_name_and_replace_those_of_the_same_name(place: Path | str, contents: Contents) -> None:
    corpus = Corpus(place)
    assert corpus.put_many([("a", "Title", "one"), ("b", "", "lone \ud800 surrogate")]) == 2
    corpus.put("a", "another one", title="New")
    assert contents(corpus) == {"a": "another one", "b": "lone \ufffd surrogate"}
    corpus.put_many([("c", "", "first"), ("c", "", "second")])
    assert contents(corpus)["c"] == "second"
    with pytest.raises(ValueError, match="name"):
        corpus.put_many([("d", "", "text"), ("", "", "text")])
    assert "d" not in contents(corpus)


def test_removal_of_files_folders_and_documents(corpus: Corpus, folder: Path, contents: Contents) -> None:
    assert corpus.remove(str(folder / "paris.txt")) == {str(folder / "paris.txt"): 1}
    one = str(folder / "more/cities.jsonl#7")
    assert corpus.remove(one) == {one: 1}
    assert names(contents(corpus), folder) == ["berlin.html", "more/cities.jsonl#tokyo", "rome.md"]
    assert corpus.add(folder / "more").unchanged == 1  # a record that was removed stays removed
    with pytest.raises(ValueError, match="empty"):
        corpus.remove("")
    with pytest.raises(CorpusError, match="nothing named"):
        corpus.remove(str(folder / "rome.md"), "nothing")
    assert len(contents(corpus)) == 3
    assert corpus.remove(str(folder)) == {str(folder): 3}
    assert contents(corpus) == {}


def test_an_index_is_found_whole_or_told_to_be_missing_or_damaged(tmp_path: Path, folder: Path) -> None:
    Corpus(tmp_path / "index").add(folder)
    with pytest.raises(CorpusError, match="contains no index"):
        Corpus(tmp_path / "nothing").status()
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(CorpusError, match="other files"):
        Corpus(folder).add(folder)
    with pytest.raises(CorpusError, match="is a file"):
        Corpus(folder / "paris.txt").status()
    with pytest.raises(CorpusError, match="one size"):
        Corpus(tmp_path / "index", passage_size=500).status()
    note = tmp_path / "index" / "dynamic-tinybert-index.json"
    good = note.read_text()
    note.write_text(json.dumps(json.loads(good) | {"format": 99}))
    with pytest.raises(CorpusError, match="format 99"):
        Corpus(tmp_path / "index").status()
    note.write_text(json.dumps(json.loads(good) | {"passage_size": 7}))
    with pytest.raises(CorpusError, match="damaged"):
        Corpus(tmp_path / "index").status()
    note.write_text(good[:10])
    with pytest.raises(CorpusError, match="damaged"):
        Corpus(tmp_path / "index").status()
    note.write_text(good)
    (tmp_path / "index/tantivy/meta.json").write_text("{")
    with pytest.raises(CorpusError, match="cannot be used"):
        Corpus(tmp_path / "index").status()


def test_one_writer_at_a_time_and_readers_go_on(corpus: Corpus, place: Path | str, folder: Path) -> None:
    (folder / "new.txt").write_text("A new tower stands in Lyon.")
    reader = Corpus(place)
    with corpus.index.writer():
        with pytest.raises(CorpusError, match="another process is changing"):
            reader.add(folder)
        assert not reader.find("Lyon")
    reader.add(folder)
    assert corpus.find("Lyon")  # what another one has committed is seen


@pytest.fixture
def interrupted(tmp_path: Path, place: Path | str, monkeypatch: pytest.MonkeyPatch) -> tuple[Corpus, Path]:
    """A corpus to which a part of a file of 300 records was added."""
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": f"Record {i}."}) + "\n" for i in range(300)))
    monkeypatch.setattr(ingest, "_COMMIT_CHARACTERS", 500)
    corpus = Corpus(place)

    def interrupt(done: int, total: int, name: str) -> None:
        if done > 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corpus.add(path, progress=interrupt)
    return corpus, path


def test_a_long_file_of_records_goes_on_where_it_was_interrupted(
    interrupted: tuple[Corpus, Path], contents: Contents
) -> None:
    corpus, path = interrupted
    begun = contents(corpus)
    assert 50 < len(begun) < 300
    assert corpus.status().incomplete == [str(path)]
    assert corpus.add(path).documents == 300 - len(begun)
    assert contents(corpus) == {f"{path}#{i}": f"Record {i}." for i in range(300)}
    assert not corpus.status().incomplete
    assert corpus.add(path).unchanged == 1


def test_going_on_may_fail_and_doubles_nothing(interrupted: tuple[Corpus, Path], contents: Contents) -> None:
    corpus, path = interrupted
    report = corpus.add(path, progress=lambda done, total, name: os.utime(path))
    assert [why for _, why in report.skipped] == ["changed while it was read: add it again"]
    contents(corpus)
    assert corpus.add(path).added == 1
    assert contents(corpus) == {f"{path}#{i}": f"Record {i}." for i in range(300)}


def test_what_is_removed_from_a_part_of_a_file_stays_removed(
    interrupted: tuple[Corpus, Path], contents: Contents
) -> None:
    corpus, path = interrupted
    corpus.remove(f"{path}#0")
    assert corpus.add(path).added == 1
    assert contents(corpus) == {f"{path}#{i}": f"Record {i}." for i in range(1, 300)}


def test_a_file_and_its_records_are_removed_together(corpus: Corpus, folder: Path, contents: Contents) -> None:
    file = str(folder / "more/cities.jsonl")
    (folder / "more/cities.jsonl").write_text("".join(f'{{"id": {i}, "text": "Text {i}."}}\n' for i in range(5)))
    corpus.add(folder)
    assert corpus.remove(f"{file}#1", f"{file}#2") == {f"{file}#1": 1, f"{file}#2": 1}
    assert len(contents(corpus)) == 6
    assert corpus.remove(f"{file}#4", f"{file}#4") == {f"{file}#4": 1}  # once
    assert corpus.status().documents == 5
    assert corpus.remove(file, f"{file}#3") == {file: 2, f"{file}#3": 0}
    assert len(contents(corpus)) == 3
    assert corpus.add(folder).added == 1
    assert len(contents(corpus)) == 8


def test_records_read_by_the_wrong_names_of_fields_replace_nothing(
    tmp_path: Path, place: Path | str, contents: Contents
) -> None:
    path = tmp_path / "news.jsonl"
    path.write_text("".join(f'{{"body": "Text {i}."}}\n' for i in range(50)))
    corpus = Corpus(place)
    assert corpus.add(path, reading=Reading(text_field="body")).documents == 50
    report = corpus.add(path)
    assert report.replaced == 0
    assert 5 < len(report.skipped) < 15  # the first, and how many more
    assert len(contents(corpus)) == 50


def test_other_names_of_fields_read_no_other_files_anew(corpus: Corpus, folder: Path) -> None:
    report = corpus.add(folder, reading=Reading(id_field="title"))
    assert (report.replaced, report.unchanged) == (1, 3)


@pytest.mark.skipif(os.name != "posix" or not os.geteuid(), reason="root may look into every folder")
def test_prune_removes_nothing_from_a_folder_it_may_not_look_into(corpus: Corpus, folder: Path) -> None:
    (folder / "more").chmod(0)
    try:
        assert corpus.add(folder, prune=True).removed == 0
    finally:
        (folder / "more").chmod(0o700)


def test_an_index_that_is_deleted_or_made_anew_is_seen(tmp_path: Path, folder: Path) -> None:
    corpus = Corpus(tmp_path / "index")
    corpus.add(folder)
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(CorpusError, match="contains no index"):
        corpus.find("tower")
    Corpus(tmp_path / "index", passage_size=100).add(folder)
    assert corpus.find("tower")
    assert corpus.status().passage_size == 100
    shutil.rmtree(tmp_path / "index")
    corpus.put("a", "A tower.")
    assert [hit.passage.document for hit in corpus.find("tower")] == ["a"]


def test_progress_goes_on_over_files_that_are_unchanged(corpus: Corpus, folder: Path) -> None:
    seen: list[int] = []
    corpus.add(folder, progress=lambda done, total, name: seen.append(done))
    assert seen == sorted(seen)
    assert len(set(seen)) == 4


def test_a_file_that_changes_while_it_is_read_is_not_half_taken(
    corpus: Corpus, folder: Path, contents: Contents
) -> None:
    before = contents(corpus)
    (folder / "long.txt").write_text("word " * 100_000)

    def change(done: int, total: int, name: str) -> None:
        if name == "long.txt":
            (folder / "long.txt").write_text("other " * 100_000)

    report = corpus.add(folder, progress=change)
    assert [why for _, why in report.skipped] == ["changed while it was read: add it again"]
    assert contents(corpus) == before


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.long)])
def test_a_kill_at_any_moment_leaves_a_usable_index_of_whole_documents(
    kills: int, tmp_path: Path, place: Path | str, contents: Contents
) -> None:
    """Files in many versions are added by processes that are killed; what a commit held is never lost."""
    folder, rows = tmp_path / "files", 400 if isinstance(place, Path) else 60
    folder.mkdir()
    draw = random.Random(kills)

    def write(version: int) -> None:
        for number in draw.sample(range(40), 12):
            (folder / f"{number}.txt").write_text(f"File {number}, version {version}.\n\n" * draw.randint(1, 400))
        records = (json.dumps({"id": i, "text": f"Record {i}, version {version}. " * 9}) + "\n" for i in range(rows))
        (folder / "rows.jsonl").write_text("".join(records))

    impatient = (
        ""
        if isinstance(place, Path)
        else ("from dynamic_tinybert.corpus.index.milvus import lease\nlease._BEAT_S, lease._STALE_S = 0.1, 0.8\n")
    )
    code = (
        f"import sys\nfrom dynamic_tinybert.corpus import Corpus, ingest\ningest._COMMIT_SECONDS = 0.02\n{impatient}"
        "print('ready', flush=True)\nCorpus(sys.argv[1]).add(sys.argv[2])"
    )
    killed = version = 0
    allowed: dict[str, list[str]] = {}
    before: set[str] = set()
    while killed < kills:
        version += 1
        write(version)
        for path in folder.glob("*.txt"):
            allowed.setdefault(str(path), []).append(path.read_text())
        process = subprocess.Popen([sys.executable, "-c", code, str(place), str(folder)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        process.stdout.close()
        killed += process.wait() == -signal.SIGKILL
        try:
            found = contents(Corpus(place))
        except CorpusError as error:
            if before or "contains no index" not in str(error):
                raise
            continue
        assert before <= found.keys()
        before = set(found)
        for name, text in found.items():
            if "#" in name:
                assert len(set(text.split(". "))) == 2  # one version, and the end of the text
                assert text.count("Record") == 9
            else:
                assert text in allowed[name]
    corpus = Corpus(place)
    corpus.add(folder)
    expected = {str(path): path.read_text() for path in folder.glob("*.txt")}
    found = contents(corpus)
    assert {name: text for name, text in found.items() if "#" not in name} == expected
    assert len(found) == len(expected) + rows
    assert all(f"version {version}." in text for name, text in found.items() if "#" in name)
    assert corpus.add(folder).unchanged == len(expected) + 1


def test_what_cannot_be_written_is_one_line_and_leaves_what_was_committed(tmp_path: Path, contents: Contents) -> None:
    corpus = Corpus(tmp_path / "index")
    corpus.put("first", "The tower stands in Paris.")
    code = (
        "import random, resource, sys\nfrom dynamic_tinybert.corpus import Corpus, CorpusError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"  # as a full disk
        "texts = ((str(i), '', ' '.join(random.choices('abcdefghij', k=10_000))) for i in range(200))\n"
        "try: Corpus(sys.argv[1]).put_many(texts)\nexcept CorpusError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(corpus.directory)], capture_output=True, text=True, check=True
    )
    assert "could not be written, and holds what was committed before" in done.stdout
    assert contents(corpus) == {"first": "The tower stands in Paris."}
    corpus.put("second", "It was built in 1889.")
    assert list(contents(corpus)) == ["first", "second"]


@pytest.mark.skipif(sys.platform == "win32", reason="paths are short there")
def test_a_folder_of_any_depth_is_read(tmp_path: Path) -> None:
    deepest = str(tmp_path)
    for _ in range(1500):
        deepest = os.path.join(deepest, "d")
        os.mkdir(deepest)
    Path(deepest, "tower.txt").write_text("The tower stands in Paris.")
    try:
        report = Corpus(tmp_path / "index").add(tmp_path / "d")
        assert (report.added, report.skipped) == (1, [])
    finally:  # shutil and pytest remove folders by recursion
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="files of holes")
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".pdf", ".html", ".docx", ".md"])
def test_a_file_of_holes_is_refused_before_it_is_read(tmp_path: Path, suffix: str) -> None:
    with (tmp_path / f"a{suffix}").open("wb") as file:
        file.truncate(1 << 40)
    report = Corpus(tmp_path / "index").add(tmp_path / f"a{suffix}")
    assert report.added == 0
    ((_, why),) = report.skipped
    assert "NUL" in why


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="Linux")
def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("/proc/self/pagemap")
    report = Corpus(tmp_path / "index").add(tmp_path / "a.txt")
    ((_, why),) = report.skipped
    assert why in ("has more content than its size says", "Operation not permitted", "Permission denied")


def test_an_index_stays_where_it_is_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    corpus = Corpus("index")
    monkeypatch.chdir(tmp_path / "there")
    corpus.put("tower", "The tower stands in Paris.")
    assert str(corpus.directory) == "index"
    assert (tmp_path / "here" / "index").is_dir()
    assert list((tmp_path / "there").iterdir()) == []
    assert corpus.text("tower") == Corpus(tmp_path / "here" / "index").text("tower")


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory as Linux tells it")
def test_a_huge_file_is_added_in_bounded_memory(tmp_path: Path) -> None:
    """A text of 200 MB, added by a process that may have little memory, and found in."""
    path = tmp_path / "huge.txt"
    with path.open("w") as file:
        for number in range(200):
            file.write(f"Chapter {number}. The bridge of district {number} was opened in {1700 + number}.\n\n")
            file.write(("It says little of bridges, and much of boats and of the sea.\n\n" * 16_000)[:1_000_000])
    code = (
        "import sys\nfrom dynamic_tinybert.corpus import Corpus\n"
        "report = Corpus(sys.argv[1]).add(sys.argv[2])\nassert report.added == 1, report\n"
        # Not ru_maxrss: a process inherits that of the one that started it.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "index"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 600_000  # kB
    corpus = Corpus(tmp_path / "index")
    hit = corpus.find("bridge of district 150")[0].passage
    assert "opened in 1850" in hit.text
    with path.open() as file:
        file.seek(hit.start)
        assert file.read(len(hit.text)) == hit.text


def test_corpus_is_counted_iterated_shown_and_released(corpus: Corpus) -> None:
    assert len(corpus) == 5
    assert [info.name for info in corpus] == [info.name for info in corpus.documents()]
    assert repr(corpus) == f"<Corpus {str(corpus.directory)!r}>"
    assert repr(corpus.index) == f"<{type(corpus.index).__name__} {str(corpus.directory)!r}>"
    with corpus as same:
        assert same is corpus
        before = same.index
    assert corpus.index is not before
    assert len(corpus) == 5


def test_texts_in_another_form_are_refused_in_a_line(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "index")
    for wrong in (None, 7, b"x"):
        with pytest.raises(
            TypeError, match="a text must be given as three strings, its name, its title and the text itself"
        ):
            corpus.put(wrong, "A text.")  # type: ignore[arg-type]
    for texts in ({"name": "A text."}, "name"):
        with pytest.raises(TypeError, match=r"texts must be tuples of name, title and text, not a (dict|str)"):
            corpus.put_many(texts)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the text itself, not \('name', 'A text.'\)"):
        corpus.put_many([("name", "A text.")])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"a path must be a string or a Path, not list: write add\(\*paths\)"):
        corpus.add([tmp_path])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a path must be a string or a Path, not int$"):
        corpus.add(7)  # type: ignore[arg-type]


def test_force_reads_unchanged_files_again(corpus: Corpus, folder: Path, contents: Contents) -> None:
    before = contents(corpus)
    corpus.remove(str(folder / "more/cities.jsonl#7"))
    report = corpus.add(folder, force=True)
    assert (report.added, report.replaced, report.unchanged) == (0, 4, 0)
    assert contents(corpus) == before
    assert corpus.add(folder).unchanged == 4


def test_what_was_left_out_of_a_file_is_told_again(tmp_path: Path, place: Path | str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"text": "The first is good."}\n{"text": \n[1]\n')
    corpus = Corpus(place)
    report = corpus.add(path)
    assert (len(report.skipped), report.left_out) == (2, {})
    os.utime(path, (1, 1))
    for _ in range(2):  # another time, then the same
        report = corpus.add(path)
        assert (report.unchanged, report.skipped, report.left_out) == (1, [], {str(path): 2})
    report = corpus.add(path, force=True)
    assert (report.replaced, len(report.skipped), report.left_out) == (1, 2, {})
    path.write_text('{"text": "The first is good."}\n')
    assert corpus.add(path).replaced == 1
    assert corpus.add(path).left_out == {}


def test_files_that_are_only_touched_change_nothing_that_is_found(tmp_path: Path) -> None:
    """BM25 counts each entry of the index, also one that would only note a new time."""
    for number in range(8):
        text = f"The bridge of district {number} was opened in {1700 + number}. "
        (tmp_path / f"{number}.txt").write_text(text * (number + 1))
    corpus = Corpus(tmp_path / "index")
    corpus.add(tmp_path)

    def found() -> list[tuple[str, float]]:
        return [(hit.passage.document, hit.score) for hit in corpus.find("Which bridge of district 3?", 5)]

    before = found()
    for again in range(1, 4):
        for path in tmp_path.glob("*.txt"):
            os.utime(path, (again, again))
        assert corpus.add(tmp_path).unchanged == 8
    assert found() == before


def test_records_that_are_removed_one_by_one_leave_one_entry_without_words(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"id": "{i}", "text": "Bridge {i}."}}\n' for i in range(9)))
    corpus = Corpus(tmp_path / "index")
    corpus.add(path)
    for number in range(1, 6):
        corpus.remove(f"{path}#{number}")
    assert len(list(corpus.documents())) == 4
    assert tantivy.Index.open(str(tmp_path / "index/tantivy")).searcher().num_docs <= 5


def test_a_document_named_in_two_ways_is_removed_once(corpus: Corpus, folder: Path) -> None:
    name = str(folder / "more/cities.jsonl#tokyo")
    before = sum(info.characters for info in corpus.documents())
    (tokyo,) = [info.characters for info in corpus.documents() if info.name == name]
    assert corpus.remove(os.path.relpath(name), name) == {os.path.relpath(name): 1, name: 0}
    assert sum(info.characters for info in corpus.documents()) == before - tokyo
    assert corpus.counts().documents == len(list(corpus.documents()))
    with corpus.index.writer() as writer:
        source = writer.source(str(folder / "more/cities.jsonl"))
    assert source is not None
    (sydney,) = [info.characters for info in corpus.documents() if "cities" in info.name]
    assert (source.documents, source.characters) == (1, sydney)


def test_files_named_in_several_ways_are_removed_once(corpus: Corpus, folder: Path) -> None:
    paris, cities = folder / "paris.txt", folder / "more/cities.jsonl"
    names = [os.path.relpath(paris), str(paris), str(cities), f"{cities}#tokyo", os.path.relpath(cities), str(folder)]
    assert list(corpus.remove(*names).values()) == [1, 0, 2, 0, 0, 2]
    assert list(corpus.documents()) == []


def test_a_link_to_a_folder_beside_it_adds_nothing_and_hides_no_change(tmp_path: Path, place: Path | str) -> None:
    (tmp_path / "all/v2").mkdir(parents=True)
    manual = tmp_path / "all/v2/manual.txt"
    manual.write_text("The warranty ends after two years.")
    corpus = Corpus(place)
    corpus.add(tmp_path / "all")
    (tmp_path / "all/current").symlink_to("v2")  # it comes first by name
    manual.write_text("The warranty ends after five years, since May.")
    assert corpus.add(tmp_path / "all", prune=True).replaced == 1
    assert [info.name for info in corpus.documents()] == [str(manual)]
    assert corpus.text(str(manual)) == manual.read_text()
    # Added by the path of the link, it is kept up to date by that path, too.
    linked = tmp_path / "all/current/manual.txt"
    corpus.add(linked)
    manual.write_text("The warranty ends after six years.")
    assert corpus.add(tmp_path / "all").replaced == 2
    assert {corpus.text(str(path)) for path in (manual, linked)} == {manual.read_text()}
    assert corpus.add(tmp_path / "all", prune=True).removed == 1
    assert [info.name for info in corpus.documents()] == [str(manual)]


def test_a_file_that_is_a_folder_now_is_pruned(corpus: Corpus, folder: Path) -> None:
    (folder / "paris.txt").unlink()
    (folder / "paris.txt").mkdir()
    assert corpus.add(folder, prune=True).removed == 1
