"""The complete application for any ASGI server: a model, its indexes and the middleware."""

from __future__ import annotations

import warnings

from starlette.types import ASGIApp

from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.serve.engine import Engine
from dynamic_tinybert.serve.http import Stopping, create_app, wrap
from dynamic_tinybert.serve.options import ServeOptions


def assemble(
    qa: QuestionAnswerer, options: ServeOptions, *, workers: int = 1, stopping: Stopping | None = None
) -> tuple[Engine, ASGIApp]:
    """Assemble the engine and the app. The app starts and stops the engine in its ASGI lifespan.

    Args:
        qa: The model. The `workers` predict in parallel, so its runtime should use a single thread.
        options: The options of the server.
        workers: How many batches are predicted at the same time.
        stopping: Whether the server is stopping.

    Raises:
        BudgetError: A budget is not valid for the model.
        CorpusError: An index cannot be used.
        ValueError: An API key or a host is empty.
    """
    engine = Engine(qa, options, workers=workers)
    if options.indexes:
        from dynamic_tinybert.corpus import Corpus

        for name, directory in options.indexes.items():
            corpus = Corpus(directory, qa=engine.qa)
            corpus.counts()  # raises now if the index cannot be used, not at the first request
            engine.corpora[name] = corpus
    # Python stores the text of each warning; this text contains numbers of a client, so the store would grow.
    warnings.filterwarnings("ignore", message=".*was cut to max_question_len")
    return engine, wrap(create_app(engine, options, stopping), options, stopping)
