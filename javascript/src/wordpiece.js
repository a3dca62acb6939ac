// BERT's tokenizer: its normalizer, its split into words, WordPiece. @huggingface/tokenizers has all of these, but gives
// no offsets, and an answer is a place in the text: so each character carries the place that it comes from.

import { WindowError, shown } from "./errors.js";
import * as tables from "./tables.js";
import { isBertSpace } from "./unicode.js";

const ASCII = 0x80;
const [SPACE, UNKNOWN_CHARACTER] = [0x20, 0xfffd];

/** A test of whether a code point is in a table of ranges. */
function inside(ranges) {
  return (code) => {
    let [low, high] = [0, ranges.length >> 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ranges[2 * middle + 1] < code) low = middle + 1;
      else high = middle;
    }
    return low < ranges.length >> 1 && ranges[2 * low] <= code;
  };
}

const isRemoved = inside(tables.REMOVED);
const isPunctuation = inside(tables.PUNCTUATION);
const isMark = inside(tables.MARKS);
const isIdeograph = inside(tables.IDEOGRAPHS);
const isDecomposed = inside(tables.DECOMPOSED);

/** Whether Python splits lines at a code point that BERT's normalizer deletes. */
const isLineEnd = (code) => code === 0x0b || code === 0x0c || (code >= 0x1c && code <= 0x1f) || code === 0x85;

/** Whether words are split at a code point: Rust's White_Space. */
const isSeparator = (code) =>
  code === SPACE || (code >= 9 && code <= 13) || code === 0x85 || (code > 0x85 && isBertSpace(String.fromCodePoint(code)));

export class WordPiece {
  #vocabulary;
  #normalizer;
  #unknown;
  #prefix;
  #longestWord;
  #longestToken = 0;

  /**
   * @param {object} file The content of a tokenizer.json with BERT's normalizer and words, and WordPiece.
   * @throws {WindowError} It is of another kind.
   */
  constructor(file) {
    const [model, normalizer] = [file?.model, file?.normalizer];
    const kinds = [normalizer?.type, file?.pre_tokenizer?.type, model?.type ?? "WordPiece"].map(String).join(", ");
    if (kinds !== "BertNormalizer, BertPreTokenizer, WordPiece") {
      throw new WindowError(`this package has the tokenizer of BERT (WordPiece), not ${kinds}: use the Python package`);
    }
    const ordinary = (file.added_tokens ?? []).find((token) => !token.special);
    if (ordinary) throw new WindowError(`the added token ${shown(ordinary.content)} of the tokenizer is not supported`);
    this.#vocabulary = new Map(Object.entries(model.vocab));
    for (const token of this.#vocabulary.keys()) this.#longestToken = Math.max(this.#longestToken, token.length);
    this.#unknown = this.#vocabulary.get(model.unk_token);
    if (this.#unknown === undefined) throw new WindowError(`the tokenizer has no ${shown(model.unk_token)}`);
    this.#prefix = model.continuing_subword_prefix ?? "##";
    this.#longestWord = model.max_input_chars_per_word ?? 100;
    this.#normalizer = normalizer;
  }

  /**
   * Tokenize a piece of a text.
   * @param {Text} text The text; places are in its code points.
   * @returns {{ids: number[], start: number[], end: number[], word: number[]}} For each token: its id, where it starts
   *   and ends, and the number of its word.
   */
  encode(text, begin = 0, end = text.length) {
    const tokens = { ids: [], start: [], end: [], word: [] };
    let [word, places, number] = [[], [], 0];
    const finish = () => {
      if (word.length) this.#split(word, places, number++, tokens);
      [word, places] = [[], []];
    };
    const take = (code, place) => {
      if (isSeparator(code)) {
        finish();
      } else if (isPunctuation(code)) {
        finish();
        word.push(code);
        places.push(place);
        finish();
      } else {
        word.push(code);
        places.push(place);
      }
    };
    for (let place = begin; place < end; place++) this.#normalize(text.at(place), place, take);
    finish();
    return tokens;
  }

  /** Give each code point that a character becomes to `take`, with the character's place. */
  #normalize(character, place, take) {
    const { clean_text, handle_chinese_chars, lowercase } = this.#normalizer;
    const stripAccents = this.#normalizer.strip_accents ?? lowercase;
    let code = character.codePointAt(0);
    if (code >= 0xd800 && code <= 0xdfff) code = UNKNOWN_CHARACTER; // half of a pair
    if (clean_text && isLineEnd(code)) code = SPACE; // BERT would join the words beside it
    if (code < ASCII) {
      if (clean_text && isRemoved(code)) return;
      take(lowercase && code >= 65 && code <= 90 ? code + 32 : code, place);
      return;
    }
    if (clean_text) {
      if (isRemoved(code)) return;
      if (isBertSpace(character)) code = SPACE;
    }
    const alone = handle_chinese_chars && isIdeograph(code);
    if (alone) take(SPACE, place);
    let string = String.fromCodePoint(code);
    if (stripAccents && isDecomposed(code)) string = string.normalize("NFD");
    for (const part of string) {
      if (stripAccents && isMark(part.codePointAt(0))) continue;
      for (const lower of lowercase ? part.toLowerCase() : part) take(lower.codePointAt(0), place);
    }
    if (alone) take(SPACE, place);
  }

  /** Split a word into the longest tokens from its left, or make it the unknown token. */
  #split(word, places, number, tokens) {
    const before = tokens.ids.length;
    const add = (id, first, last) => {
      tokens.ids.push(id);
      tokens.start.push(places[first]);
      tokens.end.push(places[last - 1] + 1);
      tokens.word.push(number);
    };
    let start = word.length > this.#longestWord ? -1 : 0;
    while (start >= 0 && start < word.length) {
      let [end, id] = [Math.min(word.length, start + this.#longestToken), undefined];
      for (; end > start; end--) {
        const part = String.fromCodePoint(...word.slice(start, end));
        id = this.#vocabulary.get(start ? this.#prefix + part : part);
        if (id !== undefined) break;
      }
      if (id !== undefined) add(id, start, end);
      start = id === undefined ? -1 : end;
    }
    if (start < 0) {
      for (const column of Object.values(tokens)) column.length = before;
      add(this.#unknown, 0, word.length);
    }
  }
}
