// Rank the spans of all windows of a text by their logits: see dynamic_tinybert/inference/spans.py.

import { SpanPool, logAddExp } from "./pool.js";
import { isSensible, lineEnds, sensible, stretched, wholePairs, wordsOfUnspaced } from "./tidy.js";
import { wholeCharacters } from "./unicode.js";

export class SpanRanker {
  #text;
  #options;
  #pool;
  #rest; // all spans, until a window has a sensible one; then null
  #looks; // whether to look at all spans of a window, not only at its best one
  #null = Infinity; // the logit of no answer, the minimum over the windows

  /**
   * @param {Text} text The text.
   * @param {object} options `topK`, `maxAnswerLength`, `alignToWords`, `scoreThreshold`, `handleImpossibleAnswer`,
   *   `noAnswerThreshold` (a number), `calibration` (or null).
   */
  constructor(text, options) {
    this.#text = text;
    this.#options = options;
    this.#pool = new SpanPool(options);
    this.#rest = options.alignToWords ? new SpanPool(options) : null;
    this.#looks = options.topK > 1;
  }

  /** Add the next window of the text, with its start and end logits. */
  add(window, start, end) {
    const { maxAnswerLength: longest, alignToWords } = this.#options;
    const none = start[0] + end[0];
    this.#null = Math.min(this.#null, none);
    const logits = spanLogits(window, start, end, longest);
    let wanted = null;
    if (alignToWords) {
      // Once one was looked at, all are: what is not sensible there may be in the next window, too.
      this.#looks ||= !this.#beginsWell(window, logits);
      if (this.#looks) wanted = sensible(this.#text, window.text, longest);
      window = { ...window, text: wordsOfUnspaced(this.#text, window.text) };
    }
    if (this.#rest) {
      if (logits.some((logit, i) => logit > -Infinity && (!wanted || wanted[i]))) this.#rest = null;
      else this.#rest.add(window, logits, none, null);
    }
    this.#pool.add(window, logits, none, wanted);
  }

  /**
   * The best answers, the best first; none if the text has no tokens. Each has `start` and `end` in code points (both 0
   * for no answer), `logit`, `score`, `confidence` (or null) and `null`, the logit of no answer in its window.
   */
  ranked() {
    const { handleImpossibleAnswer, noAnswerThreshold, topK } = this.#options;
    let [found, total] = [this.#chosen((this.#rest ?? this.#pool).best()), this.#pool.total];
    if (handleImpossibleAnswer && Number.isFinite(this.#null)) {
      total = logAddExp(total, -noAnswerThreshold);
      found.push({ value: -noAnswerThreshold, base: this.#null, start: 0, end: 0 });
      found = found.sort((a, b) => b.value - a.value).slice(0, topK);
    }
    return found.map(({ value, base, start, end }) => ({
      start,
      end,
      logit: end > start ? value + base : base,
      score: Math.exp(value - total),
      null: base,
      confidence: this.#confidence(start, end, value),
    }));
  }

  /** Whether the best span of a window is sensible; then no other needs to be looked at. */
  #beginsWell(window, logits) {
    const best = indexOfMost(logits);
    if (best < 0 || logits[best] === -Infinity) return true;
    const { maxAnswerLength: longest } = this.#options;
    const first = Math.floor(best / longest);
    const [begin, end] = [window.text.wordStart[first], window.text.wordEnd[first + (best % longest)]];
    return !lineEnds(this.#text, begin, end).length && isSensible(this.#text, begin, end);
  }

  /** Choose the best spans that do not overlap, the best first. */
  #chosen(spans) {
    const { topK, scoreThreshold } = this.#options;
    const lowest = scoreThreshold ? Math.log(scoreThreshold) : -Infinity;
    const left = Float64Array.from(spans.value);
    const chosen = [];
    while (chosen.length < topK) {
      const best = indexOfMost(left);
      const value = left[best];
      if (best < 0 || value === -Infinity || (chosen.length && value < chosen[0].value + lowest)) break;
      const [begin, stop] = [spans.start[best], spans.end[best]];
      let [start, end] = this.#finished(begin, stop);
      if (chosen.some((other) => start < other.end && other.start < end)) [start, end] = [begin, stop];
      chosen.push({ value, base: spans.base[best], start, end });
      for (let i = 0; i < left.length; i++) {
        if (spans.start[i] < end && spans.end[i] > start) left[i] = -Infinity;
      }
      left[best] = -Infinity;
    }
    return chosen;
  }

  /** A span with whole characters and, if it is aligned, whole numbers, names and pairs of brackets. */
  #finished(start, end) {
    if (this.#options.alignToWords) {
      [start, end] = stretched(this.#text, start, end);
      [start, end] = wholePairs(this.#text, start, end);
    }
    return wholeCharacters(this.#text, start, end);
  }

  #confidence(start, end, value) {
    const { calibration } = this.#options;
    if (!calibration) return null;
    const score = Math.exp(value - this.#pool.total); // among the spans, without "no answer"
    if (start === end || !(score > 0) || !Number.isFinite(value)) return 0;
    const x = calibration.margin * value + calibration.log_score * Math.log(score) + calibration.bias;
    return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
  }
}

/** Start logit plus end logit of every span, `[tokens, longest]`; minus infinity beyond the end of the window. */
function spanLogits(window, start, end, longest) {
  const count = window.text.length;
  const band = new Float32Array(count * longest).fill(-Infinity);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < Math.min(longest, count - i); j++) {
      band[i * longest + j] = start[window.offset + i] + end[window.offset + i + j];
    }
  }
  return band;
}

/** The index of the first of the greatest values; -1 without values. */
function indexOfMost(values) {
  let best = values.length ? 0 : -1;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}
