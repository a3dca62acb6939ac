// The road from a question to an answer.

import { DynamicTinyBertError, EmptyQuestionError, ModelError } from "./errors.js";
import { resolve } from "./options.js";
import { Session } from "./session.js";
import { SpanRanker } from "./spans.js";
import { Text } from "./text.js";
import { TextTokenizer } from "./tokenizer.js";
import { strip } from "./unicode.js";
import { cutWindows } from "./windows.js";

const FORMAT = 1; // of answering.json

export class QuestionAnswerer {
  #model;
  #tokenizer;
  #session;

  constructor(model, tokenizer, session) {
    [this.#model, this.#tokenizer, this.#session] = [model, tokenizer, session];
  }

  /** Make a QuestionAnswerer from the content of a model's files. See index.d.ts. */
  static async create({ answering, tokenizer, model, ...options }) {
    if (!(answering?.format <= FORMAT)) {
      throw new ModelError(`answering.json has the format ${answering?.format}: this package reads ${FORMAT}`);
    }
    const ort = options.ort ?? (await import("onnxruntime-web/wasm"));
    return new QuestionAnswerer(answering, new TextTokenizer(tokenizer), await Session.open(ort, model, options));
  }

  get name() {
    return this.#model.name;
  }

  get precision() {
    return this.#model.precision;
  }

  /** The length configurations, the most expensive first. */
  get configurations() {
    return this.#model.configs.map((config) => ({ ...config, fractions: [...config.fractions] }));
  }

  /** Answer a question from a text. See index.d.ts. */
  async ask(question, text, options = {}) {
    for (const [name, value] of Object.entries({ question, text })) {
      if (typeof value !== "string") throw new DynamicTinyBertError(`a ${name} must be a string, not ${typeof value}`);
    }
    if (!strip(question)) throw new EmptyQuestionError("the question is empty");
    const settings = resolve(this.#model, options ?? {});
    return this.#answers(this.#tokenizer.question(question, settings.maxQuestionLength), new Text(text), settings);
  }

  async #answers(question, text, settings) {
    const ranker = new SpanRanker(text, settings.ranking);
    let count = 0;
    for (const window of cutWindows(this.#model.special_tokens, question, this.#tokenizer.text(text), settings)) {
      ranker.add(window, ...(await this.#session.predict(window, settings.choice)));
      count++;
    }
    const spent = { configuration: settings.choice.name, share: settings.choice.share, windows: count };
    const answers = ranker.ranked().map((span) => answerOf(text, span, spent));
    if (!settings.single) return answers;
    return answers[0] ?? nothing(this.#model.calibration ? 0 : null, spent);
  }

  /** Free the memory of the model. */
  async release() {
    await this.#session.release();
  }
}

function answerOf(text, span, spent) {
  return {
    text: text.slice(span.start, span.end),
    start: text.unit(span.start),
    end: text.unit(span.end),
    startCodePoint: span.start,
    endCodePoint: span.end,
    score: span.score,
    logit: span.logit,
    confidence: span.confidence,
    noAnswerLogit: span.null,
    spent,
  };
}

/** The answer from a text without words. */
function nothing(confidence, spent) {
  const places = { start: 0, end: 0, startCodePoint: 0, endCodePoint: 0 };
  return { text: "", ...places, score: 0, logit: -Infinity, confidence, noAnswerLogit: Infinity, spent };
}
