"""Answer a file of questions on a Ray cluster, with Ray Data.

The calling process reads the questions and writes the answers, in order. So each answer is written once, even if
machines are lost: Ray Data gives their work to other machines. The model, and the index if there is one, must be on
each machine, under the same path.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import pickle
import socket
import warnings
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import ray
import ray.data
from ray.exceptions import RayError

from dynamic_tinybert.batch import BatchError, Setup, Summary
from dynamic_tinybert.batch.answering import Answering, Chunk, Done, Progress, answer_lines, run
from dynamic_tinybert.errors import DynamicTinyBertError, check_from_one
from dynamic_tinybert.folder import EMBEDDED, open_folder
from dynamic_tinybert.model import ConfigTable
from dynamic_tinybert.runtime import choose_precision

_CHUNKS = 512  # the most chunks of one Ray dataset ...
_CHARACTERS = 1 << 26  # ... if they have fewer characters than this; they wait in the memory of the calling process
_RETRIES = 5  # of a chunk whose worker died: perhaps a machine was lost, perhaps the chunk kills each worker
_PATIENCE = 5  # seconds for the connection to the cluster


def answer_file_on_ray(
    questions: Path | BinaryIO,
    out: Path | BinaryIO,
    setup: Setup,
    *,
    address: str,
    workers: int | None = None,
    chunk: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Answer a file of questions on a Ray cluster. The output is the same as that of `answer_file`.

    Args:
        questions: The file or stream of questions; only this process reads it.
        out: The file or stream of answers; only this process writes it.
        setup: The options for each worker. The model and the index must be on the worker's machine.
        address: The address of the cluster for `ray.init`: `HOST:PORT` or `auto` on a machine of the cluster, or
            `local` to start a cluster on this machine alone. Ignored if the process is already connected.
        workers: The most processes that answer at the same time; by default one for each core of the cluster.
        chunk: The most questions that a worker takes at a time; by default `setup.chunk`.
        resume: Continue after the complete lines in `out`, if there are any.
        progress: Called with the bytes of `questions` that are done, the bytes in total, and a text about the speed.

    Raises:
        BatchError: There is no cluster at this address; a worker cannot answer at all; a chunk kills its workers
            repeatedly; or see `answer_file`.
        OSError: A file cannot be read or written; the run can be resumed.
        ValueError: `workers` or `chunk` is below 1, both files are the same, or the address is not valid.
    """
    chunk = setup.chunk if chunk is None else chunk
    check_from_one(**{k: v for k, v in (("workers", workers), ("chunk", chunk)) if v is not None})
    described = setup.described  # before it is changed for the workers, so that it is that of the local command
    setup = _wherever_it_works(_in_one_precision(setup))
    with _cluster(address):
        return run(
            questions,
            out,
            lambda chunks: _on_ray(chunks, setup, workers),
            chunk=chunk,
            resume=resume,
            needs_text=setup.needs_text,
            options=described,
            progress=progress,
        )


def _in_one_precision(setup: Setup) -> Setup:
    """Choose the precision here if the model is here too, so that the answers do not depend on a worker's processor."""
    if setup.precision != "auto":
        return setup
    try:
        folder = open_folder(setup.model)
        measured = ConfigTable.read(folder.shape, folder.length_configs).precision
    except DynamicTinyBertError:  # a worker will say so, if it cannot open the model either
        return setup
    return replace(setup, precision=choose_precision(setup.precision, measured))


def _wherever_it_works(setup: Setup) -> Setup:
    """Make the paths absolute, because workers have another working directory. Links are not resolved."""
    model = setup.model
    if model != EMBEDDED and os.path.isdir(model):
        model = os.path.abspath(model)
    if setup.index is None:
        return replace(setup, model=model)
    from dynamic_tinybert.corpus import absolute_location

    index = absolute_location(setup.index)
    return replace(setup, model=model, index=index)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # for a cluster that starts here: the user was not asked
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        why = " ".join(str(error).split())[:300]
        raise BatchError(f"no Ray cluster answers at {address}: {why}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Check that a server listens at the host and port of an address, because Ray itself tries for minutes."""
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(
            "the address of a Ray cluster must be HOST:PORT, auto or local, as seen from one of its machines, not "
            f"{address!r:.80}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise BatchError(f"no Ray cluster answers at {address}: {error.strerror or error}") from None


def _on_ray(chunks: Iterator[Chunk], setup: Setup, workers: int | None) -> Generator[Done, None, None]:
    """Answer chunks with Ray Data, at most `_CHUNKS` per dataset, and yield the results in order."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised
    options: dict[str, Any] = {"num_cpus": 1, "max_retries": _RETRIES}  # by default Ray Data tries for ever
    if workers is not None:
        options["concurrency"] = workers
    work = functools.partial(_answer_row, setup=setup)
    while part := list(_portion(chunks)):
        rows = [{"number": number, "records": pickle.dumps(chunk.records)} for number, chunk in enumerate(part)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray 2.64 will move max_retries
            answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map(work, **options)
        done = 0
        try:
            for row in _rows(answers):
                if row["number"] != done:
                    raise AssertionError(f"chunk {row['number']} came where {done} was due")
                if row["error"]:
                    raise BatchError(row["error"])
                yield Done(pickle.loads(row["lines"]), part[done].end)
                done += 1
        except RayError as error:
            lines = [line for line in str(error).strip().split("\n") if line.strip()]
            why = lines[-1].strip()[:300] if lines else type(error).__name__
            raise BatchError(f"Ray could not continue: {why}") from error
        if done != len(part):
            raise AssertionError(f"{done} of {len(part)} chunks came back")


def _rows(answers: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset, each of which is a block.

    Not by `iter_rows`: its thread that fetches blocks ahead outlives an interrupted iteration, and ends the whole
    process if it wakes after `ray.shutdown` (Ray 2.60).
    """
    for block in answers.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from block.to_pylist()


def _portion(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks of one dataset."""
    size = 0
    for chunk in itertools.islice(chunks, _CHUNKS):
        yield chunk
        size += chunk.size
        if size >= _CHARACTERS:
            return


@functools.lru_cache(maxsize=1)
def _loaded(setup: Setup) -> Answering:
    """Load the model once in each process, because Ray reuses its processes for many tasks."""
    from dynamic_tinybert.qa import QuestionAnswerer

    return setup.answering(QuestionAnswerer(setup.model, precision=setup.precision, threads=1))


def _answer_row(row: dict[str, Any], setup: Setup) -> dict[str, Any]:
    """Answer a chunk in a process of Ray. If no question can be answered at all, the row has an `error`."""
    from dynamic_tinybert.answer import LogitsError
    from dynamic_tinybert.folder import ModelFolderError

    lines, why = b"", ""
    try:
        lines = pickle.dumps(answer_lines(_loaded(setup), pickle.loads(row["records"])))
    except (BatchError, LogitsError, ModelFolderError, OSError) as error:
        why = f"a worker cannot answer: {' '.join(str(error).split())}"
    return {"number": row["number"], "lines": lines, "error": why}
