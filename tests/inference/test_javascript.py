"""The JavaScript package in Node.js: its tokens and its ranking are those of the Python package.

This needs Node.js, but nothing from npm: tests/javascript has what does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.publish import save_onnx_folder
from support.javascript import NAMES, PACKAGE
from support.scripts import assigned, documents, strings_of_scripts


def columns(tokenizer: TextTokenizer, text: str) -> list[Any]:
    parts = list(tokenizer.text(text))
    names = ("ids", "start", "end", "word_start", "word_end")
    return [text, *(np.concatenate([getattr(p, n) for p in parts] or [[]]).astype(int).tolist() for n in names)]


def token_cases(tokenizer: TextTokenizer) -> list[list[Any]]:
    texts = [
        "",
        " \n",
        "a\ud800b \udc00",
        "x" * 101 + " " + "y" * 100,
        "[SEP] [CLS] ##ing [unk]",
        *strings_of_scripts(1500),
    ]
    texts += [" ".join(strings_of_scripts(1500, seed=1)), "é" * 70_000, "a," * 40_000, "語" * 66_000]
    # Every character of any script but the large ones of one kind, between letters and alone.
    every = [c for c in assigned(0, 0x10FFFF) if not 0x3400 <= ord(c) <= 0xD7A3 and not 0xE000 <= ord(c) <= 0xF8FF]
    every = [c for c in every if not 0x17000 <= ord(c) <= 0x18D00 and not 0x20000 <= ord(c) <= 0x3FFFF]
    every = [c for c in every if ord(c) < 0xF0000]
    texts += ["".join(f"x{c}y {c} " for c in every[i : i + 300]) for i in range(0, len(every), 300)]
    return [columns(tokenizer, text) for text in texts]


def span_case(qa: QuestionAnswerer, text: str, chance: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {"top_k": chance.choice([None, 1, 3, 8])}
    for name, values in {
        "max_answer_len": [1, 5, 12],
        "align_to_words": [False],
        "handle_impossible_answer": [True],
        "no_answer_threshold": [-3.5, "squad2", 0.25],
        "score_threshold": [0.0, 0.2],
        "max_seq_len": [100],
    }.items():
        if chance.random() < 0.3:
            options[name] = chance.choice(values)
    if "max_seq_len" in options:
        options |= {"doc_stride": chance.choice([0, 20]), "max_question_len": 40}
    settings = qa.settings(**options)
    windows = list(
        qa.reader.windows(
            "Who keeps it?",
            text,
            max_seq_len=settings.max_seq_len,
            doc_stride=settings.doc_stride,
            max_question_len=settings.max_question_len,
        )
    )
    ranking, logits = settings.ranking(text), []
    scale, noise = chance.choice([1.0, 4.0]), np.random.default_rng(chance.randrange(1 << 30))
    for window in windows:
        start, end = (np.round(noise.normal(0, scale, len(window)), 3).astype(np.float32) for _ in range(2))
        ranking.add(window, start, end)
        logits.append([start.tolist(), end.tolist()])
    return {
        "text": text,
        "question": "Who keeps it?",
        "options": {NAMES[name]: value for name, value in options.items()},
        "logits": logits,
        "spans": [
            [text[s.start : s.end], s.start, s.end, s.logit, s.score, s.confidence, s.null] for s in ranking.ranked()
        ],
    }


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node.js in PATH: apt-get install nodejs")
    return found


@pytest.fixture(scope="module")
def cases(qa: QuestionAnswerer, node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Python computes, for the tests in javascript/test."""
    folder, chance = tmp_path_factory.mktemp("cases"), random.Random(0)
    (folder / "tokens.json").write_text(json.dumps(token_cases(qa.reader.tokenizer)), "utf-8")
    texts = [*documents(500), *documents(10, seed=1, longest=900), *strings_of_scripts(150, seed=2), "", " "]
    spans = [span_case(qa, text, chance) for text in texts]
    spans.append(span_case(qa, "".join(documents(60, seed=3, longest=1200)), chance))
    (folder / "spans.json").write_text(json.dumps(spans), "utf-8")
    save_onnx_folder(open_folder(), folder / "exported", precision="fp32")
    (folder / "answering.json").write_bytes((folder / "exported" / "answering.json").read_bytes())
    return folder


@pytest.mark.slow
def test_the_package_in_node_tokenizes_and_ranks_as_python_does(node: str, cases: Path) -> None:
    tests = sorted(str(path) for path in (PACKAGE / "test").glob("*.test.js"))
    assert len(tests) > 2
    done = subprocess.run(
        [node, "--test", *tests],
        env={**os.environ, "DYNAMIC_TINYBERT_CASES": str(cases)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "# skipped 0" in done.stdout or "skipped 0" in done.stdout
