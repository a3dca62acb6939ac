// The package in Node.js: files come from a folder, or by fetch from an address.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { ModelError } from "./errors.js";
import { load as fetched } from "./index.js";
import { loadWith } from "./load.js";

export * from "./errors.js";
export { QuestionAnswerer } from "./qa.js";

/** Load a model folder from a path or an address. See index.d.ts. */
export async function load(folder, given = {}) {
  const options = { ...given, ort: given.ort ?? (await import("onnxruntime-web")) }; // its build for Node.js
  if (/^https?:/.test(String(folder))) return fetched(folder, options);
  const path = String(folder).startsWith("file:") ? fileURLToPath(folder) : String(folder);
  return loadWith(async (name, onBytes) => {
    try {
      const bytes = await readFile(join(path, name));
      onBytes?.(bytes.length, bytes.length);
      return bytes;
    } catch (error) {
      throw new ModelError(`${join(path, name)} cannot be read: ${error.message}`);
    }
  }, options);
}
