// Spans that a person would underline: what is written together stays together, and nothing crosses a line of a list.
// The rules are those of dynamic_tinybert/inference/tidy.py, one for one.

import { BLANK, SPACE, WORD, countPoints, isDigit, isSpace, stripRight, wholeCharacters } from "./unicode.js";

const REACH = 2000; // characters around a line break that decide about it
const CHUNK = 100; // the longest part of a number, an address or a name outside a span, in characters
const PAIR = 40; // how far the other bracket of a pair may be from a span, in characters
const CURRENCY = "USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|BRL|KRW";
const SUFFIX = // of files and of sites, so that a full stop without a space joins nothing else
  "py|pyi|typed|toml|json|ya?ml|md|txt|rst|csv|tsv|html?|css|js|ts|xml|pdf|docx?|xlsx?|pptx?|zip|gz|tar|whl|sh|bat|exe|" +
  "dll|so|conf|cfg|ini|env|lock|log|sql|db|java|jar|cpp|hpp|rs|go|rb|php|png|jpe?g|gif|svg|mp[34]|onnx|safetensors|" +
  "com|org|net|io|dev|edu|gov|info|example";
const W = `[${WORD}]`;
const LETTER = `(?:(?!\\p{Nd})${W})`;
const D = "\\p{Nd}";
const TOGETHER = new RegExp(
  [
    `(?:https?://|ftp://|www\\.)[^${SPACE}<>"'\`]*[^${SPACE}<>"'\`.,;:!?()\\[\\]\\{\\}»”’]`, // an address of a page
    `[${WORD}.+\\-]*${W}@${W}[${WORD}\\-]*(?:\\.[${WORD}\\-]*${W})+`, // of a person
    `(?<![${WORD}\\-])--?[A-Za-z][${WORD}\\-]*`, // an option of a command
    `(?<!${W})@[A-Za-z_]${W}*(?:\\.${W}+)*`, // a decorator, a handle
    `(?<![${WORD}/])(?:~|\\.{1,2})?/${W}[${WORD}.\\-]*(?:/[${WORD}.\\-]*${W})+`, // a path
    `(?:(?:(?<!${W})(?:${CURRENCY})|[$€£¥])[ \\u00a0]?)?(?<!${D})(?!(?:1[5-9]|20)${D}${D}\\.${D})${D}+(?:[.,:]${D}+)*` +
      `(?:[ \\u00a0]?(?:[$€£¥%‰]|°[CF]?|(?:${CURRENCY})(?!${W})))?`, // a number, but no year with a footnote
    `${LETTER}${W}*(?:\\.${W}+)*\\.(?:${SUFFIX})(?!${W})`, // a file, a site
    `${LETTER}${W}*(?:\\.${W}+)*\\(\\)`, // a call
    "[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+", // a name in code
  ].join("|"),
  "gu",
);
// Thai, Lao, Myanmar, Khmer, Kana, Han: words have no spaces between them.
const UNSPACED =
  /[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]/gu;
const BREAK = new RegExp(`\\n[${BLANK}]*\\n|[\\f\\t]|(?<=[${SPACE}])\\|(?=[${SPACE}])|\\n`, "gu");
const PARAGRAPH = new RegExp(`\\n(?:[${BLANK}]*\\n)+|\\f`, "gu");
const ITEM = new RegExp(
  `[${BLANK}]*(?:[\\-*•‣–#>|][${BLANK}]|\\(?(?:${D}{1,3}|[a-z])\\.[${BLANK}]|\\((?:${D}{1,3}|[a-z])\\)[${BLANK}])`,
  "uy",
);
const B = `(?<!${W})`; // the begin of a word
const FULL_STOP =
  `(?<!${B}[A-Z])(?<!${B}[MD]r)(?<!${B}(?:St|No|vs|Co|Jr|Sr))(?<!${B}(?:Mrs|Inc|Ltd|Fig|[ei]\\.[ge]|[ap]\\.m))` +
  `(?<!${B}Prof)\\.`;
const CLOSED = new RegExp(`(?:[!?:;。！？]|${FULL_STOP})["'”’»)\\]]*$`, "u");
const RAGGED = 0.8; // lines of wrapped text are at least so long, relative to the longest but one
const NARROW = 24; // characters: no text is wrapped to lines so short
const NO_LINE = `[${WORD.replaceAll("_", "")}]`;
const WORDS = new RegExp(`${NO_LINE}+(?:_+${NO_LINE}+)*|[\\u2600-\\u27bf\\u{1f000}-\\u{1faff}]+`, "gu"); // emojis say something, too
const STOP_WORD =
  /^(?:[Aa]n|a|[Aa]nd|[Aa]re|[Aa]s|[Aa]t|[Bb]e|[Bb]een|[Bb]ut|[Bb]y|[Ff]or|[Ff]rom|[Ii]n|[Ii]s|[Ii]ts?|[Oo]f|[Oo]n|[Oo]r|[Tt]hat|[Tt]he|[Tt]hese|[Tt]his|[Tt]hose|[Tt]o|[Ww]as|[Ww]ere|[Ww]ith)$/;
const NO_BEGIN = ",;:.!?"; // if white space follows
const NO_END = ",;:";
const OPEN = new Map(["()", "[]", "{}", "“”", "「」", "『』"].map((pair) => [...pair]));
const CLOSE = new Map([...OPEN].map(([open, close]) => [close, open]));
const MARKS = /[‘’‚„«»‹›<>'`*_]/gu;
const QUOTES = [["«", "»"], ["‹", "›"], ["„", "“”"]]; // “…” is in OPEN
const REVERSED = [["»", "«"], ["›", "‹"]]; // as in German
const AMBIGUOUS = [ // may be an apostrophe, a letter, a decade, or mean less than: taken along, but never left out
  [`(?<!${W})‘(?=${LETTER})`, `(?<=[^${SPACE}])’(?!${W})`],
  [`(?<!${W})‚(?=${W})`, `(?<=[^${SPACE}])[‘’](?!${W})`],
  [`(?<!${W})'(?=${LETTER})`, `(?<=[^${SPACE}])'(?!${W})`],
  [`(?<!${W})<(?=[A-Za-z/])`, `(?<![${SPACE}=\\-])>`],
  [`»(?=${W})`, `(?<=[^${SPACE}])»(?!${W})`], // as in Finnish
].map((pair) => pair.map((pattern) => new RegExp(pattern, "uy")));
const EMPHASIS = /[*_`]{1,5}/uy; // of Markdown: *x*, **`x`**
const EMPHASIS_END = /(?<![*_`])[*_`]{1,5}(?=\n?$)/gu;

/** Tokens of which each is a word of its own, where it is of a script without spaces between words. */
export function wordsOfUnspaced(text, tokens) {
  const count = tokens.length;
  if (!count || !text.first(UNSPACED, tokens.start[0], tokens.end[count - 1])) return tokens;
  const copy = tokens.slice(0, count);
  for (let i = 0; i < count; i++) {
    const [start, end] = [tokens.start[i], tokens.end[i]];
    if (start < end && text.first(UNSPACED, start, end)) {
      [copy.wordStart[i], copy.wordEnd[i]] = wholeCharacters(text, start, end);
    }
  }
  return copy;
}

/** A span with the whole of a number, an address or a name in code that it begins or ends in. */
export function stretched(text, start, end) {
  const glued = (start > 0 && !text.spaceAt(start - 1)) ||
    (end + 1 < text.length && !(text.spaceAt(end) || text.spaceAt(end + 1)));
  if (!glued && !isDigit(text.at(start)) && !isDigit(text.at(end - 1))) return [start, end];
  let [first, last] = [start, end];
  for (const at of [start, end]) {
    let low = Math.max(0, at - CHUNK);
    const high = Math.min(text.length, at + CHUNK);
    while (low > 0 && low < at && !text.spaceAt(low - 1)) low++; // not in the middle of a word
    for (const found of text.matches(TOGETHER, low, high)) {
      if (found.start < start && start < found.end) first = Math.min(first, found.start);
      if (found.start < end && end < found.end) last = Math.max(last, found.end);
    }
  }
  return [first, last];
}

/** How many of ascending numbers are at most `value`, or below it if `strictly`. */
function countUpTo(numbers, value, strictly = false) {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (strictly ? numbers[middle] < value : numbers[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Which spans of tokens a person could underline, `[tokens, longest]`: index i * longest + j is of the tokens i to i + j.
 * A span must not cross the end of a paragraph, an item of a list, a heading, a table cell or a page. It must have a
 * letter, a digit or an emoji, and be more than one stop word.
 */
export function sensible(text, tokens, longest) {
  const count = tokens.length;
  const good = new Uint8Array(count * longest);
  if (!count) return good;
  const [low, high] = [tokens.wordStart[0], tokens.wordEnd[count - 1]]; // whole words, also where a window cuts one
  const words = text.matches(WORDS, low, high);
  const begins = [...words.map((word) => word.start), high + 1];
  const ends = [...words.map((word) => word.end), high + 1];
  const stops = words.map((word) => STOP_WORD.test(word.text));
  const lines = lineEnds(text, low, high);
  const first = Array.from(tokens.start, (start) => countUpTo(ends, start));
  const last = Array.from(tokens.end, (end) => countUpTo(begins, end, true) - 1);
  const block = Array.from(tokens.start, (start) => countUpTo(lines, start));
  const width = Math.min(longest, count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < width; j++) {
      const until = Math.min(i + j, count - 1);
      const one = first[i] === last[until];
      if (first[i] > last[until] || (one && stops[first[i]]) || block[i] !== block[until]) continue;
      good[i * longest + j] = 1;
    }
  }
  return good;
}

/** Whether a span has a letter, a digit or an emoji, and is more than one stop word. */
export function isSensible(text, start, end) {
  const words = text.matches(WORDS, start, end);
  return words.length > 0 && (!STOP_WORD.test(words[0].text) || words.length > 1);
}

/** Where a paragraph, an item, a heading, a cell or a page ends, between two places. */
export function lineEnds(text, low, high) {
  const breaks = text.matches(BREAK, low, high);
  return breaks.filter(({ start, text: mark }) => mark !== "\n" || endsALine(text, start)).map(({ start }) => start);
}

/** Whether a line break is there on purpose and not because the line was full. */
function endsALine(text, at) {
  const [low, high] = [Math.max(0, at - REACH), at + 1 + REACH];
  if (text.first(ITEM, at + 1, text.length)) return true;
  const begin = text.matches(PARAGRAPH, low, at).at(-1)?.end ?? low;
  const stop = text.first(PARAGRAPH, at + 1, high)?.start ?? high;
  const line = stripRight(text.slice(Math.max(begin, text.rfind("\n", begin, at) + 1), at));
  const following = text.slice(at + 1, stop).split("\n", 1)[0];
  if (CLOSED.test(line) || line.includes("\t") || following.includes("\t")) return true;
  const lines = text.slice(begin, stop).split("\n");
  const lengths = lines.map((one) => countPoints(stripRight(one))).sort((a, b) => a - b);
  const width = lengths.length > 2 ? lengths.at(-2) : lengths.at(-1); // one line may hold a long address
  const first = FIRST_WORD.exec(following);
  return !first || width < NARROW || countPoints(line) + 1 + countPoints(first[0]) <= RAGGED * width;
}

const FIRST_WORD = new RegExp(`[^${SPACE}]+`, "u");

/**
 * A span with its brackets and quotation marks in pairs, without a comma at its begin or end. The other one of a pair is
 * taken along if it is near. Otherwise a bracket at an end of the span is left out. What would leave nothing sensible is
 * not done.
 */
export function wholePairs(text, start, end) {
  let [first, last] = quoted(text, start, end);
  if (text.first(MARKS, Math.max(0, first - 1), last + 1)) [first, last] = marked(text, first, last);
  const [opened, lonely] = bracketsOf(text, first, last);
  const alone = new Set();
  for (const at of opened.reverse()) {
    const close = partner(text, last, OPEN.get(text.at(at)), text.at(at), 1);
    if (close !== null && (at > first || close === last)) last = Math.max(last, close + 1);
    else alone.add(at);
  }
  for (const at of lonely) {
    const open = partner(text, first - 1, CLOSE.get(text.at(at)), text.at(at), -1);
    if (open !== null && (at < last - 1 || open === first - 1)) first = open;
    else alone.add(at);
  }
  while (alone.has(first)) first++;
  while (alone.has(last - 1)) last--;
  while (first < last && (text.spaceAt(first) || beginsBadly(text, first))) first++;
  while (last > first && (text.spaceAt(last - 1) || NO_END.includes(text.at(last - 1)))) last--;
  return first < last && isSensible(text, first, last) ? [first, last] : [start, end];
}

function beginsBadly(text, at) {
  return NO_BEGIN.includes(text.at(at)) && (text.at(at + 1) ?? "") <= " ";
}

/** The places of brackets without their partner in a span: opening ones, closing ones. */
function bracketsOf(text, first, last) {
  const [opened, lonely] = [[], []];
  let low = false; // „…“ and „…” are pairs, too
  for (let at = first; at < last; at++) {
    const mark = text.at(at);
    if (low && "“”".includes(mark)) continue;
    if (OPEN.has(mark)) opened.push(at);
    else if (CLOSE.has(mark)) {
      if (opened.length && OPEN.get(text.at(opened.at(-1))) === mark) opened.pop();
      else lonely.push(at);
    }
    low ||= mark === "„";
  }
  return [opened, lonely];
}

/** A span with straight quotation marks in pairs. One after a digit may mean inches. */
function quoted(text, start, end) {
  let count = 0;
  for (let at = start; at < end; at++) {
    if (text.at(at) === '"' && !(at > start && isDigit(text.at(at - 1)))) count++;
  }
  if (count % 2 === 0) return [start, end];
  if (text.at(end) === '"') return [start, end + 1];
  if (start > 0 && text.at(start - 1) === '"') return [start - 1, end];
  if (end - start > 1 && text.at(start) === '"') return [start + 1, end];
  return end - start > 1 && text.at(end - 1) === '"' ? [start, end - 1] : [start, end];
}

/** Whether a pattern with the flag y matches at a place. */
function matchesAt(pattern, text, at) {
  return at >= 0 && text.first(pattern, at, text.length) !== null;
}

/** The places of a mark in a span. */
function placesOf(marks, text, start, end) {
  const found = [];
  for (let at = start; at < end; at++) if (marks.includes(text.at(at))) found.push(at);
  return found;
}

/** A span with its low, angle and single quotation marks in pairs, and without half of an emphasis. */
function marked(text, start, end) {
  for (const [begins, ends] of AMBIGUOUS) {
    // Only at the ends of a span. A mark depends on its neighbours, which may be outside of it.
    if (end - start < 2) break;
    const [opened, closes] = [matchesAt(begins, text, start), matchesAt(ends, text, end)];
    const [closed, opens] = [matchesAt(ends, text, end - 1), matchesAt(begins, text, start - 1)];
    if (opened && closes && !closed) end++;
    else if (closed && opens && !opened) start--;
  }
  const span = text.slice(start, end);
  const [left, right] = [span.indexOf("«"), span.lastIndexOf("»")];
  const german =
    !(left >= 0 && left < right) || (text.at(start - 1) === "»" && text.at(end) === "«" && text.at(start) !== "«");
  for (const [begins, ends] of [...QUOTES, ...(german ? REVERSED : [])]) {
    const [opening, closing] = [placesOf(begins, text, start, end), placesOf(ends, text, start, end)];
    const is = (marks, at) => text.at(at) !== undefined && marks.includes(text.at(at));
    if (opening.length && !closing.some((at) => at > opening.at(-1))) {
      if (is(ends, end)) end++;
      else if (opening.at(-1) === start && opening.length === 1) start++;
    }
    if (closing.length && !opening.some((at) => at < closing[0])) {
      if (start && is(begins, start - 1)) start--;
      else if (closing[0] === end - 1 && !"“”".includes(text.at(end - 1))) end--; // these have rules of their own
    }
  }
  return emphasized(text, start, end);
}

/** A span without half of an emphasis of Markdown, or with all of it if the span has others of its kind. */
function emphasized(text, start, end) {
  const [first, last] = [text.first(EMPHASIS, start, end), text.first(EMPHASIS_END, start, end)];
  if (first && !last) {
    const mark = [...first.text].reverse().join("");
    if (text.slice(end, end + mark.length) === mark) {
      return text.find(mark, first.end, end) >= 0 ? [start, end + mark.length] : [first.end, end];
    }
  }
  if (last && !first) {
    const mark = [...last.text].reverse().join("");
    if (start >= mark.length && text.slice(start - mark.length, start) === mark) {
      return text.find(mark, start, last.start) >= 0 ? [start - mark.length, end] : [start, last.start];
    }
  }
  return [start, end];
}

/** The other bracket of a pair from a place on, in one direction; null if it is far, or another line. */
function partner(text, at, wanted, other, step) {
  let depth = 0;
  for (let i = at; i !== at + step * PAIR; i += step) {
    const mark = text.at(i);
    if (mark === undefined || "\n\f\t|".includes(mark)) return null;
    if (mark === wanted) {
      if (!depth) return i;
      depth--;
    } else if (mark === other) depth++;
  }
  return null;
}
