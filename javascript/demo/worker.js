// Answers questions away from the page. Without a bundler a worker has no import map, so ONNX Runtime comes by its path.

import * as ort from "../node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { load } from "../src/index.js";

const progress = (loaded, total) => postMessage({ kind: "progress", loaded, share: loaded / total });

const begin = performance.now();
const model = load(new URL("../model/", import.meta.url), { ort, progress }).then((qa) => {
  postMessage({ kind: "ready", name: qa.name, precision: qa.precision, milliseconds: performance.now() - begin });
  return qa;
});
model.catch((error) => {
  postMessage({ kind: "error", message: `${error.message}. Did you run: dynamic-tinybert export embedded model --format onnx` });
});

addEventListener("message", async ({ data }) => {
  try {
    const qa = await model;
    const begin = performance.now();
    const answers = await qa.ask(data.question, data.text, data.options);
    postMessage({ kind: "answers", answers, milliseconds: performance.now() - begin });
  } catch (error) {
    postMessage({ kind: "error", message: error.message });
  }
});
