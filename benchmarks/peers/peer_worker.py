"""One peer, in an environment of its own: loads a model and answers what `peers.py` asks for.

    python -m benchmarks.peers.peer_worker PEER FOLDER --work FILE [--threads N] [--budget B]

FILE is JSON, `{"sets": {NAME: [[question, text], ...]}}`. Commands come on standard input, a line each, and each has
one line of JSON on standard output:

    one NAME I   question I of a set, by itself: its answer
    many NAME    all questions of a set, as this peer's users ask many: their answers
    peak         the most memory held since the start, or since last asked, in bytes
    versions     what is installed

With `--first` it answers one question, prints the answer, and is done: this is what start-up is measured with.

A peer that raises on a question has not answered it: its answer is null, and the error goes to standard error.
Nothing but the peer itself, the standard library and benchmarks.common is imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from benchmarks.common import argument_parser, peak_bytes

Pair: TypeAlias = Sequence[str]
Answers: TypeAlias = "list[str | None]"

FIRST = ("Where is the tower?", "The tower stands in Paris.")
MAX_LENGTH = 384
_BATCH = 8  # of the hand-written one: more is no faster on a processor


class Peer(NamedTuple):
    """How a peer's users ask: one question; and many, where it does more with a list than ask one by one."""

    one: Callable[[str, str], str | None]
    many: Callable[[list[str], list[str]], Answers] | None = None


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", default="full")
    parser.add_argument("--first", action="store_true")
    args = parser.parse_args()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not be taken for an answer
    peer = PEERS[args.peer](args.folder, args.threads, args.budget)
    if args.first:
        print(peer.one(*FIRST), file=replies, flush=True)
        return
    sets = json.loads(args.work.read_text("utf-8"))["sets"]
    for line in sys.stdin:
        command, *rest = line.split()
        print(json.dumps(_reply(peer, sets, command, rest)), file=replies, flush=True)


def _reply(peer: Peer, sets: dict[str, list[Pair]], command: str, rest: list[str]) -> Any:
    if command == "one":
        return _attempt(peer, sets[rest[0]][int(rest[1])])
    if command == "many":
        pairs = sets[rest[0]]
        if peer.many is None:
            return [_attempt(peer, pair) for pair in pairs]
        return peer.many([question for question, _ in pairs], [text for _, text in pairs])
    if command == "peak":
        peak = peak_bytes()
        with contextlib.suppress(OSError):  # Linux's way to begin anew
            Path("/proc/self/clear_refs").write_text("5")
        return peak
    return {x.metadata["Name"]: x.version for x in distributions()}


def _attempt(peer: Peer, pair: Pair) -> str | None:
    try:
        return peer.one(*pair)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return None


def transformers(folder: str, threads: int, _: str) -> Peer:
    """The pipeline of transformers 5.2. A list is not batched: its documentation advises against that on a CPU."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    ask = pipeline("question-answering", model=folder)
    return Peer(
        lambda question, text: ask(question=question, context=text)["answer"],
        lambda questions, texts: [found["answer"] for found in ask(question=questions, context=texts)],
    )


def haystack(folder: str, threads: int, _: str) -> Peer:
    """Haystack's reader, which takes a single question. The best answer is wanted, and there always is one."""
    import torch
    from haystack import Document
    from haystack_integrations.components.readers.transformers import TransformersExtractiveReader

    torch.set_num_threads(threads)
    reader = TransformersExtractiveReader(model=folder, top_k=1, no_answer=False)
    reader.warm_up()

    def one(question: str, text: str) -> str | None:
        found = reader.run(query=question, documents=[Document(content=text)])["answers"]
        return str(found[0].data) if found else None

    return Peer(one)


def txtai(folder: str, threads: int, _: str) -> Peer:
    """txtai's pipeline; None where it finds its answer too improbable. Its lists are a loop over the questions."""
    import torch
    from txtai.pipeline import Questions

    torch.set_num_threads(threads)
    ask = Questions(folder)
    return Peer(lambda question, text: ask([question], [text])[0])


def onnx(folder: str, threads: int, _: str) -> Peer:
    """The exported graph, padded to 384 tokens, as a script around it is usually written."""
    return _hand_written(folder, threads, padded=True)


def onnx_unpadded(folder: str, threads: int, _: str) -> Peer:
    """The same without padding, one question at a time: a careful script."""
    return _hand_written(folder, threads, padded=False)


def _hand_written(folder: str, threads: int, *, padded: bool) -> Peer:
    """Answer as the scripts do that one finds around ONNX Runtime, OpenVINO and the models themselves.

    They truncate the text to one window, most of them pad (`padding="max_length"`), and take the argmax of the start
    logits and that of the end logits; one whose end comes first is no answer. Some decode the tokens, which loses
    capitals and spaces; here the answer is cut out of the text, which is kinder.
    """
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.enable_truncation(MAX_LENGTH, strategy="only_second")
    tokenizer.no_padding()
    if padded:
        tokenizer.enable_padding(length=MAX_LENGTH)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])
    inputs = {x.name for x in session.get_inputs()}

    def batch(questions: list[str], texts: list[str]) -> Answers:
        encodings = tokenizer.encode_batch(list(zip(questions, texts, strict=True)))
        feed = {
            "input_ids": np.array([x.ids for x in encodings], np.int64),
            "attention_mask": np.array([x.attention_mask for x in encodings], np.int64),
            "token_type_ids": np.array([x.type_ids for x in encodings], np.int64),
        }
        start, end = session.run(None, {name: values for name, values in feed.items() if name in inputs})
        spans = zip(start.argmax(-1).tolist(), end.argmax(-1).tolist(), strict=True)
        return [_cut(*found) for found in zip(encodings, texts, spans, strict=True)]

    def many(questions: list[str], texts: list[str]) -> Answers:
        size = _BATCH if padded else 1
        return [
            answer
            for i in range(0, len(questions), size)
            for answer in batch(questions[i : i + size], texts[i : i + size])
        ]

    return Peer(lambda question, text: batch([question], [text])[0], many)


def _cut(encoding: Any, text: str, span: tuple[int, int]) -> str | None:
    start, end = span
    if end < start or encoding.sequence_ids[start] != 1 or encoding.sequence_ids[end] != 1:
        return None
    return text[encoding.offsets[start][0] : encoding.offsets[end][1]]


def ours(folder: str, threads: int, budget: str) -> Peer:
    """This package. A list is batched by length."""
    from dynamic_tinybert import QuestionAnswerer
    from dynamic_tinybert.model import parse_budget

    qa = QuestionAnswerer(folder, threads=threads)
    spend = parse_budget(budget)
    return Peer(
        lambda question, text: qa(question, text, budget=spend).text,
        lambda questions, texts: [answer.text for answer in qa(questions, texts, budget=spend)],
    )


PEERS: dict[str, Callable[[str, int, str], Peer]] = {
    "transformers": transformers,
    "haystack": haystack,
    "txtai": txtai,
    "onnx": onnx,
    "onnx-unpadded": onnx_unpadded,
    "ours": ours,
}

if __name__ == "__main__":
    main()
