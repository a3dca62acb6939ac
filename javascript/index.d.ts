/** Extractive question answering at any computational budget, in the browser and in Node.js. */

/** An answer: `text.slice(answer.start, answer.end) === answer.text`. */
export interface Answer {
  /** The answer; empty if there is no answer (a text without words, an impossible answer). */
  text: string;
  /** Where the answer starts, in UTF-16 code units: what `String.prototype.slice` takes. */
  start: number;
  /** Where it ends, in UTF-16 code units. */
  end: number;
  /** Where it starts, in Unicode code points: what Python counts. */
  startCodePoint: number;
  /** Where it ends, in Unicode code points. */
  endCodePoint: number;
  /** Softmax over the candidate spans of all windows of the text, in [0, 1]. */
  score: number;
  /** Start logit plus end logit; minus infinity if the text has no words. */
  logit: number;
  /** Calibrated probability that the text answers the question and that this is the answer; null without calibration. */
  confidence: number | null;
  /** The logit of no answer in the window of this answer; infinite if the text has no words. */
  noAnswerLogit: number;
  /** What the answer cost. */
  spent: Spent;
}

export interface Spent {
  /** The name of the length configuration. */
  configuration: string;
  /** Its multiply-accumulates divided by those of "full". */
  share: number;
  /** The number of windows that the model predicted. */
  windows: number;
}

/** A share of the full model's multiply-accumulates in (0, 1], or a name. */
export type Budget = number | "full" | "balanced" | "fast";

export interface AskOptions {
  /** What may be spent; "full" by default. */
  budget?: Budget;
  /** The longest window, in tokens; by default what the model says, otherwise 384. */
  maxSeqLength?: number;
  /** How much the windows of a long text overlap, in tokens; by default what the model says, otherwise 128. */
  docStride?: number;
  /** The longest question, in tokens, by default 64. A longer question is cut, with a warning. */
  maxQuestionLength?: number;
  /** The longest answer, in tokens, by default 30, before it is stretched to whole words. */
  maxAnswerLength?: number;
  /** Allow the result that there is no answer: an answer with empty text, and its score. By default false. */
  handleImpossibleAnswer?: boolean;
  /** By how much the logit of no answer must exceed that of the best span; by default the model's own, or 0. */
  noAnswerThreshold?: number | "squad2";
  /** Give what a person would underline, by default true; false: the best span of tokens as it is. */
  alignToWords?: boolean;
  /** With `topK`: leave out answers with less than this share of the best one's score, by default 0.01. */
  scoreThreshold?: number;
}

/** A length configuration of the model. */
export interface Configuration {
  name: string;
  fractions: number[];
  share: number;
  exact_match: number | null;
  f1: number | null;
}

export interface LoadOptions {
  /** Called with the bytes of model.onnx that came so far, and the total as far as it is known. */
  progress?: (loaded: number, total: number) => void;
  /**
   * ONNX Runtime: the module `onnxruntime-web/wasm` by default, or `onnxruntime-node` with
   * `executionProviders: ["cpu"]`, or one from another address.
   */
  ort?: unknown;
  /** Threads of ONNX Runtime. More than one needs a page that is isolated (the headers COOP and COEP). */
  threads?: number;
  /** Where ONNX Runtime's files .wasm and .mjs are; by default beside its module. */
  wasmPaths?: string;
  /** ONNX Runtime's execution providers; by default `["wasm"]`. */
  executionProviders?: string[];
}

export class QuestionAnswerer {
  private constructor();
  /** Make a QuestionAnswerer from the content of a model's files, for callers who fetch and keep them themselves. */
  static create(
    options: { answering: object; tokenizer: object; model: Uint8Array } & Omit<LoadOptions, "progress">,
  ): Promise<QuestionAnswerer>;
  /** The name of the model. */
  readonly name: string;
  /** The arithmetic of its projections. */
  readonly precision: "fp32" | "int8";
  /** Its length configurations, the most expensive first. */
  readonly configurations: Configuration[];
  /**
   * Answer a question from a text of any length.
   *
   * A text without words has no answer: the result has empty text and score 0, or with `topK` is an empty array.
   *
   * @throws EmptyQuestionError, BudgetError, WindowError, OptionError, ModelError
   */
  ask(question: string, text: string, options?: AskOptions & { topK?: undefined }): Promise<Answer>;
  /** Give up to `topK` answers that do not overlap, the best first. */
  ask(question: string, text: string, options: AskOptions & { topK: number }): Promise<Answer[]>;
  /** Free the memory of the model. */
  release(): Promise<void>;
}

/**
 * Load a model folder, which `dynamic-tinybert export MODEL FOLDER --format onnx` writes.
 *
 * @param folder Its address; in Node.js also a path.
 * @throws ModelError if a file is missing or of another kind; WindowError if the tokenizer is not BERT's.
 */
export function load(folder: string | URL, options?: LoadOptions): Promise<QuestionAnswerer>;

/** The base class of this package's errors. */
export class DynamicTinyBertError extends Error {}
export class EmptyQuestionError extends DynamicTinyBertError {}
export class BudgetError extends DynamicTinyBertError {}
export class WindowError extends DynamicTinyBertError {}
export class ModelError extends DynamicTinyBertError {}
export class OptionError extends DynamicTinyBertError {}
