// Load a model folder, which `dynamic-tinybert export MODEL FOLDER --format onnx` writes.

import { ModelError } from "./errors.js";
import { QuestionAnswerer } from "./qa.js";

/** Load a model with a function that reads a file of its folder: name, function of progress or undefined -> bytes. */
export async function loadWith(read, { progress, ...options }) {
  const [answering, tokenizer, model] = await Promise.all([
    json(read, "answering.json"),
    json(read, "tokenizer.json"),
    read("model.onnx", progress),
  ]);
  return QuestionAnswerer.create({ answering, tokenizer, model, ...options });
}

async function json(read, name) {
  const bytes = await read(name);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new ModelError(`${name} of the model is not JSON: ${error.message}`);
  }
}
