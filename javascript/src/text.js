// A text with the places of its characters. Python counts code points, JavaScript counts UTF-16 code units: an emoji is
// one of the first and two of the second. Everything in this package counts code points, as Python does, so that all
// limits are the same; an answer has both.

import { isSpace } from "./unicode.js";

const ASTRAL = /[\u{10000}-\u{10ffff}]/u;

export class Text {
  #points;
  #units = null;

  /** @param {string} string The text. Half a surrogate pair counts as one character. */
  constructor(string) {
    this.string = string;
    this.#points = ASTRAL.test(string) ? Array.from(string) : null;
    this.length = this.#points ? this.#points.length : string.length;
  }

  /** The character at a place; undefined outside of the text. */
  at(index) {
    return this.#points ? this.#points[index] : this.string[index];
  }

  /** The place of a character in UTF-16 code units. */
  unit(index) {
    return this.#points ? this.#starts()[Math.min(index, this.length)] : index;
  }

  /** The place of a UTF-16 code unit in code points. */
  point(unit) {
    if (!this.#points) return unit;
    const starts = this.#starts();
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (starts[middle] < unit) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  slice(start, end) {
    const [low, high] = [Math.max(0, start), Math.min(this.length, end)];
    return low < high ? this.string.slice(this.unit(low), this.unit(high)) : "";
  }

  /** The matches of a pattern with the flags g and u between two places. A pattern looks behind the first, not over the last. */
  matches(pattern, low, high) {
    const part = this.string.slice(0, this.unit(Math.min(high, this.length)));
    const found = [];
    pattern.lastIndex = this.unit(low);
    for (let match = pattern.exec(part); match; match = pattern.exec(part)) {
      found.push({ start: this.point(match.index), end: this.point(pattern.lastIndex), text: match[0] });
    }
    return found;
  }

  /** The first match of a pattern between two places, or null. */
  first(pattern, low, high) {
    const part = this.string.slice(0, this.unit(Math.min(high, this.length)));
    pattern.lastIndex = this.unit(low);
    const match = pattern.exec(part);
    return match && { start: this.point(match.index), end: this.point(pattern.lastIndex), text: match[0] };
  }

  /** Where a string first begins between two places; -1 if it does not. */
  find(needle, low, high) {
    if (low > this.length) return -1;
    const at = this.string.slice(0, this.unit(Math.min(high, this.length))).indexOf(needle, this.unit(low));
    return at < 0 ? -1 : this.point(at);
  }

  /** Where a string last begins between two places; -1 if it does not. */
  rfind(needle, low, high) {
    const at = this.string.slice(this.unit(low), this.unit(Math.min(high, this.length))).lastIndexOf(needle);
    return at < 0 ? -1 : this.point(this.unit(low) + at);
  }

  spaceAt(index) {
    return isSpace(this.at(index));
  }

  #starts() {
    if (!this.#units) {
      this.#units = new Uint32Array(this.length + 1);
      let unit = 0;
      for (let i = 0; i < this.length; i++) {
        this.#units[i] = unit;
        unit += this.#points[i].length;
      }
      this.#units[this.length] = unit;
    }
    return this.#units;
  }
}
