// The package in a browser, or in a worker: files come by fetch.

import { ModelError } from "./errors.js";
import { loadWith } from "./load.js";

export * from "./errors.js";
export { QuestionAnswerer } from "./qa.js";

/** Load a model folder from an address. See index.d.ts. */
export function load(address, options = {}) {
  const folder = new URL(String(address), globalThis.document?.baseURI ?? globalThis.location?.href);
  const { search } = folder;
  if (!folder.pathname.endsWith("/")) folder.pathname += "/";
  const place = (name) => Object.assign(new URL(name, folder), { search });
  return loadWith((name, onBytes) => read(place(name), onBytes), options);
}

async function read(url, onBytes) {
  let response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new ModelError(`${url} cannot be read: ${error.message}`);
  }
  if (!response.ok) throw new ModelError(`${url} cannot be read: the server answered ${response.status}`);
  const total = Number(response.headers.get("content-encoding") ? 0 : response.headers.get("content-length"));
  if (!onBytes || !response.body) return new Uint8Array(await response.arrayBuffer());
  const [parts, reader] = [[], response.body.getReader()];
  let size = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    size += part.value.length;
    onBytes(size, Math.max(size, total));
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
