"""Make the bodies of responses from the results of the engine: see `schemas`."""

from __future__ import annotations

import math
from typing import Any

from dynamic_tinybert import __version__
from dynamic_tinybert.model import Budget
from dynamic_tinybert.serve.engine import Engine, Result
from dynamic_tinybert.serve.http.schemas import Configuration, IndexInfo, Info, Limits, LoadControlInfo, ModelInfo
from dynamic_tinybert.serve.options import ServeOptions


def milliseconds(seconds: float) -> float:
    """Convert seconds to milliseconds, rounded for responses and the log."""
    return round(seconds * 1000, 3)


def result_body(result: Result) -> dict[str, Any]:
    """Return a `ResultItem` as a dictionary, without pydantic, because this is faster."""
    item: dict[str, Any] = {
        "answers": [_answer(answer) for answer in result.answers],
        "configuration": result.spent.configuration,
        "share": round(result.spent.share, 4),
        "windows": result.spent.windows,
        "macs": result.spent.macs,
        "bert_base_macs": result.spent.bert_base_macs,
        "queue_ms": milliseconds(result.queue_seconds),
        "read_ms": milliseconds(result.read_seconds),
        "tokens": None,
    }
    if result.tokens is not None:
        tokens = result.tokens
        item["tokens"] = {"start": tokens.start, "end": tokens.end, "layers": tokens.layers}
    return item


def _answer(answer: Any) -> dict[str, Any]:
    item = {
        "text": answer.text,
        "start": answer.start,
        "end": answer.end,
        "score": answer.score,
        "logit": answer.logit if math.isfinite(answer.logit) else None,
        "confidence": answer.confidence,
    }
    if hasattr(answer, "document"):
        item |= {
            "document": answer.document,
            "title": answer.title,
            "passage": answer.passage,
            "passage_start": answer.passage_start,
            "retrieval": answer.retrieval,
        }
    return item


def info_body(engine: Engine, options: ServeOptions) -> Info:
    """Return the body of `/info`."""
    model, table = engine.model, engine.model.table
    shape = model.shape
    control = None
    if math.isfinite(engine.objective.seconds):
        control = LoadControlInfo(
            slo_ms=engine.objective.seconds * 1000,
            min_share=round(engine.ladder[engine.lowest].share, 4),
            configuration=engine.ladder[engine.present()].name,
        )
    named: tuple[Budget, ...] = ("full", "balanced", "fast")
    return Info(
        version=__version__,
        model=ModelInfo(
            name=model.name,
            layers=shape.layers,
            hidden=shape.hidden,
            heads=shape.heads,
            feed_forward=shape.feed_forward,
            positions=shape.positions,
            precision=model.reader.runtime.precision,
            calibrated=model.calibration is not None,
            no_answer_threshold=table.no_answer_threshold,
        ),
        measured_on=table.measured_on,
        configurations=[
            Configuration(
                name=choice.name,
                share=round(choice.share, 4),
                exact_match=choice.exact_match,
                f1=choice.f1,
                fractions=list(choice.config.fractions),
            )
            for choice in table.choices
        ],
        budgets={str(name): table.select(shape, name).name for name in named},
        indexes=[_index(engine, name) for name in engine.corpora],
        load_control=control,
        limits=Limits(
            max_body_bytes=options.max_body_bytes,
            max_text_characters=options.max_text_characters,
            max_question_characters=options.max_question_characters,
            max_questions=options.max_questions,
            max_waiting=options.max_waiting,
            max_batch_tokens=options.max_batch_tokens,
            timeout_ms=options.timeout_ms,
        ),
    )


def _index(engine: Engine, name: str) -> IndexInfo:
    from dynamic_tinybert.corpus import CorpusError

    try:
        counts = engine.corpora[name].counts()
    except CorpusError:
        return IndexInfo(name=name, documents=None, passages=None)
    return IndexInfo(name=name, documents=counts.documents, passages=counts.passages)
