// Classes of characters as Python has them: \w and \s of its `re`, str.isspace(), unicodedata.category().

/** White space, for the inside of a character class. Python's has no U+FEFF, and has the separators U+001C to U+001F. */
export const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
/** White space other than a line feed. */
export const BLANK = SPACE.replace("\\t-\\r", "\\t\\v-\\r");
/** A character of a word, for the inside of a character class. */
export const WORD = "\\p{L}\\p{N}_";

const IS_SPACE = new RegExp(`^[${SPACE}]`, "u");
const BERT_SPACE = /^[\t\n\r \p{Zs}\p{Zl}\p{Zp}]/u;
const IS_PUNCTUATION = /^[!-/:-@[-`{-~\p{P}]/u;
const MARK = /^[\p{M}\u200c\u200d\ufe0e\ufe0f\u{e0020}-\u{e007f}]/u;
const JOINER = /^[\u200c\u200d\ufe0e\ufe0f]/;
const SYMBOL = /^\p{So}/u;
const ALNUM = /^[\p{L}\p{N}]/u;
const DIGIT = /^\p{Nd}/u;
const FLAG = /^[\u{1f1e6}-\u{1f1ff}]/u;
const TONE = /^[\u{1f3fb}-\u{1f3ff}]/u;

const test = (pattern) => (character) => character !== undefined && pattern.test(character);

export const isSpace = test(IS_SPACE);
export const isBertSpace = test(BERT_SPACE);
export const isPunctuation = test(IS_PUNCTUATION);
export const isAlnum = test(ALNUM);
export const isDigit = test(DIGIT);
/** Whether a code point is part of the character before it. */
export const continues = test(MARK);

const isJoiner = test(JOINER);
const isSymbol = test(SYMBOL);
const isFlag = test(FLAG);
const isTone = test(TONE);

const MOST_MARKS = 64; // a character with more combining marks than this may be cut

/** Without white space at the end. No pattern: one that ends in `$` takes quadratic time on a run of blanks. */
export function stripRight(string) {
  let end = string.length;
  while (end && isSpace(string[end - 1])) end--;
  return string.slice(0, end);
}

/** Without white space at both ends. */
export function strip(string) {
  const kept = stripRight(string);
  let begin = 0;
  while (begin < kept.length && isSpace(kept[begin])) begin++;
  return kept.slice(begin);
}

/** The length of a string in code points. */
export function countPoints(string) {
  let count = 0;
  for (const _ of string) count++;
  return count;
}

/**
 * Stretch a span so that it does not divide what is read as one character: a letter with its marks, an emoji with its
 * modifier, emojis joined to one, two letters of a flag. Returns [start, end], in code points.
 */
export function wholeCharacters(text, start, end) {
  if (start >= end) return [start, end];
  const [least, most] = [Math.max(0, start - MOST_MARKS), Math.min(text.length, end + MOST_MARKS)];
  while (start > least && joined(text, start)) start--;
  while (end < most && joined(text, end)) end++;
  return [start, end];
}

function joined(text, at) {
  const [here, before] = [text.at(at), text.at(at - 1)];
  if (isSpace(before) && !isJoiner(here)) return false;
  if (continues(here) || isTone(here)) return true;
  if (before === "\u200d") return isSymbol(here); // joins emojis
  if (isFlag(here) && isFlag(before)) {
    let first = at;
    while (first > 0 && isFlag(text.at(first - 1))) first--;
    return (at - first) % 2 === 1;
  }
  return false;
}
