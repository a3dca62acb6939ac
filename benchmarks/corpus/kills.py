"""What SIGKILL at a random moment leaves of `index add` and of `batch`, and what the same command makes of it again.

usage: python -m benchmarks.corpus.kills [--index-kills 200] [--batch-kills 50] [--output results/corpus/kills.md]

Each kill hits a process of the command line, in its work; its commits come at moments that are drawn, milliseconds to
tenths of a second apart instead of five seconds. What is there then must be whole. The command is run
again, to its end, perhaps after more kills, and nothing may be lost or doubled. What is found is kept in --work, so
that a long run can be made in parts: each call goes on up to the numbers of kills.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import common
from dynamic_tinybert import Corpus

FILES, RECORDS, CHANGED = 240, 300, (40, 200)
QUESTIONS = 240
_NEW_INDEX = 10  # after so many kills, the next one hits an index that is not there yet
_AGAIN = 0.4  # how likely the run after a kill is killed, too
_PEOPLE = ("Agnes Moreau", "Jørn Utzon", "Ада Лавлейс", "Émile Nouguier", "Carl Langhans", "Maurice Koechlin")
_CODE = (
    "import sys\nfrom dynamic_tinybert.corpus import ingest\nfrom dynamic_tinybert.cli import main\n"
    "ingest._COMMIT_SECONDS = float(sys.argv.pop(1))\nprint('ready', file=sys.stderr, flush=True)\nmain()"
)


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A kill and what was found.

    Attributes:
        command: `index add` or `batch`.
        after: Seconds from when the command began to work to the signal.
        done: The share of the work that was there after the kill, in [0, 1].
        left: What was wrong with what the kill left; empty if nothing was.
        ended: Whether the next run went to its end; otherwise it was killed, too.
        faults: What was wrong at that end; empty if nothing was.
    """

    command: str
    after: float
    done: float
    left: str
    ended: bool = False
    faults: str = ""


def main() -> None:
    args = parse()
    say = common.Progress()
    args.work.mkdir(parents=True, exist_ok=True)
    store = args.work / "kills.json"
    kills = [Kill(**row) for row in json.loads(store.read_text("utf-8"))] if store.exists() else []
    end = time.monotonic() + args.seconds
    for kind, most in ((IndexKills, args.index_kills), (BatchKills, args.batch_kills)):
        ours = [kill for kill in kills if kill.command == kind.command]
        run = kind(args.work / kind.command.replace(" ", "-"), f"{kind.command} {args.seed} {len(ours)}")
        while len(ours) < most and time.monotonic() < end:
            new = run.kill_and_end()
            ours, kills = ours + new, kills + new
            store.write_text(json.dumps([asdict(kill) for kill in kills]), "utf-8")
            bad = sum(bool(kill.left or kill.faults) for kill in ours)
            say(f"{kind.command}: {len(ours)} of {most} kills, {bad} with faults")
    page = markdown(kills)
    common.write_page(page, args.output)
    raise SystemExit("**missed**" in page)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    parser.add_argument("--index-kills", type=int, default=200, help="[default: %(default)s]")
    parser.add_argument("--batch-kills", type=int, default=50, help="[default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no more after so many [default: no limit]")
    parser.add_argument("--seed", type=int, default=0, help="[default: %(default)s]")
    parser.add_argument("--work", type=Path, default=Path(".work", "kills"), help="[default: %(default)s]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the page to this file")
    return parser.parse_args()


class Kills:
    """Runs of a command that are killed, and run again to the end."""

    command = ""

    def __init__(self, work: Path, seed: str) -> None:
        self.work, self.draw = work, random.Random(seed)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self._seconds: list[float] = []  # that whole runs took

    def kill_and_end(self) -> list[Kill]:
        """Prepare, kill one or several runs, and run to the end; return the kills that hit a running process."""
        self.prepare()
        if not self._seconds:  # to know how long it takes
            self._run(None)
            self.prepare()
        kills: list[Kill] = []
        while True:
            most = statistics.median(self._seconds[-9:])
            after = self.draw.uniform(0, 1.05 * most)
            if self._run(after):
                done, left = self.found()
                kills.append(Kill(command=self.command, after=round(after, 3), done=round(done, 3), left=left))
            if not kills or self.draw.random() >= _AGAIN:
                break
        problem = self._run(None)
        faults = problem if isinstance(problem, str) else self.faults()
        if kills:
            kills[-1] = Kill(**{**asdict(kills[-1]), "ended": True, "faults": faults})
        elif faults:
            raise RuntimeError(f"{self.command} without a kill: {faults}")
        return kills

    def _run(self, kill_after: float | None) -> bool | str:
        """Run the command; return whether it was killed, or what it said if it failed."""
        command = [sys.executable, "-c", _CODE, f"{10 ** self.draw.uniform(-3, -0.5):.4f}", *self.arguments()]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        process.stderr.readline()
        began = time.monotonic()
        if kill_after is not None:
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.kill()
        told = process.stderr.read().strip()
        process.stderr.close()
        status = process.wait()
        if kill_after is None and not status:
            self._seconds.append(time.monotonic() - began)
        return status < 0 or (f"exit status {status}: {told[-300:]}" if status else False)

    def prepare(self) -> None:
        raise NotImplementedError

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def found(self) -> tuple[float, str]:
        """Return how much of the work is there after a kill, and what is wrong with it."""
        raise NotImplementedError

    def faults(self) -> str:
        """Return what is wrong after a run to the end."""
        raise NotImplementedError


class IndexKills(Kills):
    """Kills of `index add` of a folder of small files, of which many have changed, and a file of records."""

    command = "index add"

    def __init__(self, work: Path, seed: str) -> None:
        super().__init__(work, seed)
        self.folder, self.index = work / "documents", work / "index"
        self.folder.mkdir()
        self._expected: dict[str, str] = {}  # names and texts, when all is added
        self._before: dict[str, str] = {}  # and before it began
        self._rounds = 0

    def prepare(self) -> None:
        if self._rounds % _NEW_INDEX == 0:
            shutil.rmtree(self.index, ignore_errors=True)
            self._expected = {}
        self._before = dict(self._expected)
        self._rounds += 1
        numbers = range(FILES) if not self._before else self.draw.sample(range(FILES), self.draw.randrange(*CHANGED))
        for number in numbers:
            text = self._text(f"File {number}") * self.draw.randrange(1, 40)
            (self.folder / f"{number}.txt").write_text(text, "utf-8")
        rows = {str(number): self._text(f"Record {number}") for number in range(RECORDS)}
        lines = (json.dumps({"id": name, "text": text}) + "\n" for name, text in rows.items())
        (self.folder / "rows.jsonl").write_text("".join(lines), "utf-8")
        self._expected = {str(path.absolute()): path.read_text("utf-8") for path in self.folder.glob("*.txt")}
        self._expected |= {f"{(self.folder / 'rows.jsonl').absolute()}#{name}": text for name, text in rows.items()}

    def _text(self, what: str) -> str:
        return f"{what}, round {self._rounds}: the lamp was lit by {self.draw.choice(_PEOPLE)}. "

    def arguments(self) -> list[str]:
        return ["index", "add", str(self.folder), "--index", str(self.index)]

    def found(self) -> tuple[float, str]:
        if not (self.index / "dynamic-tinybert-index.json").exists():
            return 0.0, "the index is gone" if self._before else ""
        texts, wrong = self._contents()
        lost = [name for name in self._before if name not in texts]
        other = [
            name for name, text in texts.items() if text not in (self._expected.get(name), self._before.get(name, ""))
        ]
        if lost or other:
            wrong += f"; {len(lost)} lost, {len(other)} neither old nor new"
        new = [name for name, text in self._expected.items() if text != self._before.get(name)]
        return sum(texts.get(name) == self._expected[name] for name in new) / len(new), wrong.strip("; ")

    def faults(self) -> str:
        texts, wrong = self._contents()
        if texts != self._expected:
            lost, more = len(self._expected.keys() - texts.keys()), len(texts.keys() - self._expected.keys())
            wrong += f"; {lost} lost, {more} that were never there, or other texts"
        if Corpus(self.index).status().incomplete:
            wrong += "; files are incomplete"
        return wrong.strip("; ")

    def _contents(self) -> tuple[dict[str, str], str]:
        """Return names and texts, and what does not agree with them."""
        corpus = Corpus(self.index)
        infos = list(corpus.documents())
        texts = {info.name: corpus.text(info.name) for info in infos}
        status, wrong = corpus.status(), ""
        if len(texts) != len(infos):
            wrong += f"; {len(infos) - len(texts)} documents doubled"
        sums = len(infos), sum(info.passages for info in infos), sum(len(text) for text in texts.values())
        if sums != (status.documents, status.passages, status.characters):
            wrong += f"; {sums} documents, passages and characters, and the status says otherwise"
        return texts, wrong


class BatchKills(Kills):
    """Kills of `batch`, and of `batch --resume`."""

    command = "batch"

    def __init__(self, work: Path, seed: str) -> None:
        super().__init__(work, seed)
        self.questions, self.answers = work / "questions.jsonl", work / "answers.jsonl"
        rows = []
        for number in range(QUESTIONS):
            text = f"The lamp of station {number} was lit by {self.draw.choice(_PEOPLE)} in {1700 + number}. "
            row = {"question": f"Who lit the lamp of station {number}?", "text": text * self.draw.randrange(1, 12)}
            rows.append(row | ({"id": f"q{number}"} if number % 2 else {}))
        self.questions.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        self._whole = b""

    def prepare(self) -> None:
        if self._seconds and not self._whole:
            self._whole = self.answers.read_bytes()
        self.answers.unlink(missing_ok=True)

    def arguments(self) -> list[str]:
        options = ["--out", str(self.answers), "--budget", "0.2", "--workers", "2"]
        return ["batch", str(self.questions), *options, *(["--resume"] if self.answers.exists() else [])]

    def found(self) -> tuple[float, str]:
        there = self.answers.read_bytes() if self.answers.exists() else b""
        return len(there) / len(self._whole), "" if self._whole.startswith(there) else "other answers, or another order"

    def faults(self) -> str:
        there = self.answers.read_bytes()
        if there == self._whole:
            return ""
        lines, expected = there.splitlines(), self._whole.splitlines()
        return (
            f"{len(set(expected) - set(lines))} lines lost, {len(lines) - len(set(lines))} doubled, or in another order"
        )


def markdown(kills: Sequence[Kill]) -> str:
    parts = [
        "# Kills of `index add` and `batch`",
        common.heading("tantivy", "onnxruntime"),
        "A process of the command line gets SIGKILL at a random moment of its work, and commits at random moments. "
        "What is there then is checked. Then the same command runs again to its end (`batch` with `--resume`), or "
        f"is killed again, with a probability of {_AGAIN:.0%}. `index add` adds {FILES} files, of which many have "
        f"changed since the last round, and a file of {RECORDS} records that has changed; each {_NEW_INDEX}th round "
        f"begins without an index. `batch` answers {QUESTIONS} questions.",
        common.table(("", "`index add`", "`batch`"), [(what, *found) for what, *found in _rows(kills)]),
    ]
    bad = [kill for kill in kills if kill.left or kill.faults]
    parts += [
        f"- {kill.command}, after {kill.after} s: {kill.left or '-'}; at the end: {kill.faults or '-'}" for kill in bad
    ]
    return "\n\n".join(parts) + "\n"


def _rows(kills: Sequence[Kill]) -> list[tuple[str, ...]]:
    by_command = [[kill for kill in kills if kill.command == kind.command] for kind in (IndexKills, BatchKills)]

    def row(what: str, *found: object) -> tuple[str, ...]:
        return (what, *map(str, found))

    def verdict(attribute: str) -> list[str]:
        counts = [sum(bool(getattr(kill, attribute)) for kill in ours) for ours in by_command]
        return [f"{count} {'**missed**' if count else 'met'}" for count in counts]

    return [
        row("kills", *map(len, by_command)),
        row("of them, before anything of the round was there", *(sum(x.done == 0 for x in o) for o in by_command)),
        row("with a part of it", *(sum(0 < x.done < 1 for x in o) for o in by_command)),
        row("with all of it", *(sum(x.done == 1 for x in o) for o in by_command)),
        row("runs to the end after them", *(sum(x.ended for x in o) for o in by_command)),
        row("kills that left something lost, half or doubled", *verdict("left")),
        row("ends with something lost or doubled", *verdict("faults")),
    ]


if __name__ == "__main__":
    main()
