"""An engine whose model waits and fails when a test wants it to. For the tests of serving."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.reader import Reader
from dynamic_tinybert.runtime.session import Logits
from dynamic_tinybert.serve.costs import Costs
from dynamic_tinybert.serve.engine import Engine
from dynamic_tinybert.serve.options import ServeOptions

WAIT_S = 20  # for what comes at once, unless the machine is slow


class Held:
    """A runtime around another: it reads when `go` is set, and `fault` may raise, or change what it says.

    Attributes:
        go: Whether it reads; set at first.
        begun: Released at each batch.
        shapes: Rows and tokens of each batch.
    """

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.shape, self.precision, self.batch_tokens = runtime.shape, runtime.precision, runtime.batch_tokens
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.shapes: list[tuple[int, int]] = []
        self.fault: Callable[[npt.NDArray[np.int64], Logits], Logits] = lambda ids, logits: logits

    def run(self, input_ids: npt.NDArray[np.int64], *rest: npt.NDArray[np.int64]) -> Logits:
        self.shapes.append(input_ids.shape)
        self.begun.release()
        assert self.go.wait(WAIT_S)
        return self.fault(input_ids, self.runtime.run(input_ids, *rest))

    def wait_until_it_reads(self) -> None:
        assert self.begun.acquire(timeout=WAIT_S)


class Running:
    """A started engine, and what holds its model."""

    def __init__(self, engine: Engine, held: Held, options: ServeOptions) -> None:
        self.engine = engine
        self.held = held
        self.options = options

    def is_idle(self) -> bool:
        """Nothing waits, nothing is read, and nothing is left behind of what did."""
        engine = self.engine
        with engine._lock:
            return not (len(engine._scheduler) or engine._scheduler._reading or engine._jobs or engine.open)


@contextlib.contextmanager
def running(
    qa: QuestionAnswerer, *, workers: int = 1, measured: Callable[..., Costs] | None = None, **options: Any
) -> Iterator[Running]:
    """An engine that has started. What reading takes is not measured but made up, which takes no time.

    Args:
        qa: The model.
        workers: Batches read at once.
        measured: Makes `Costs` of a shape and a ladder.
        options: Those of `ServeOptions`; load control is off unless they turn it on.
    """
    held = Held(qa.reader.runtime)
    same = QuestionAnswerer.from_reader(
        Reader(qa.reader.tokenizer, held), qa.shape, qa.table, name=qa.name, calibration=qa.calibration
    )
    settings = ServeOptions(**{"slo_ms": None, **options})
    engine = Engine(same, settings, workers=workers)
    make = measured or Costs
    with mock.patch.object(Costs, "measure", lambda shape, ladder, read: make(shape, ladder)):
        engine.start()
    try:
        yield Running(engine, held, settings)
    finally:
        held.go.set()
        engine.stop()


def eventually(what: Callable[[], Any]) -> bool:
    """Whether something comes true, as it does at once unless the machine is slow."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.005)
    return False
