// Run the graph in ONNX Runtime: one session for every budget and length.

import { lengths } from "./budget.js";
import { ModelError } from "./errors.js";

export class Session {
  #ort;
  #session;
  #last = Promise.resolve();
  #released = false;

  static async open(ort, bytes, { threads, wasmPaths, executionProviders = ["wasm"] } = {}) {
    if (threads !== undefined) ort.env.wasm.numThreads = threads;
    if (wasmPaths !== undefined) ort.env.wasm.wasmPaths = wasmPaths;
    const session = new Session();
    session.#ort = ort;
    try {
      session.#session = await ort.InferenceSession.create(bytes, { executionProviders, logSeverityLevel: 3 });
    } catch (error) {
      throw new ModelError(`ONNX Runtime cannot open model.onnx: ${String(error?.message ?? error).slice(0, 300)}`);
    }
    return session;
  }

  /** The start and end logits of a window, `[tokens]` each. A session runs one window at a time. */
  predict(window, choice) {
    if (this.#released) throw new ModelError("the model was released: load it again");
    const result = this.#last.then(() => this.#run(window, choice));
    this.#last = result.catch(() => {});
    return result;
  }

  async #run(window, choice) {
    const count = window.ids.length;
    const row = (values) => new this.#ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const { start_logits: start, end_logits: end } = await this.#session.run(
      {
        input_ids: row(window.ids),
        attention_mask: row(new Array(count).fill(1)),
        token_type_ids: row(window.types),
        lengths: row(lengths(choice.fractions, count)),
      },
      ["start_logits", "end_logits"],
    );
    if (!start.data.every(Number.isFinite) || !end.data.every(Number.isFinite)) {
      throw new ModelError("the model computes logits that are not finite: its weights are damaged, or overflow");
    }
    return [start.data, end.data];
  }

  async release() {
    if (this.#released) return;
    this.#released = true;
    await this.#last;
    await this.#session.release();
  }
}
