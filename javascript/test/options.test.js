// Options, budgets and lengths.

import assert from "node:assert/strict";
import { test } from "node:test";

import { lengths, select } from "../src/budget.js";
import { resolve } from "../src/options.js";

const row = (name, share, f1, fractions) => ({ name, share, f1, fractions, exact_match: f1 });
const MODEL = {
  positions: 512,
  special_tokens: { cls: 101, between: [102], sep: 102, pad: 0 },
  windows: {},
  configs: [
    row("full", 1, 80, [1, 1]),
    row("a", 0.7, 79.5, [0.9, 0.5]),
    row("b", 0.5, 78, [0.5, 0.3]),
    row("c", 0.3, 70, [0.3, 0.1]),
  ],
  no_answer: { threshold: -0.5, squad2: -10 },
  calibration: null,
};

test("a budget selects the most accurate configuration that costs no more", () => {
  const name = (budget) => select(MODEL.configs, budget).name;
  assert.deepEqual(["full", 1, "balanced", 0.7, "fast", 0.69, 0.3, 0.01].map(name), "full full a a b b c c".split(" "));
});

test("a budget that is none is refused with its value", () => {
  for (const budget of [0, 1.5, NaN, "cheap", null, true, {}]) {
    assert.throws(() => select(MODEL.configs, budget), /a budget must be a share in \(0, 1\]/);
  }
});

test("names of budgets select full in a table without measurements", () => {
  const configs = MODEL.configs.map((config) => ({ ...config, f1: null }));
  assert.deepEqual(["balanced", "fast", 1, 0.6].map((budget) => select(configs, budget).name), ["full", "full", "full", "b"]);
});

test("lengths never fall below two tokens, nor exceed the window", () => {
  assert.deepEqual(lengths([1, 0.07, 0.001], 100), [100, 7, 2]);
  assert.deepEqual(lengths([1, 0.5], 1), [1, 1]);
});

test("options out of range are refused with their value", () => {
  const wrong = [
    [{ topk: 3 }, /there is no option topk/],
    [{ topK: 0 }, /topK must be at least 1, not 0/],
    [{ topK: 1.5 }, /topK must be a whole number, not 1.5/],
    [{ maxAnswerLength: 0 }, /maxAnswerLength/],
    [{ scoreThreshold: 2 }, /scoreThreshold must be from 0 to 1, not 2/],
    [{ maxSeqLength: 513 }, /maxSeqLength 513 is more than the 512 tokens/],
    [{ maxSeqLength: 70, docStride: 3 }, /raise maxSeqLength/],
    [{ docStride: -1 }, /docStride must be at least 0/],
    [{ noAnswerThreshold: "squad" }, /noAnswerThreshold/],
  ];
  for (const [options, message] of wrong) assert.throws(() => resolve(MODEL, options), message);
});

test("the model's own thresholds and lengths are the defaults", () => {
  const { ranking, maxSeqLength, docStride } = resolve(MODEL, {});
  assert.deepEqual([ranking.noAnswerThreshold, maxSeqLength, docStride], [-0.5, 384, 128]);
  assert.equal(resolve(MODEL, { noAnswerThreshold: "squad2" }).ranking.noAnswerThreshold, -10);
  assert.equal(resolve({ ...MODEL, no_answer: { threshold: null, squad2: null } }).ranking.noAnswerThreshold, 0);
  assert.equal(resolve({ ...MODEL, positions: 128 }).docStride, 30);
});
