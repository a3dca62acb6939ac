// Files that the tests read.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The folder of what Python computed, if Python started the tests. */
export const CASES = process.env.DYNAMIC_TINYBERT_CASES;
export const TOKENIZER = fileURLToPath(
  new URL("../../src/dynamic_tinybert/embedded/tokenizer.json", import.meta.url),
);

export const read = (path) => JSON.parse(readFileSync(path, "utf8"));
