"""An index that changes, is replaced as a whole, is damaged and mended, under whoever asks it.

What it held, and when it was damaged, is written down, so that answers can be judged: the words of an answer must be
those of a text that its document had between question and answer; and "cannot be used now" (503) is right only while
the index was damaged or being replaced.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_tinybert import Corpus

DOCUMENTS = 40
_PEOPLE = ("Agnes Moreau", "Jørn Utzon", "Ада Лавлейс", "Émile Nouguier", "Carl Langhans", "Maurice Koechlin")
_FILLER = "The keepers wrote the weather of each day into a book, and nobody read it again. "
_DAMAGED_S = 5.0
_COMMAND = [sys.executable, "-m", "dynamic_tinybert", "index", "add"]


class Held(NamedTuple):
    """A text of a document, and since when and until when it may have been there."""

    text: str
    since: float
    until: float = float("inf")


class MovingIndex:
    """An index in a folder, and a thread that changes and damages it until `stop`.

    Args:
        work: A folder for the index and all that it needs; what is there is removed.
        seed: Of what is drawn.
        pause_s: Seconds between changes.
        damage_every: One of so many changes is damage, which is mended after some seconds.

    Attributes:
        folder: The folder of the index.
        done: How often what was done.
        failed: What could not be done, which should be nothing.
    """

    def __init__(self, work: Path, seed: int, pause_s: float, damage_every: int) -> None:
        self.folder = work / "index"
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self._work, self._draw = work, random.Random(f"index {seed}")
        self._pause_s, self._damage_every = pause_s, damage_every
        self._history: dict[str, list[Held]] = defaultdict(list)
        self._unusable: list[tuple[float, float]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changes of the index")
        for old in (self.folder, work / "files", work / "other", work / "old"):
            shutil.rmtree(old, ignore_errors=True)
        (work / "files").mkdir(parents=True)
        self._put(range(DOCUMENTS))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def judge(self, document: str, start: int, end: int, words: str, sent: float, done: float) -> bool:
        """Return whether the document had these words at this place at some moment between two moments."""
        with self._lock:
            return any(
                held.text[start:end] == words and held.since <= done and held.until >= sent
                for held in self._history[document]
            )

    def was_unusable(self, sent: float, done: float) -> bool:
        """Return whether the index was damaged or being replaced at some moment between two moments."""
        with self._lock:
            return any(since <= done and until >= sent for since, until in self._unusable)

    # Changes.

    def _run(self) -> None:
        kinds: list[tuple[Callable[[], object], int]] = [
            (self._put_some, 40), (self._remove_one, 15), (self._add_files, 20), (self._command, 3), (self._replace, 5),
        ]  # fmt: skip
        turn = 0
        while not self._stop.wait(self._draw.expovariate(1 / self._pause_s)):
            turn += 1
            (act,) = self._draw.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
            try:
                if turn % self._damage_every == 0:
                    self._damage_and_mend()
                else:
                    act()
            except Exception as error:  # told at the end: the run goes on
                self.failed.append(f"{type(error).__name__}: {error}"[:300])

    def _text(self, number: int) -> str:
        who, year = self._draw.choice(_PEOPLE), self._draw.randrange(1700, 2000)
        return f"The lamp of station {number} was lit by {who} in {year}. " + _FILLER * self._draw.randrange(1, 30)

    @contextlib.contextmanager
    def _changing(self, texts: dict[str, str | None]) -> Iterator[None]:
        """Note that documents get other texts, or none, at some moment within."""
        since = time.monotonic()
        with self._lock:
            before = {name: len(self._history[name]) for name in texts}
            for name, text in texts.items():
                if text is not None:
                    self._history[name].append(Held(text, since))
        yield
        with self._lock:
            for name, count in before.items():
                for place, held in enumerate(self._history[name][:count]):
                    if held.until == float("inf"):
                        self._history[name][place] = held._replace(until=time.monotonic())
                recent = [held for held in self._history[name] if held.until > since - 300]
                self._history[name] = recent

    def _put(self, numbers: Any) -> None:
        texts: dict[str, str | None] = {f"station-{number}": self._text(number) for number in numbers}
        with self._changing(texts):
            Corpus(self.folder).put_many((name, "", text or "") for name, text in texts.items())

    def _put_some(self) -> None:
        self._put(self._draw.sample(range(DOCUMENTS), self._draw.randrange(1, 6)))
        self.done["texts put or replaced"] += 1

    def _remove_one(self) -> None:
        there = sorted(info.name for info in Corpus(self.folder).documents())
        name = self._draw.choice(there)
        if len(there) > DOCUMENTS // 2:
            with self._changing({name: None}):
                Corpus(self.folder).remove(name)
            self.done["a document removed"] += 1

    def _files(self) -> dict[str, str | None]:
        """Change some files, and return what the index must hold of all of them."""
        folder = self._work / "files"
        for _ in range(self._draw.randrange(1, 4)):
            number = self._draw.randrange(1000, 1000 + DOCUMENTS // 2)
            path = folder / f"{number}.txt"
            if path.exists() and self._draw.random() < 0.3:
                path.unlink()
            else:
                path.write_text(self._text(number), "utf-8")
        there: dict[str, str | None] = {os.path.abspath(path): path.read_text("utf-8") for path in folder.iterdir()}
        gone = [name for name in self._history if name.startswith(os.path.abspath(folder)) and name not in there]
        return there | dict.fromkeys(gone)

    def _add_files(self) -> None:
        with self._changing(self._files()):
            Corpus(self.folder).add(self._work / "files", prune=True)
        self.done["a folder of files added again"] += 1

    def _command(self) -> None:
        with self._changing(self._files()):
            command = [*_COMMAND, str(self._work / "files"), "--prune", "--index", str(self.folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}: {done.stderr}")
        self.done["`index add` as a process"] += 1

    def _replace(self) -> None:
        """Put another index into the place of this one, as the documentation says."""
        other, old = self._work / "other", self._work / "old"
        texts: dict[str, str | None] = {f"station-{number}": self._text(number) for number in range(DOCUMENTS)}
        with self._changing({**dict.fromkeys(list(self._history)), **texts}):
            Corpus(other).put_many((name, "", text or "") for name, text in texts.items())
            with self._unusable_now():
                self.folder.rename(old)
                other.rename(self.folder)
            shutil.rmtree(old)
        self.done["replaced as a whole"] += 1

    # Damage.

    @contextlib.contextmanager
    def _unusable_now(self) -> Iterator[None]:
        with self._lock:
            self._unusable.append((time.monotonic(), float("inf")))
        try:
            yield
        finally:
            with self._lock:
                self._unusable[-1] = self._unusable[-1][0], time.monotonic()

    def _damage_and_mend(self) -> None:
        kinds = (self._flipped, self._cut, self._removed, self._piped, self._emptied, self._gone, self._linked)
        damage = self._draw.choice(kinds)
        with self._unusable_now(), damage():
            self._stop.wait(_DAMAGED_S)
        self.done[f"damaged: {damage.__name__[1:]}"] += 1

    def _segment(self) -> Path:
        suffixes = (".term", ".idx", ".pos", ".fast", ".fieldnorm", ".store")
        files = [path for path in (self.folder / "tantivy").iterdir() if path.suffix in suffixes]
        return self._draw.choice(sorted(files))

    @contextlib.contextmanager
    def _whole_again(self, path: Path) -> Iterator[bytes]:
        """Mend a file at the end: over what is there, or by another file of its name."""
        content = path.read_bytes()
        yield content
        if self._draw.random() < 0.5 and path.is_file():
            path.write_bytes(content)
            return
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(content)
        part.replace(path)

    @contextlib.contextmanager
    def _flipped(self) -> Iterator[None]:
        path = self._segment()
        with self._whole_again(path) as content, path.open("r+b") as file:
            at = self._draw.randrange(len(content))
            file.seek(at)
            file.write(bytes([content[at] ^ 4]))
            file.flush()
            yield

    @contextlib.contextmanager
    def _cut(self) -> Iterator[None]:
        path = self._segment()
        with self._whole_again(path) as content:
            os.truncate(path, self._draw.randrange(len(content)))
            yield

    @contextlib.contextmanager
    def _removed(self) -> Iterator[None]:
        path = self._segment()
        with self._whole_again(path):
            path.unlink()
            yield

    @contextlib.contextmanager
    def _piped(self) -> Iterator[None]:
        path = self._segment()
        with self._whole_again(path):
            path.unlink()
            os.mkfifo(path)
            yield

    @contextlib.contextmanager
    def _emptied(self) -> Iterator[None]:
        path = self.folder / "tantivy" / "meta.json"
        with self._whole_again(path):
            path.write_bytes(b"")
            yield

    @contextlib.contextmanager
    def _gone(self) -> Iterator[None]:
        self.folder.rename(self._work / "old")
        yield
        (self._work / "old").rename(self.folder)

    @contextlib.contextmanager
    def _linked(self) -> Iterator[None]:
        self.folder.rename(self._work / "old")
        self.folder.symlink_to(self._work / "nothing")
        yield
        self.folder.unlink()
        (self._work / "old").rename(self.folder)
