"""What is of the index in Milvus alone; what it has in common with that in a folder is in test_ingest.py."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dynamic_tinybert import Corpus, CorpusError, QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.corpus.index import Source
from dynamic_tinybert.files import install_command
from support.milvus_server import MilvusServer

pymilvus = pytest.importorskip("pymilvus")
client = pytest.importorskip("dynamic_tinybert.corpus.index.milvus.client")
lease = pytest.importorskip("dynamic_tinybert.corpus.index.milvus.lease")
milvus_writer = pytest.importorskip("dynamic_tinybert.corpus.index.milvus.writer")
pytestmark = [pytest.mark.milvus, pytest.mark.filterwarnings("default:::pymilvus")]

Contents = Callable[[Corpus], dict[str, str]]
QUESTIONS = [
    "Where does the Brandenburg Gate stand?",
    "Who designed the opera house of Sydney?",
    "When was Tokyo Tower built?",
    "Under whom was the Colosseum finished?",
    "Wer? 東京 Zürich",
    "zzz",
]


@pytest.fixture
def place(milvus: MilvusServer) -> str:
    return milvus.address()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers that give signs of life more often, and are given up sooner."""
    monkeypatch.setattr(lease, "_BEAT_S", 0.1)
    monkeypatch.setattr(lease, "_STALE_S", 0.8)


def test_answers_are_those_from_a_folder(corpus: Corpus, folder: Path, tmp_path: Path, qa: QuestionAnswerer) -> None:
    same = Corpus(tmp_path / "index", qa=qa)
    same.add(folder)
    for question in QUESTIONS:
        ours, theirs = corpus(question), same(question)
        assert (ours.text, ours.document, ours.start) == (theirs.text, theirs.document, theirs.start)
        found = [(hit.passage, hit.score) for hit in corpus.find(question)]
        assert [passage for passage, _ in found] == [hit.passage for hit in same.find(question)]
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        assert all(score > 0 for _, score in found)


def test_what_is_not_committed_is_not_seen_and_the_next_writer_sweeps_it(
    corpus: Corpus, folder: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, index = contents(corpus), corpus.index
    with index.writer() as writer:
        passage = next(index.document(str(folder / "paris.txt")))
        for number in range(1200):  # more than is sent at once
            writer.add("0123456789abcdef", replace(passage, document=f"d{number}"), last=True)
        assert contents(corpus) == before
        monkeypatch.setattr(writer, "close", lambda: None)  # as if it were killed: nothing is taken back
    server = client.Server(corpus.directory)
    assert server.count(server.passages, 'version == "0123456789abcdef"') >= 1000
    corpus.put("note", "A text.")
    assert server.count(server.passages, 'version == "0123456789abcdef"') == 0
    assert contents(corpus) == {**before, "note": "A text."}


def test_a_kill_after_a_commit_leaves_old_documents_unseen_and_the_next_writer_deletes_them(
    corpus: Corpus, folder: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(corpus)
    (folder / "paris.txt").write_text("The tower stands in Lyon.")
    (folder / "rome.md").unlink()
    with monkeypatch.context() as patched:
        finish = milvus_writer.MilvusWriter._finish
        calls = iter([finish])
        patched.setattr(milvus_writer.MilvusWriter, "_finish", lambda self: next(calls)(self))
        with pytest.raises(StopIteration):
            corpus.add(folder, prune=True)
    after = {**before, str(folder / "paris.txt"): "The tower stands in Lyon."}
    del after[str(folder / "rome.md")]
    assert contents(corpus) == after == contents(Corpus(corpus.directory))
    assert not corpus.find("Colosseum")
    server = client.Server(corpus.directory)
    assert server.count(server.passages, "batch >= 0") > corpus.counts().passages
    corpus.put("note", "A text.")
    assert contents(corpus) == {**after, "note": "A text."}
    assert server.count(server.passages, "batch >= 0") == corpus.counts().passages
    assert not server.changes(server.present())


def test_a_reader_sees_a_document_while_it_is_replaced(
    corpus: Corpus, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole replacement happens between the moment a search knows its batch and the search itself."""
    corpus.put("note", "An old lighthouse.")
    server, other = corpus.index._server, Corpus(corpus.directory)  # type: ignore[attr-defined]
    call, new = server.call, iter(["A new lighthouse."])

    def replaced_before(method: str, *args: Any, **options: Any) -> Any:
        if method == "search":
            with contextlib.suppress(StopIteration):
                other.put("note", next(new))
        return call(method, *args, **options)

    monkeypatch.setattr(server, "call", replaced_before)
    assert [hit.passage.text for hit in corpus.find("lighthouse")] == ["A new lighthouse."]


def test_a_writer_that_was_killed_is_followed_by_the_next(corpus: Corpus, impatient: None) -> None:
    killed = lease.WriterLease(client.Server(corpus.directory))
    assert killed._take()  # and gives no sign of life
    corpus.put("note", "A text.")
    assert corpus.text("note") == "A text."


def test_a_writer_that_was_taken_for_dead_commits_nothing(corpus: Corpus, folder: Path, contents: Contents) -> None:
    before = contents(corpus)
    server = client.Server(corpus.directory)
    with corpus.index.writer() as writer:
        source = Source(
            name="late",
            version="00",
            size=-1,
            modified=-1,
            digest="",
            reading="given",
            drafts=1,
            documents=0,
            passages=0,
            characters=0,
        )
        writer.put(source)
        server.call("drop_collection", server.writer)
        other = Corpus(corpus.directory)
        other.put("note", "Of the next writer.")
        passage = next(corpus.index.document(str(folder / "paris.txt")))
        writer.add("00", passage, last=True)
        with pytest.raises(CorpusError, match="another process has begun"):
            writer.commit()
    assert contents(corpus) == {**before, "note": "Of the next writer."}
    assert server.count(server.passages, "batch >= 0") == corpus.counts().passages


def test_what_arrives_after_its_writer_was_given_up_is_never_seen(
    corpus: Corpus, folder: Path, contents: Contents
) -> None:
    before, other = contents(corpus), Corpus(corpus.directory)
    server = client.Server(corpus.directory)
    with corpus.index.writer() as writer:
        passage = next(corpus.index.document(str(folder / "paris.txt")))
        writer.add("00", replace(passage, document="late"), last=True)
        late = list(writer._rows)  # type: ignore[attr-defined]
        server.call("drop_collection", server.writer)
        other.put("note", "Of the next writer.")
        server.call("upsert", server.passages, data=late)
        with pytest.raises(CorpusError, match="another process has begun"):
            writer.commit()
    assert contents(corpus) == {**before, "note": "Of the next writer."}
    other.put("note", "Of the one after it.")
    assert contents(corpus) == {**before, "note": "Of the one after it."}
    assert server.count(server.passages, "batch >= 0") == corpus.counts().passages


def test_two_that_make_an_index_at_once_make_one(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create, others = client.Server.create, iter([1])

    def create_after(self: Any) -> None:
        create(self)
        if next(others, None):
            Corpus(place).put("theirs", "A text.")

    monkeypatch.setattr(client.Server, "create", create_after)
    Corpus(place).put("ours", "Another text.")
    assert [info.name for info in Corpus(place).documents()] == ["ours", "theirs"]


def test_many_files_are_looked_up_at_once(place: str, tmp_path: Path, contents: Contents) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"File {number}.")
    corpus = Corpus(place)
    assert corpus.add(tmp_path).added == 40
    (tmp_path / "39.txt").write_text("Another text.")
    report = corpus.add(tmp_path)
    assert (report.replaced, report.unchanged) == (1, 39)
    assert contents(corpus)[str(tmp_path / "39.txt")] == "Another text."


def test_a_server_that_hangs_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CALL_S", 2.0)
    server = MilvusServer(tmp_path)
    try:
        corpus = Corpus(server.address())
        corpus.put("note", "A text.")
        server.stop()
        with pytest.raises(CorpusError, match=r"does not answer in time$"):
            corpus.find("text")
    finally:
        server.kill()


def test_a_token_that_is_refused_is_one_line() -> None:
    grpc = pytest.importorskip("grpc")

    class Refusing(grpc.GenericRpcHandler):  # type: ignore[misc, name-defined]
        def service(self, details: Any) -> Any:
            def refuse(request: bytes, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check the password")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Refusing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(CorpusError, match=r"refuses the token that is in MILVUS_TOKEN$"):
            Corpus(f"milvus://127.0.0.1:{port}/docs").status()
    finally:
        server.stop(0)


def test_a_collection_that_is_not_in_memory_is_loaded(corpus: Corpus) -> None:
    """As after a restart of the server, or when someone has released it."""
    server = client.Server(corpus.directory)

    def release() -> None:
        for name in (server.passages, server.sources):
            server.call("release_collection", name)

    release()
    assert corpus.find("Colosseum")
    release()
    corpus.put("note", "A text about Lyon.")
    assert corpus.find("Lyon")


def test_a_server_may_be_started_again(tmp_path: Path) -> None:
    """Without its data: what milvus-lite had when it was killed it may find again, or not, or not be able to read."""
    server = MilvusServer(tmp_path)
    try:
        corpus = Corpus(server.address())
        corpus.put("note", "The tower stands in Paris.")
        server.kill()
        with pytest.raises(CorpusError, match=rf"^no Milvus answers at http://127\.0\.0\.1:{server.port}$"):
            corpus.find("tower")
        server.start(empty=True)
        with pytest.raises(CorpusError, match="contains no index: `dynamic-tinybert index add"):
            corpus.find("tower")
        corpus.put("note", "The tower stands in Lyon.")
        assert [hit.passage.text for hit in corpus.find("tower")] == ["The tower stands in Lyon."]
        assert corpus.counts() == (1, 1)
    finally:
        server.kill()


def test_an_index_that_is_dropped_or_made_anew_is_seen(corpus: Corpus, folder: Path) -> None:
    server = client.Server(corpus.directory)

    def drop() -> None:
        for name in (server.passages, server.sources):
            server.call("drop_collection", name)

    with pytest.raises(CorpusError, match="one size"):
        Corpus(str(corpus.directory), passage_size=500).status()
    drop()
    with pytest.raises(CorpusError, match="contains no index: `dynamic-tinybert index add"):
        corpus.find("tower")
    Corpus(str(corpus.directory), passage_size=100).add(folder)
    assert corpus.find("tower")
    assert corpus.status().passage_size == 100
    note = {"format": 99, "passage_size": 100, "name": "other"}
    server.put_commit(client.Commit(1, note))
    with pytest.raises(CorpusError, match="format 99"):
        corpus.find("tower")
    row = {"id": "commit", "batch": 1, "version": "", "record": "{", "doomed": "", "v": [0.0, 0.0]}
    server.put(server.sources, [row])
    with pytest.raises(CorpusError, match="damaged"):
        corpus.find("tower")
    drop()
    schema = pymilvus.MilvusClient.create_schema()
    schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("v", pymilvus.DataType.FLOAT_VECTOR, dim=2)
    server.call("create_collection", server.passages, schema=schema)
    for attempt in (corpus.status, lambda: corpus.put("a", "A tower.")):
        with pytest.raises(CorpusError, match="something else"):
            attempt()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("milvus://", "must be milvus://HOST:PORT/COLLECTION"),
        ("milvus://host", "must be milvus://HOST:PORT/COLLECTION"),
        ("milvus://host:port/docs", "must be milvus://HOST:PORT/COLLECTION"),
        ("milvus://host:99999/docs", "must be milvus://HOST:PORT/COLLECTION"),
        ("milvus://host/no-dashes", "must be milvus://HOST:PORT/COLLECTION"),
        ("milvus://host/a/b/c", "must be milvus://HOST:PORT/COLLECTION"),
        ("milvus://host/docs?x=1", "must be milvus://HOST:PORT/COLLECTION"),
        ("milvus://me:secret@host/docs", "MILVUS_TOKEN"),
        ("milvus://127.0.0.1:9/docs", "no Milvus answers at http://127.0.0.1:9"),
    ],
)
def test_an_address_that_is_none_and_a_server_that_is_not_there_are_one_line(address: str, why: str) -> None:
    with pytest.raises(CorpusError, match=why) as raised:
        Corpus(address).status()
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_addresses_of_databases_of_tls_and_of_ipv6() -> None:
    location = pytest.importorskip("dynamic_tinybert.corpus.index.location")
    found = location.parse("milvus+tls://[::1]/team/docs")
    assert (found.uri, found.database, found.collection) == ("https://[::1]:19530", "team", "docs")
    assert str(location.parse("milvus://host:1/docs")) == "milvus://host:1/docs"
    assert location.parse("my-index") == Path("my-index")
    assert location.absolute_location("milvus://host/docs") == "milvus://host/docs"
    assert location.absolute_location("my-index") == str(Path.cwd() / "my-index")


def test_more_passages_than_a_search_gives_are_listed_and_read(place: str) -> None:
    text = "".join(f"Sentence {i} of a long, long document of ours.\n\n" for i in range(17_000))
    corpus = Corpus(place, passage_size=50)
    corpus.put("huge", text)
    assert corpus.counts().passages > 16_384
    assert corpus.text("huge") == text
    assert len(corpus.find("document", 20_000)) == 16_384


def test_a_change_of_many_documents_is_rows_that_fit() -> None:
    change = milvus_writer._Change(doomed=[("part", "v" * 16 + ":" + f"{i:032x}") for i in range(1201)])
    rows = list(milvus_writer._rows_of("key", 3, change))
    assert len({row["id"] for row in rows}) == len(rows) == 3
    assert all(len(row["doomed"]) < 65_535 for row in rows)
    assert [tuple(one) for row in rows for one in json.loads(row["doomed"])] == change.doomed


def test_passages_are_no_larger_than_milvus_holds(place: str) -> None:
    with pytest.raises(ValueError, match="16,000"):
        Corpus(place, passage_size=16_001).put("a", "A text.")
    corpus = Corpus(place, passage_size=16_000)
    text = "\ufdfa" * 16_000  # each becomes eighteen characters when it is read as a word
    corpus.put("wide", text)
    assert corpus.text("wide") == text


def run(*args: str) -> Any:
    return CliRunner().invoke(app, list(args), catch_exceptions=False)


def test_the_commands(place: str, folder: Path, tmp_path: Path) -> None:
    done = run("index", "status", "--index", place)
    assert (done.exit_code, "contains no index" in done.output) == (1, True)
    done = run("index", "add", str(folder), "--index", place)
    assert done.exit_code == 0, done.output
    assert "index      5 documents in 5 passages\n" in done.output
    assert len(run("index", "list", "--index", place).output.splitlines()) == 5
    status = run("index", "status", "--index", place).output
    assert f"index        {place}\n" in status
    assert "on disk      Milvus does not say\n" in status
    assert json.loads(run("index", "status", "--index", place, "--json").output)["bytes"] is None
    answer = json.loads(run("ask", "Where does the Brandenburg Gate stand?", "--index", place, "--json").output)
    assert answer["text"] == "Berlin"
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": "When was Tokyo Tower built?"}) + "\n")
    assert run("batch", str(questions), "--out", str(tmp_path / "out"), "--index", place).exit_code == 0
    assert json.loads((tmp_path / "out").read_text())["text"] == "1958"
    assert run("index", "remove", str(folder), "--index", place).exit_code == 0
    assert "documents    0\n" in run("index", "status", "--index", place).output


def test_a_server_s_application_asks_it(corpus: Corpus, qa: QuestionAnswerer) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    application = pytest.importorskip("dynamic_tinybert.serve.application")
    options = application.ServeOptions(indexes={"docs": str(corpus.directory)}, allowed_hosts=["testserver"])
    _, asgi = application.assemble(qa, options)
    with testclient.TestClient(asgi) as client:
        came = client.post("/answer", json={"question": "Where does the Brandenburg Gate stand?", "index": "docs"})
    assert came.json()["results"][0]["answers"][0]["text"] == "Berlin"


def test_without_the_extra_one_line_names_it() -> None:
    code = (
        "import sys\nsys.modules['pymilvus'] = None\nfrom dynamic_tinybert.cli import main\n"
        "sys.argv = ['dynamic-tinybert', 'index', 'status', '--index', 'milvus://127.0.0.1:9/docs']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip().endswith(f"needs pymilvus, which is not installed: {install_command('milvus')}")
