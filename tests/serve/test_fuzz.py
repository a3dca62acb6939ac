"""Requests made of the OpenAPI document, right ones and wrong ones: the server does as it says, and never fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")
pytest.importorskip("schemathesis", reason="needs schemathesis: pip install 'dynamic-tinybert[test-serve]'")

import schemathesis
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from starlette.types import Receive, Scope, Send

from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.serve import Stopping, create_app, wrap
from support import fuzzing
from support.engines import Running, running
from support.waiting import eventually

pytestmark = [pytest.mark.serve, pytest.mark.filterwarnings("ignore:.*cut to max_question_len")]


@pytest.fixture(scope="module")
def engine(tiny: QuestionAnswerer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory: Path = tmp_path_factory.mktemp("index")
    Corpus(directory, qa=tiny).put("tower", "The tower stands in Paris.")
    with running(tiny, workers=2, allowed_hosts=("testserver",)) as engine:  # as schemathesis calls it
        engine.engine.corpora["docs"] = Corpus(directory, qa=engine.engine.qa)
        yield engine


@pytest.fixture(scope="module")
def api(engine: Running) -> Any:
    stopping = Stopping()
    app = wrap(create_app(engine.engine, engine.options, stopping), engine.options, stopping)

    async def started(scope: Scope, receive: Receive, send: Send) -> None:
        """The app; its engine runs already, and goes on when a client is done."""
        if scope["type"] == "lifespan":
            for state in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{state}.complete"})
        else:
            await app(scope, receive, send)

    config = SchemathesisConfig.from_path(Path(fuzzing.__file__).with_suffix(".toml"))
    return schemathesis.openapi.from_asgi("/openapi.json", started, config=config)


def failures(api: Any, **how: Any) -> tuple[list[str], Counter[int]]:
    """Run schemathesis, all its phases and checks; return what it finds wrong, and how many had which status."""
    api.config.generation.update(deterministic=True, **how)
    api.config.checks.update(included_check_names=["all"])
    found: list[str] = []
    statuses: Counter[int] = Counter()
    for event in from_schema(api).execute():
        if isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            statuses.update(i.response.status_code for i in recorder.interactions.values() if i.response is not None)
            for checks in recorder.checks.values():
                found += [
                    f"{event.label}: {check.name}: {check.failure_info and check.failure_info.failure}"
                    for check in checks
                    if check.status != Status.SUCCESS
                ]
        elif isinstance(event, (events.NonFatalError, events.FatalError)):
            found.append(str(event))
    return found, statuses


def test_what_is_right_is_answered_and_as_described(api: Any) -> None:
    found, statuses = failures(api, modes=[GenerationMode.POSITIVE], max_examples=100)
    assert found == []
    assert statuses[200] > 100


def test_what_is_wrong_is_refused_and_as_described(api: Any) -> None:
    found, statuses = failures(api, modes=[GenerationMode.NEGATIVE], max_examples=100)
    assert found == []
    assert statuses[422] > 50
    assert statuses[405] > 10


def test_nothing_is_left_behind(engine: Running, api: Any) -> None:
    assert eventually(engine.is_idle)
    totals = engine.engine.metrics.totals()
    assert totals["accepted"] == totals["answered"]
