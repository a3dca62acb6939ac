// Tokens, and where they are, equal those of the Python package. tests/inference/test_javascript.py writes the cases.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Text } from "../src/text.js";
import { TextTokenizer } from "../src/tokenizer.js";
import { CASES, TOKENIZER, read } from "./files.js";

test("tokens of generated strings equal Python's", { skip: !CASES && "run by tests/inference/test_javascript.py" }, () => {
  const tokenizer = new TextTokenizer(read(TOKENIZER));
  const cases = read(`${CASES}/tokens.json`);
  assert.ok(cases.length > 100);
  for (const [text, ids, start, end, wordStart, wordEnd] of cases) {
    const tokens = tokenizer.text(new Text(text));
    const found = [tokens.ids, tokens.start, tokens.end, tokens.wordStart, tokens.wordEnd].map((x) => Array.from(x));
    assert.deepEqual(found, [ids, start, end, wordStart, wordEnd], JSON.stringify(text.slice(0, 200)));
  }
});

test("a place in code points and in UTF-16 names the same characters", () => {
  const tokenizer = new TextTokenizer(read(TOKENIZER));
  for (const string of ["😀 The 𝒯ower 🗼 in Zu\u0308rich", "नमस्ते 👩‍🚀 한국어 ﬁn", "a\ud800b \udc00 c"]) {
    const text = new Text(string);
    const points = Array.from(string);
    const tokens = tokenizer.text(text);
    assert.ok(tokens.length);
    for (let i = 0; i < tokens.length; i++) {
      const here = points.slice(tokens.start[i], tokens.end[i]).join("");
      assert.equal(text.slice(tokens.start[i], tokens.end[i]), here);
      assert.equal(string.slice(text.unit(tokens.start[i]), text.unit(tokens.end[i])), here);
      assert.equal(text.point(text.unit(tokens.end[i])), tokens.end[i]);
    }
  }
});

test("a tokenizer of another kind is refused with its kind", () => {
  const file = read(TOKENIZER);
  assert.throws(() => new TextTokenizer({ ...file, normalizer: { type: "NFC" } }), /not NFC, BertPreTokenizer, WordPiece/);
  assert.throws(() => new TextTokenizer({}), /not undefined/);
  const added = [...file.added_tokens, { content: "<hl>", special: false }];
  assert.throws(() => new TextTokenizer({ ...file, added_tokens: added }), /"<hl>"/);
});
