// Classes of characters.

import assert from "node:assert/strict";
import { test } from "node:test";

import { strip, stripRight } from "../src/unicode.js";

test("white space at the ends is stripped as Python strips it", () => {
  assert.equal(strip(" \u001c\u00a0\u3000 a b\u2028\t\n"), "a b");
  assert.equal(stripRight(" a\u00a0"), " a");
  assert.equal(strip("\ufeffa"), "\ufeffa"); // none of Python's
  assert.equal(strip(" \n "), "");
  assert.equal(strip(""), "");
});

test("a long run of blanks inside a question takes no quadratic time", () => {
  const blanks = " ".repeat(5_000_000);
  assert.equal(strip(`a${blanks}b `).length, blanks.length + 2);
});
