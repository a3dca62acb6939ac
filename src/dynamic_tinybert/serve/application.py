"""The whole application: a model, its indexes and the middleware, for whatever server runs it."""

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
    """Put together what answers and what speaks HTTP. The app starts the engine, and stops it, by ASGI's lifespan.

    Args:
        qa: The model. Each of the `workers` reads by itself, so its runtime should use one thread for each.
        options: How to serve.
        workers: Batches that are read at once.
        stopping: Whether the server is stopping.

    Raises:
        BudgetError: A budget makes no sense for the model.
        CorpusError: An index cannot be used.
        ValueError: An API key or a host is empty.
    """
    engine = Engine(qa, options, workers=workers)
    if options.indexes:
        from dynamic_tinybert.corpus import Corpus

        for name, directory in options.indexes.items():
            corpus = Corpus(directory, qa=engine.qa)
            corpus.counts()  # what is wrong with it is told before anything is served
            engine.corpora[name] = corpus
    # Python keeps each warning that it has given, by its text, and this one's is made of a client's numbers.
    warnings.filterwarnings("ignore", message=".*was cut to max_question_len")
    return engine, wrap(create_app(engine, options, stopping), options, stopping)
