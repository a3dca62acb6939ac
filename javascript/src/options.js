// The options of an answer: defaults and checks.

import { select } from "./budget.js";
import { OptionError, shown, wholeNumber } from "./errors.js";
import { checkLengths } from "./windows.js";

const LONGEST_WINDOW = 384; // tokens, if the model's table does not say, or the model's limit if that is less
const OVERLAP = 128; // tokens likewise, or half of the room that a window has for text if that is less
const MOST = 1e9;

const DEFAULTS = {
  budget: "full",
  topK: null,
  maxSeqLength: null,
  docStride: null,
  maxQuestionLength: 64,
  maxAnswerLength: 30,
  handleImpossibleAnswer: false,
  noAnswerThreshold: null,
  alignToWords: true,
  scoreThreshold: 0.01,
};

/** Check options and resolve them for a model, whose answering.json is `model`. */
export function resolve(model, options = {}) {
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(DEFAULTS, name));
  if (unknown) throw new OptionError(`there is no option ${unknown}; there are ${Object.keys(DEFAULTS).join(", ")}`);
  const given = { ...DEFAULTS };
  for (const [name, value] of Object.entries(options)) if (value !== undefined) given[name] = value;
  const { positions, windows, special_tokens: special } = model;
  const specials = special.between.length + 2;
  const maxSeqLength = given.maxSeqLength ?? Math.min(windows.max_seq_len ?? LONGEST_WINDOW, positions);
  const maxQuestionLength = wholeNumber(given.maxQuestionLength, "maxQuestionLength", 1);
  wholeNumber(maxSeqLength, "maxSeqLength", 1);
  const room = Math.floor((maxSeqLength - maxQuestionLength - specials) / 2);
  const docStride = given.docStride ?? Math.max(0, Math.min(windows.doc_stride ?? OVERLAP, room));
  wholeNumber(docStride, "docStride", 0);
  checkLengths({ maxSeqLength, docStride, maxQuestionLength, positions, specials });
  const score = given.scoreThreshold;
  if (typeof score !== "number" || !(score >= 0 && score <= 1)) {
    throw new OptionError(`scoreThreshold must be from 0 to 1, not ${shown(score)}`);
  }
  return {
    choice: select(model.configs, given.budget),
    maxSeqLength,
    docStride,
    maxQuestionLength,
    ranking: {
      topK: given.topK === null ? 1 : wholeNumber(given.topK, "topK", 1),
      maxAnswerLength: Math.min(wholeNumber(given.maxAnswerLength, "maxAnswerLength", 1), positions),
      alignToWords: Boolean(given.alignToWords),
      scoreThreshold: score,
      handleImpossibleAnswer: Boolean(given.handleImpossibleAnswer),
      noAnswerThreshold: threshold(model, given.noAnswerThreshold),
      calibration: model.calibration,
    },
    single: given.topK === null,
  };
}

/** The no-answer threshold: a number, "squad2", or null for the model's own. */
function threshold(model, given) {
  const { threshold: own, squad2 } = model.no_answer;
  if (given === null || given === "squad2") return (given && squad2) ?? own ?? 0;
  if (typeof given !== "number" || !(Math.abs(given) <= MOST)) {
    throw new OptionError(
      `noAnswerThreshold must be "squad2" or a difference of logits, for example -10 or 0, not ${shown(given)}`,
    );
  }
  return given;
}
