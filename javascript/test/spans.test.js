// Ranked spans equal those of the Python package, for logits that are not a model's. tests/inference/test_javascript.py
// writes the cases.

import assert from "node:assert/strict";
import { test } from "node:test";

import { resolve } from "../src/options.js";
import { SpanRanker } from "../src/spans.js";
import { Text } from "../src/text.js";
import { TextTokenizer } from "../src/tokenizer.js";
import { cutWindows } from "../src/windows.js";
import { CASES, TOKENIZER, read } from "./files.js";

test("spans of random logits equal Python's", { skip: !CASES && "run by tests/inference/test_javascript.py" }, () => {
  const tokenizer = new TextTokenizer(read(TOKENIZER));
  const model = read(`${CASES}/answering.json`);
  const cases = read(`${CASES}/spans.json`);
  assert.ok(cases.length > 100);
  for (const { text: string, question, options, logits, spans } of cases) {
    const settings = resolve(model, options);
    const text = new Text(string);
    const ranker = new SpanRanker(text, settings.ranking);
    const ids = tokenizer.question(question, settings.maxQuestionLength);
    const windows = [...cutWindows(model.special_tokens, ids, tokenizer.text(text), settings)];
    assert.equal(windows.length, logits.length);
    windows.forEach((window, i) => ranker.add(window, ...logits[i].map((values) => Float32Array.from(values))));
    const found = ranker.ranked();
    const place = JSON.stringify({ string: string.slice(0, 400), options });
    assert.deepEqual(found.map(({ start, end }) => text.slice(start, end)), spans.map((span) => span[0]), place);
    found.forEach((span, i) => {
      const [, start, end, logit, score, confidence, none] = spans[i];
      assert.deepEqual([span.start, span.end], [start, end], place);
      for (const [one, other] of [[span.logit, logit], [span.score, score], [span.confidence, confidence], [span.null, none]]) {
        assert.ok(Math.abs(one - other) < 1e-6, `${one} is not ${other}: ${place}`);
      }
    });
  }
});
