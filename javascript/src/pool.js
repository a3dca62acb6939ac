// The candidate spans of one text, window after window. Where two windows overlap, a span in both is one candidate, with
// the greater of its values.

const POOL = 1 << 18; // candidates held before those that cannot win are dropped

/** log(exp(a) + exp(b)), without overflow. */
export function logAddExp(a, b) {
  const top = Math.max(a, b);
  return top === -Infinity ? top : top + Math.log1p(Math.exp(Math.min(a, b) - top));
}

export class SpanPool {
  /** The log of the sum of exp(value) over the candidates so far. */
  total = -Infinity;
  #longest;
  #align;
  #enough;
  #shared = [new Float64Array(0), new Float64Array(0)]; // values, bases of those also in the next window
  #value = [];
  #base = [];
  #start = [];
  #end = [];

  constructor({ topK, maxAnswerLength, alignToWords }) {
    this.#longest = maxAnswerLength;
    this.#align = alignToWords;
    // At most (2m - 1) m different spans overlap a span of m words, including itself.
    this.#enough = topK * (2 * maxAnswerLength - 1) * maxAnswerLength;
  }

  /**
   * Add the spans of the next window of the text.
   * @param {object} window The window.
   * @param {Float32Array} logits The logits of spans, `[tokens, longest]`.
   * @param {number} base The value of a span is its logit minus this.
   * @param {Uint8Array | null} wanted Which spans can be answers; null means all. The others count in `total`.
   */
  add(window, logits, base, wanted) {
    const values = Float64Array.from(logits, (logit) => logit - base);
    const bases = new Float64Array(values.length).fill(base);
    const [before, beforeBases] = this.#shared;
    for (let i = 0; i < before.length; i++) {
      if (before[i] > values[i]) [values[i], bases[i]] = [before[i], beforeBases[i]];
    }
    const settled = window.settled * this.#longest;
    this.#shared = [values.slice(settled), bases.slice(settled)];
    this.#settle(window.text, values.subarray(0, settled), bases, wanted);
    if (this.#value.length > Math.max(POOL, 2 * this.#enough)) this.#drop();
  }

  #settle(text, values, bases, wanted) {
    let top = -Infinity;
    for (const value of values) if (value > top) top = value;
    if (top === -Infinity) return;
    const [begins, ends] = this.#align ? [text.wordStart, text.wordEnd] : [text.start, text.end];
    let sum = 0;
    for (let i = 0; i < values.length; i++) {
      if (values[i] === -Infinity) continue;
      sum += Math.exp(values[i] - top);
      if (wanted && !wanted[i]) continue;
      const first = Math.floor(i / this.#longest);
      this.#value.push(values[i]);
      this.#base.push(bases[i]);
      this.#start.push(begins[first]);
      this.#end.push(ends[first + (i % this.#longest)]);
    }
    this.total = logAddExp(this.total, top + Math.log(sum));
  }

  /** The candidates that can still win, in the order of the text. */
  best() {
    if (this.#value.length > Math.max(this.#enough, POOL / 2)) this.#drop();
    return { value: this.#value, base: this.#base, start: this.#start, end: this.#end };
  }

  /** Keep the best of equal spans, and of the different ones those that are enough. */
  #drop() {
    const best = new Map();
    this.#value.forEach((value, i) => {
      const key = this.#start[i] * 2 ** 26 + (this.#end[i] - this.#start[i]);
      const other = best.get(key);
      if (other === undefined || value > this.#value[other]) best.set(key, i);
    });
    let kept = [...best.values()].sort((a, b) => a - b);
    if (kept.length > this.#enough) {
      const values = Float64Array.from(kept, (i) => this.#value[i]).sort();
      const lowest = values[values.length - this.#enough];
      kept = kept.filter((i) => this.#value[i] >= lowest);
    }
    const at = (column) => kept.map((i) => column[i]);
    [this.#value, this.#base, this.#start, this.#end] = [this.#value, this.#base, this.#start, this.#end].map(at);
  }
}
