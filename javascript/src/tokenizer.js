// Tokenize questions and texts as the model needs them. A long text is tokenized in pieces, as in Python.

import { EmptyQuestionError } from "./errors.js";
import { Text } from "./text.js";
import { continues, isAlnum, isBertSpace, isPunctuation, strip } from "./unicode.js";
import { WordPiece } from "./wordpiece.js";

const PIECE = 1 << 16; // characters tokenized at a time
const MOST_MARKS = 64;

/** The tokens of a text, as arrays of equal length: ids, and where each token and its word start and end. */
export class Tokens {
  constructor(ids, start, end, wordStart, wordEnd) {
    Object.assign(this, { ids, start, end, wordStart, wordEnd });
  }

  get length() {
    return this.ids.length;
  }

  slice(from, to) {
    const part = (column) => column.slice(from, to);
    return new Tokens(...[this.ids, this.start, this.end, this.wordStart, this.wordEnd].map(part));
  }
}

export class TextTokenizer {
  #model;

  constructor(file) {
    this.#model = new WordPiece(file);
  }

  /** The token ids of a question. If there are more than `longest`, the rest is cut. */
  question(question, longest) {
    const { ids } = this.#model.encode(new Text(strip(question)));
    if (!ids.length) throw new EmptyQuestionError("the question is empty");
    if (ids.length <= longest) return ids;
    console.warn(`a question of ${ids.length} tokens was cut to maxQuestionLength, ${longest}`);
    return ids.slice(0, longest);
  }

  /** The tokens of a text; places are in code points. */
  text(text) {
    const columns = [[], [], [], [], []];
    for (const [begin, end] of pieces(text)) {
      this.#piece(text, begin, end).forEach((values, i) => {
        for (const value of values) columns[i].push(value);
      });
    }
    return new Tokens(...columns.map((column) => Int32Array.from(column)));
  }

  #piece(text, begin, end) {
    const tokens = this.#model.encode(text, begin, end);
    const count = tokens.ids.length;
    keepCharactersWhole(text, tokens, end);
    const [wordStart, wordEnd] = [new Array(count), new Array(count)];
    for (let i = 0; i < count; ) {
      let next = i + 1;
      while (next < count && !beginsWord(text, tokens, next, begin)) next++;
      wordStart.fill(tokens.start[i], i, next);
      wordEnd.fill(tokens.end[next - 1], i, next);
      i = next;
    }
    return [tokens.ids, tokens.start, tokens.end, wordStart, wordEnd];
  }
}

/** Stretch each token over the marks that the normalizer removed from its last character. */
function keepCharactersWhole(text, tokens, end) {
  for (let i = 0; i < tokens.ids.length; i++) {
    const following = tokens.start[i + 1] ?? end;
    while (tokens.end[i] < following && continues(text.at(tokens.end[i]))) tokens.end[i]++;
  }
}

/** Whether a token begins a word: not with a mark of the token before, nor with a letter or digit right after a mark. */
function beginsWord(text, tokens, i, begin) {
  if (tokens.word[i] === tokens.word[i - 1]) return false;
  const first = tokens.start[i];
  if (first > tokens.end[i - 1]) return true;
  const here = text.at(first);
  return !(continues(here) || (isAlnum(here) && first > begin && continues(text.at(first - 1))));
}

/**
 * Cut a text into pieces of bounded length: before a run of white space, or otherwise after punctuation, or anywhere
 * between two characters. Yields the start and end of each.
 */
export function* pieces(text) {
  let begin = 0;
  while (text.length - begin > PIECE) {
    const limit = begin + PIECE;
    let end = lastCut(begin, (cut) => text.at(cut) === " " && !isBertSpace(text.at(cut - 1)));
    end ??= lastCut(begin, (cut) => isBertSpace(text.at(cut)) && !isBertSpace(text.at(cut - 1)));
    end ??= lastCut(begin, (cut) => isPunctuation(text.at(cut - 1)) && !continues(text.at(cut)));
    end ??= limit;
    while (end < Math.min(text.length, limit + MOST_MARKS) && continues(text.at(end))) end++;
    yield [begin, end];
    begin = end;
  }
  if (begin < text.length) yield [begin, text.length];
}

function lastCut(begin, isCut) {
  for (let cut = begin + PIECE; cut > begin + PIECE / 2; cut--) if (isCut(cut)) return cut;
  return undefined;
}
