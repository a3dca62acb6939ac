// The page of `dynamic-tinybert serve`. What users and servers say becomes text nodes, never markup.

const CANDIDATES = 5;
const EDITABLE = 100_000; // characters: a field with more is slow to lay out, and takes many seconds for emoji
const WHOLE = 20_000; // a text of more is shown in part
const PART = 12_000; // how much of it
const SETTLED_MS = 220; // a slider that rests this long asks
const TRIES = 5; // of a question that the server is too busy for
const KEY = "dynamic-tinybert-key";

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const percent = (share) => (share > 0 && share < 0.01 ? "<1%" : `${Math.round(share * 100)}%`);
const brief = (value) => number.format(value < 100 ? Math.round(value * 10) / 10 : Math.round(value));
const ms = (value) => `${brief(value)} ms`;
const many = (count, one) => `${number.format(count)} ${one}${count === 1 ? "" : "s"}`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A text by code points, in which the server counts; JavaScript's strings count UTF-16 units. */
class Text {
  constructor(value) {
    this.value = value;
    this.pairs = []; // the code points that are two units
    if (/[\ud800-\udbff]/.test(value)) {
      for (let unit = 0, point = 0; unit < value.length; unit++, point++) {
        if (value.codePointAt(unit) > 0xffff) {
          this.pairs.push(point);
          unit++;
        }
      }
    }
    this.length = value.length - this.pairs.length;
  }

  slice(start, end) {
    return this.value.slice(this.#unit(start), this.#unit(end));
  }

  #unit(point) {
    return point + firstIndex(this.pairs.length, (i) => this.pairs[i] >= point);
  }
}

/** The first of so many indices that passes, of those that are sorted by whether they do. */
function firstIndex(count, passes) {
  let low = 0;
  for (let high = count; low < high; ) {
    const middle = (low + high) >> 1;
    if (passes(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A string without half characters, which no JSON can hold for the server. */
const wellFormed = (value) => value.toWellFormed?.() ?? value;

// The server

class Failure extends Error {
  constructor(detail, { status = 0, errors = [], after = null } = {}) {
    super(detail);
    Object.assign(this, { status, errors, after });
  }
}

/** GET a path, or POST a body to it. `picture`: it is one, and comes as a Blob. Raises `Failure`, or AbortError. */
async function call(path, { body, signal, picture = false } = {}) {
  const headers = { Accept: picture ? "image/png" : "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  try {
    const options = { method: body === undefined ? "GET" : "POST", headers, body, signal, cache: "no-store" };
    const response = await fetch(new URL(path, document.baseURI), options);
    if (response.ok) return await (picture ? response.blob() : response.json());
    const problem = await response.json().catch(() => null);
    const after = Number.parseFloat(response.headers.get("Retry-After"));
    throw new Failure(problem?.detail || `The server answered ${response.status} ${response.statusText}`.trim() + ".", {
      status: response.status,
      errors: Array.isArray(problem?.errors) ? problem.errors : [],
      after: Number.isFinite(after) ? Math.min(Math.max(after, 1), 120) : null,
    });
  } catch (error) {
    if (error instanceof Failure || error.name === "AbortError") throw error;
    throw new Failure("The server does not answer. It may have been stopped, or the network is gone.");
  }
}

let keyInMemory = ""; // where the browser forbids storage
function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? keyInMemory;
  } catch {
    return keyInMemory;
  }
}

function keepKey(key) {
  keyInMemory = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // it stays in memory
  }
}

// What the page knows

let info = null;
let stops = []; // what the slider can buy, the cheapest first: {name, share, f1, budget, names}
let shown = null; // the answer on display: {question, text, index, result, chosen, stop, reads}
let asking = null; // the AbortController of the newest question
let mapping = null; // that of the newest heat map of a passage
let leafing = null; // that of the newest page of a PDF
let leaf = true; // whether pages of PDFs are shown
let heat = false;
let view = null; // the part of a long text that is shown: {from, to}
let only = null; // the layer that alone is shaded
let current = -1; // the run that the keyboard is at
let held = null; // a text too long for the field
let title = ""; // the name of the file that the text came from

const sourceIndex = () => $("source").value || null;
const layersOf = () => info?.model?.layers ?? 1;

async function begin({ tries = 0 } = {}) {
  stopWaiting();
  try {
    await learn();
    $("notice").hidden = true;
  } catch (error) {
    fail(error, { what: begin, tries });
  }
}

async function learn(signal) {
  info = await call("info", { signal });
  const { model, budgets, configurations, indexes } = info;
  $("model").textContent = `finds the words of a text that answer your question, with the model “${model.name}”`;
  stops = affordable(configurations, budgets.full).map((configuration) => {
    const names = Object.keys(budgets).filter((name) => budgets[name] === configuration.name);
    return { ...configuration, names, budget: names[0] ?? configuration.share };
  });
  const before = $("source").value;
  const option = ({ name, documents }) => {
    const size = Number.isInteger(documents) ? many(documents, "document") : "cannot be used just now";
    return element("option", { value: name, textContent: `Index ${name} (${size})` });
  };
  $("source").replaceChildren(element("option", { value: "", textContent: "A text" }), ...indexes.map(option));
  $("source").value = indexes.some((index) => index.name === before) ? before : "";
  $("source-box").hidden = !indexes.length;
  drawSlider();
}

/** The configurations that a budget buys: those that no cheaper one beats; and the full one. */
function affordable(configurations, full) {
  let best = -Infinity;
  return [...configurations]
    .sort((a, b) => a.share - b.share || (b.f1 ?? 0) - (a.f1 ?? 0))
    .filter(({ name, f1, share }) => {
      const better = (f1 ?? share) > best;
      if (better) best = f1 ?? share;
      return better || name === full;
    });
}

// The budget

function drawSlider() {
  const slider = $("budget");
  const last = Math.max(stops.length - 1, 0);
  const kept = slider.disabled ? last : Math.min(slider.valueAsNumber, last);
  slider.max = last;
  slider.value = kept;
  slider.disabled = !stops.length;
  $("ticks").replaceChildren(
    ...stops.map((stop, i) => {
      const tick = element("span", { className: stop.names.length ? "named" : "" });
      tick.style.left = `${(100 * i) / (last || 1)}%`;
      return tick;
    }),
  );
  $("names").replaceChildren(
    ...stops.flatMap((stop, i) => {
      if (!stop.names.length) return [];
      const name = element("button", { type: "button", textContent: stop.names.join(", ") });
      name.className = i === last ? "last" : "";
      name.style.left = `${(100 * i) / (last || 1)}%`;
      name.addEventListener("click", () => {
        slider.value = i;
        budgetMoved();
      });
      return [name];
    }),
  );
  keepNamesApart();
  sayBudget();
}

// A name that would overlap one to its left goes a row lower.
function keepNamesApart() {
  const ends = [];
  for (const name of $("names").children) {
    const { left, right } = name.getBoundingClientRect();
    let row = ends.findIndex((end) => left >= end);
    if (row < 0) row = ends.length;
    ends[row] = right;
    name.style.top = `${1.5 * row}rem`;
  }
  $("names").style.height = `${1.5 * Math.max(ends.length, 1) + 0.25}rem`;
}
addEventListener("resize", keepNamesApart);

function sayBudget() {
  const stop = stops[$("budget").valueAsNumber];
  if (!stop) return;
  const name = stop.names[0];
  $("budget-says").replaceChildren(
    ...(name ? [element("b", { textContent: name }), " · "] : []),
    name === "full" ? "all of the compute" : `at most ${percent(stop.share)} of full`,
  );
  $("budget").setAttribute("aria-valuetext", `${name ? `${name}, ` : ""}${percent(stop.share)} of full`);
}

let resting = 0;
function budgetMoved() {
  sayBudget();
  clearTimeout(resting);
  if (shown || asking) resting = setTimeout(() => ask({ moved: true }), SETTLED_MS);
}

// Asking

/** Ask what the fields hold; a question that is on its way is given up. `moved`: only the budget has changed. */
async function ask({ moved = false, tries = 0 } = {}) {
  clearTimeout(resting);
  stopWaiting();
  asking?.abort();
  mapping?.abort();
  const mine = new AbortController();
  asking = mine;
  busy(true);
  try {
    if (!info) await learn(mine.signal);
    const asked = fields();
    if (!asked) return;
    const stop = stops[$("budget").valueAsNumber];
    const { question, index, text } = asked;
    // The page shows how far the others are behind, so it asks for them, however far.
    const many = { budget: stop.budget, top_k: CANDIDATES, score_threshold: 0 };
    const body = { question, ...(index ? { index } : { text: text.value }), ...many };
    const reply = await call("answer", { body: fitting({ ...body, explain: heat && !index }), signal: mine.signal });
    if (asking !== mine) return;
    shown = { ...asked, stop, reply, result: reply.results[0], chosen: 0, reads: new Map(), sheets: new Map() };
    $("notice").hidden = true;
    show({ moved });
  } catch (error) {
    if (error.name !== "AbortError" && asking === mine) fail(error, { moved, tries });
  } finally {
    if (asking === mine) {
      asking = null;
      busy(false);
    }
  }
}

/** The question and where to look, or null after saying what is missing. */
function fields() {
  const question = wellFormed($("question").value);
  const index = sourceIndex();
  const text = index ? null : (held ?? new Text(wellFormed($("text").value)));
  const { max_text_characters: most, max_question_characters: longest } = info.limits ?? {};
  if (!question.trim()) return missing("question", "There is no question yet: type one.");
  if ([...question].length > longest)
    return missing("question", `The question is too long: this server reads ${many(longest, "character")} of one.`);
  if (text && !text.value.trim()) {
    edit();
    return missing("text", "There is no text yet: paste one, or drop a file.");
  }
  if (text && text.length > most) {
    edit();
    return missing(
      "text",
      `The text has ${many(text.length, "character")}; this server reads ${number.format(most)} at most.`,
    );
  }
  return { question, index, text };
}

/** Make the question's field as high as the question. */
function fit() {
  const { style } = $("question");
  style.height = "auto";
  style.height = `${$("question").scrollHeight}px`;
}

function missing(field, message) {
  fail(new Failure(message, { status: 422 }), { ours: true });
  $(field === "text" && held ? "reading" : field).focus();
  return null;
}

/** A request as JSON. Raises `Failure` if the server would refuse its size: it would hang up before it says so. */
function fitting(body) {
  const json = JSON.stringify(body);
  const most = info.limits?.max_body_bytes ?? Infinity;
  if (json.length * 3 > most && new Blob([json]).size > most)
    throw new Failure(`The text is too large: this server takes ${number.format(most)} bytes at once.`, { status: 413 });
  return json;
}

let slow = 0;
function busy(is) {
  clearTimeout(slow);
  $("progress").hidden = !is;
  $("stop").hidden = true;
  if (is)
    slow = setTimeout(() => {
      $("stop").hidden = false;
      say("Reading. Escape stops it.");
    }, 600);
}

function stop() {
  if (document.activeElement === $("stop")) $("question").focus();
  asking?.abort();
  asking = null;
  mapping?.abort();
  stopWaiting();
  busy(false);
}

const say = (what) => ($("said").textContent = what);

// What went wrong

let ticking = 0;
function stopWaiting() {
  clearInterval(ticking);
  $("waiting").hidden = true;
}

let repeat = begin; // what failed

/** `ours`: the page itself refused; `what` is done again when the server lets it, after so many `tries`. */
function fail(error, { what = ask, moved = false, tries = 0, ours = false } = {}) {
  stopWaiting();
  repeat = what;
  if (what === ask && shown && !stillAsked()) takeOff();
  const { status, errors, after } = error;
  const unknown = status === undefined; // an answer that is not of the documented form
  $("problem").textContent = unknown ? `The server's answer cannot be shown (${error.message}).` : error.message;
  const told = errors.filter(({ field, message }) => !error.message.includes(`${field}: ${message}`));
  $("problems").replaceChildren(
    ...told.map(({ field, message }) => element("li", { textContent: `${field}: ${message}` })),
  );
  $("problems").hidden = told.length < 1;
  $("key-form").hidden = status !== 401;
  if (status === 401) {
    $("problem").textContent = apiKey() ? `The key was not accepted. ${error.message}` : error.message;
  }
  $("notice").hidden = false;
  if (status === 401) $("key").focus();
  const retry = after !== null && after !== undefined && tries < TRIES;
  $("again").textContent = what !== ask ? "Try again" : retry ? "Ask now" : "Ask again";
  $("again").hidden = ours || status === 401 || status === 413 || status === 422;
  if (retry) {
    let left = Math.ceil(after);
    const tick = () => ($("waiting").textContent = `Asking again in ${left} s.`);
    tick();
    say(`Asking again in ${many(left, "second")}.`);
    $("waiting").hidden = false;
    ticking = setInterval(() => {
      left -= 1;
      if (left > 0) tick();
      else what({ moved, tries: tries + 1 });
    }, 1000);
  }
}

/** Whether the fields still hold what the answer on display belongs to. */
function stillAsked() {
  const index = sourceIndex();
  const text = index ? null : (held?.value ?? wellFormed($("text").value));
  const same = wellFormed($("question").value) === shown.question && index === shown.index;
  return same && (index || text === shown.text.value);
}

/** Take the answer off: it belongs to another question than the error. */
function takeOff() {
  for (const id of ["best", "best-scores", "spent", "candidates"]) $(id).hidden = true;
  shown = null;
  closeSheet();
  if (!$("reading").hidden) edit();
}

// Showing

function show({ moved = false } = {}) {
  const { result, text, index } = shown;
  view = null;
  current = -1;
  const best = result.answers[0];
  $("hint").hidden = true;
  $("best").hidden = false;
  showCandidates();
  showSpent();
  reading();
  draw();
  const { words, scores } = described(best);
  say(
    `${moved ? "" : "Answer: "}${words}. ${scores ? `${scores}. ` : ""}` +
      `${ms(shown.reply.total_ms)}, ${$("share").textContent}.${$("less").hidden ? "" : ` ${$("less").textContent}`}`,
  );
  if (best) scrollToAnswer({ pageToo: !moved });
  if (heat && index) mapPassage();
  drawSheet();
  if (text && heat && !result.tokens) say("The server sent no layers.");
}

function described(answer) {
  if (!answer) {
    const where = shown.index ? "no passage has a word of the question" : "there are no words to look in";
    return { words: `No answer: ${where}`, scores: "" };
  }
  const scores = [`score ${percent(answer.score)}`];
  if (answer.confidence !== null && answer.confidence !== undefined)
    scores.push(`confidence ${percent(answer.confidence)}`);
  return { words: oneLine(answer.text) || "No answer", scores: scores.join(", ") };
}

const oneLine = (words) => words.replace(/\s+/g, " ").trim();

function showCandidates() {
  const { answers } = shown.result;
  $("list").replaceChildren(
    ...answers.map((answer, i) => {
      const input = element("input", { type: "radio", name: "candidate", value: i, checked: i === shown.chosen });
      input.addEventListener("change", () => choose(i));
      const where = answer.document === undefined
        ? `characters ${number.format(answer.start)}–${number.format(answer.end)}`
        : answer.title || answer.document;
      const sure = described(answer).scores.split(", ")[1] ?? "";
      const words = element("span", { className: "words", dir: "auto", textContent: oneLine(answer.text) || "No answer" });
      return element(
        "label",
        { className: "candidate" },
        input,
        words,
        element("span", { className: "score", title: "score", textContent: percent(answer.score) }),
        element("span", { className: "more" }, element("span", { textContent: where }), element("span", { textContent: sure })),
      );
    }),
  );
  $("candidates").hidden = !answers.length;
  showBest();
}

function showBest() {
  const { words, scores } = described(shown.result.answers[shown.chosen]);
  $("best").textContent = words;
  $("best").classList.toggle("none", !scores || words === "No answer");
  $("best-scores").textContent = scores && (shown.chosen ? `candidate ${shown.chosen + 1}, ${scores}` : scores);
  $("best-scores").hidden = !scores;
}

function choose(i) {
  shown.chosen = i;
  view = null;
  current = -1;
  $("list").querySelectorAll("input")[i].checked = true;
  showBest();
  draw();
  scrollToAnswer({ pageToo: true });
  const { words, scores } = described(shown.result.answers[i]);
  say(`${words}. ${scores}.`);
  if (heat && shown.index) mapPassage();
  drawSheet();
}

function showSpent() {
  const { reply, result, stop } = shown;
  $("total").textContent = ms(reply.total_ms);
  $("times").textContent = `queue ${brief(result.queue_ms)}, read ${brief(result.read_ms)}`;
  const nothing = !result.windows; // no passage was found: no configuration was used
  $("share").textContent = nothing ? "nothing was read" : `${percent(result.share)} of full`;
  $("configuration").textContent = nothing ? "" : result.configuration;
  $("share-bar").style.transform = `scaleX(${nothing ? 0 : Math.min(result.share, 1)})`;
  const row = info.configurations.find(({ name }) => name === result.configuration);
  const full = info.configurations.find(({ name }) => name === info.budgets.full);
  $("accuracy").textContent = nothing
    ? ""
    : typeof row?.f1 === "number" && typeof full?.f1 === "number"
      ? `F1 ${row.f1.toFixed(1)}${row === full ? "" : ` (full: ${full.f1.toFixed(1)})`}`
      : "not measured";
  $("measured-on").textContent = info.measured_on && !nothing ? `on ${info.measured_on}` : "";
  const saved = result.macs ? result.bert_base_macs / result.macs : 0;
  $("saved").textContent = saved > 1 ? ` · 1/${saved.toFixed(saved < 10 ? 1 : 0)} of BERT\u2011base` : "";
  const less = !nothing && result.share < stop.share - 5e-4;
  const wanted = stop.names[0] ? `${stop.names[0]} (${percent(stop.share)})` : percent(stop.share);
  $("less").textContent = less
    ? `To answer in time, load control gave ${percent(result.share)} of the compute; ${wanted} was asked for.`
    : "";
  $("less").hidden = !less;
  $("spent").hidden = false;
}

/** The text on display: of the answer that is chosen, its passage; its candidates, by their place in it. */
function page() {
  if (!shown) return { text: held, tokens: null, places: [] };
  const { text, index, result, chosen } = shown;
  const places = result.answers.map((answer, i) => ({ i, start: answer.start, end: answer.end }));
  if (!index) return { text, tokens: result.tokens, places: places.filter(({ start, end }) => start < end) };
  const answer = result.answers[chosen];
  if (!answer?.passage) return { text: new Text(""), tokens: null, places: [] };
  const passage = new Text(answer.passage);
  const begin = answer.passage_start;
  const same = places
    .filter(({ i }) => result.answers[i].document === answer.document)
    .map(({ i, start, end }) => ({ i, start: start - begin, end: end - begin }))
    .filter(({ start, end }) => start >= 0 && end <= passage.length && start < end);
  return { text: passage, tokens: shown.reads.get(chosen)?.tokens ?? null, places: same };
}

function draw() {
  const { text, tokens, places } = page();
  const chosen = places.find(({ i }) => i === shown?.chosen);
  const { from, to } = (view ??= neighbourhood(text, chosen));
  const body = element("div");
  const runs = heat && tokens ? runsOf(tokens, from, to) : [];
  let at = from;
  const put = (parent, end) => {
    putRuns(parent, text, at, end, runs);
    at = end;
  };
  const marked = runs.length ? [chosen].filter(Boolean) : places; // more would cut the map up
  for (const { i, start, end } of apart(marked, shown?.chosen)) {
    if (end <= from || start >= to) continue;
    put(body, Math.max(start, from));
    const mark = element("mark", { className: i === shown.chosen ? "chosen" : "" });
    mark.title = i === shown.chosen ? "the answer" : `candidate ${i + 1}`;
    mark.dataset.candidate = i;
    put(mark, Math.min(end, to));
    body.append(mark);
  }
  put(body, to);
  if (from > 0) body.prepend(element("span", { className: "cut", textContent: "… " }));
  if (to < text.length) body.append(element("span", { className: "cut", textContent: " …" }));
  if (!text.length) body.append(element("p", { className: "empty", textContent: "There is nothing to show." }));
  $("reading").replaceChildren(body);
  $("reading").classList.toggle("heat", runs.length > 0);
  $("reading").scrollTop = 0;
  drawElsewhere(text, from, to);
  if (shown) {
    drawHead(text);
    drawLegend(tokens);
  }
}

/** Which part of a text to show: all of it, or so much around a place. */
function neighbourhood(text, place) {
  if (text.length <= WHOLE) return { from: 0, to: text.length };
  const middle = place ? Math.floor((place.start + place.end) / 2) : 0;
  return part(text, middle - PART / 2);
}

function part(text, begin) {
  const from = Math.max(0, Math.min(Math.floor(begin), text.length - PART));
  return { from, to: Math.min(text.length, from + PART) };
}

/** Places in order, without those that overlap the chosen one or one that comes first. */
function apart(places, chosen) {
  const order = [...places].sort((a, b) => (b.i === chosen) - (a.i === chosen) || a.i - b.i);
  const kept = [];
  for (const place of order)
    if (kept.every(({ start, end }) => place.end <= start || place.start >= end)) kept.push(place);
  return kept.sort((a, b) => a.start - b.start);
}

/** Neighbouring tokens of one layer as one run, `{start, end, layer}`, of those between two places. */
function runsOf({ start, end, layers }, from, to) {
  const runs = [];
  const first = firstIndex(start.length, (i) => end[i] > from);
  for (let i = first; i < start.length && start[i] < to; i++) {
    const last = runs.at(-1);
    const begin = Math.max(start[i], last?.end ?? from, from);
    const stop = Math.min(end[i], to);
    if (stop <= begin) continue;
    if (last?.layer === layers[i]) last.end = stop;
    else runs.push({ start: begin, end: stop, layer: layers[i] });
  }
  return runs;
}

function putRuns(parent, text, start, end, runs) {
  let at = start;
  for (let i = firstIndex(runs.length, (k) => runs[k].end > start); i < runs.length && runs[i].start < end; i++) {
    const begin = Math.max(runs[i].start, start);
    const stop = Math.min(runs[i].end, end);
    if (begin > at) parent.append(text.slice(at, begin));
    const { layer } = runs[i];
    at = stop;
    // The spaces that a mark leaves at a run's ends are no part of it.
    const piece = text.slice(begin, stop);
    const words = piece.trim();
    const before = piece.indexOf(words);
    parent.append(piece.slice(0, before));
    if (!words) {
      parent.append(piece);
      continue;
    }
    const run = element("span", { className: `run shade${shade(layer)}`, textContent: words });
    run.dataset.layer = layer;
    run.title = passed(layer);
    run.classList.toggle("off", only !== null && only !== layer);
    parent.append(run, piece.slice(before + words.length));
  }
  if (end > at) parent.append(text.slice(at, end));
}

const shade = (layer) => Math.max(0, Math.min(12, Math.round((12 * layer) / layersOf())));

function passed(layer) {
  const all = layersOf();
  if (layer >= all) return `never dropped: passed all ${all} layers`;
  return layer ? `dropped in layer ${layer + 1}, after passing ${layer} of ${all}` : "dropped in the first layer";
}

function scrollToAnswer({ pageToo }) {
  const mark = $("reading").querySelector("mark.chosen");
  if (!mark) return;
  const inner = mark.getBoundingClientRect();
  const outer = $("reading").getBoundingClientRect();
  $("reading").scrollTop += inner.top + inner.height / 2 - outer.top - outer.height / 2;
  const { top, bottom } = mark.getBoundingClientRect();
  if (pageToo && (top < 0 || bottom > innerHeight)) $("reading").scrollIntoView({ block: "nearest" });
}

function drawElsewhere(text, from, to) {
  $("elsewhere").hidden = from === 0 && to === text.length;
  $("range").textContent =
    `Characters ${number.format(from)} to ${number.format(to)} of ${number.format(text.length)} are shown. ` +
    (shown ? "All of the text was read." : "All of the text will be read.");
  $("earlier").disabled = from === 0;
  $("later").disabled = to === text.length;
}

function turn(direction) {
  const { text } = page();
  view = part(text, view.from + direction * (PART - 500));
  current = -1;
  draw();
}

function drawHead(text) {
  const answer = shown.result.answers[shown.chosen];
  const name = shown.index ? answer?.title || answer?.document || shown.index : title;
  $("title").textContent = name;
  $("size").textContent =
    shown.index && answer
      ? `passage from character ${number.format(answer.passage_start)}`
      : `${many(text.length, "character")}, ${many(shown.result.windows, "window")}`;
}

// The layers at which tokens were dropped

function drawLegend(tokens) {
  $("layers").setAttribute("aria-pressed", String(heat));
  $("legend").hidden = !heat || !shown;
  if ($("legend").hidden) return;
  const all = layersOf();
  $("legend-title").textContent = `How many layers each token passed before it was dropped (${all}: it never was)`;
  const counts = new Array(all + 1).fill(0);
  for (const layer of tokens?.layers ?? []) counts[layer] += 1;
  const sum = tokens?.layers.length || 1;
  if (counts[only] === 0) only = null;
  const focus = [...$("scale").children].indexOf(document.activeElement);
  $("scale").replaceChildren(
    ...counts.map((count, layer) => {
      const share = tokens ? percent(count / sum) : "";
      const button = element(
        "button",
        { type: "button", className: `shade${shade(layer)}`, title: `${passed(layer)}: ${many(count, "token")}` },
        element("b", { textContent: layer }),
        " ",
        element("span", { textContent: share }),
      );
      button.setAttribute("aria-pressed", String(only === layer));
      button.addEventListener("click", () => emphasize(only === layer ? null : layer));
      return button;
    }),
  );
  $("scale").children[focus]?.focus();
  const read = shown.index ? shown.reads.get(shown.chosen) : shown.result;
  if (!tokens) $("readout").textContent = shown.index ? "Reading the passage …" : "";
  else if (counts[all] === sum)
    $("readout").textContent = `${read.configuration} drops nothing. Lower the budget, and see what goes.`;
  else
    $("readout").textContent =
      `Read at ${read.configuration}, ${percent(read.share)} of full. Point at a word, or go to the text and use ← and →.`;
}

function emphasize(layer) {
  only = layer;
  for (const run of $("reading").querySelectorAll(".run"))
    run.classList.toggle("off", only !== null && Number(run.dataset.layer) !== only);
  [...$("scale").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === only)));
}

function readOut(run) {
  const words = oneLine(run.textContent);
  const short = [...words].length > 60 ? `${[...words].slice(0, 60).join("")}…` : words;
  $("readout").textContent = `“${short}”: ${passed(Number(run.dataset.layer))}.`;
}

function walk(direction) {
  const runs = $("reading").querySelectorAll(".run");
  if (!runs.length) return;
  runs[current]?.classList.remove("at");
  if (current < 0) current = [...runs].indexOf($("reading").querySelector("mark.chosen .run")) - Math.max(direction, 0);
  current = Math.max(0, Math.min(runs.length - 1, current + direction));
  runs[current].classList.add("at");
  runs[current].scrollIntoView({ block: "nearest" });
  readOut(runs[current]);
}

/** The heat map of a passage takes a question of its own: of an index the server explains nothing. */
async function mapPassage() {
  const { question, result, chosen, stop, reads } = shown;
  const { passage } = result.answers[chosen] ?? {};
  mapping?.abort();
  if (!passage || reads.has(chosen)) return;
  const mine = new AbortController();
  mapping = mine;
  try {
    const body = fitting({ question, text: passage, budget: stop.budget, explain: true });
    const reply = await call("answer", { body, signal: mine.signal });
    if (mapping !== mine) return;
    reads.set(chosen, reply.results[0]);
    draw();
    scrollToAnswer({ pageToo: false });
  } catch (error) {
    if (error.name !== "AbortError" && mapping === mine) {
      $("readout").textContent = "";
      fail(error, { moved: true });
    }
  }
}

function toggleLayers() {
  heat = !heat;
  $("layers").setAttribute("aria-pressed", String(heat));
  if (!shown) {
    if (heat) ask();
    return;
  }
  if (heat && !$("text").hidden) reading();
  if (heat && !shown.index && !shown.result.tokens) {
    ask({ moved: true });
    return;
  }
  draw();
  scrollToAnswer({ pageToo: false });
  if (heat && shown.index) mapPassage();
}

// The page of a PDF

/** Whether a document, by its name, is a PDF: a record of a file of records is none. */
const isPaged = (name) => /\.pdf( \(file\))?$/i.test(name) && (name.endsWith(" (file)") || !/\.(jsonl|ndjson)#/i.test(name));

/** Show the page that the chosen answer is on, if it is of a PDF. */
async function drawSheet() {
  leafing?.abort();
  const answer = shown?.index ? shown.result.answers[shown.chosen] : null;
  const paged = Boolean(answer?.text) && isPaged(answer.document ?? "");
  $("leaf").hidden = !paged;
  $("leaf").setAttribute("aria-pressed", String(leaf));
  $("sheet").hidden = !paged || !leaf;
  if ($("sheet").hidden) return;
  const { sheets, chosen, index } = shown;
  $("sheet-view").hidden = true;
  if (!sheets.has(chosen)) {
    const mine = new AbortController();
    leafing = mine;
    $("sheet-name").textContent = "Drawing the page …";
    try {
      const { document: name, start, end } = answer;
      const query = new URLSearchParams({ index, document: name, start, end });
      const { boxes } = await call(`place?${query}`, { signal: mine.signal });
      const picture = await call(`place.png?${query}`, { signal: mine.signal, picture: true });
      sheets.set(chosen, { boxes, url: await dataUrl(picture) });
    } catch (error) {
      const why = error instanceof Failure ? error.message : "the server's answer cannot be shown";
      if (error.name !== "AbortError" && leafing === mine) $("sheet-name").textContent = `There is no page to show: ${why}`;
      return;
    }
    if (leafing !== mine || shown?.sheets !== sheets || shown.chosen !== chosen) return;
  }
  putSheet(sheets.get(chosen), answer);
}

async function putSheet({ boxes, url }, answer) {
  const [box] = boxes;
  const name = answer.title || answer.document.split(/[\\/]/).at(-1);
  $("sheet-name").textContent = `Page ${number.format(box.page)} of ${name}`;
  const picture = $("sheet-picture");
  picture.alt = `Page ${number.format(box.page)}, with “${oneLine(answer.text)}” marked`;
  picture.src = url;
  $("sheet-view").hidden = false;
  scrollToAnswer({ pageToo: false }); // the text has less room now
  await picture.decode().catch(() => {});
  const middle = ((box.top + box.bottom) / 2 / box.page_height) * picture.clientHeight;
  $("sheet-view").scrollTop = middle - $("sheet-view").clientHeight / 2;
}

/** A picture as an address that the page may load: of those that browsers make of blobs, its policy allows none. */
function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function closeSheet() {
  leafing?.abort();
  $("leaf").hidden = $("sheet").hidden = true;
}

// The text, written or read

function reading() {
  $("text").hidden = true;
  $("reading").hidden = false;
  $("edit").hidden = Boolean(sourceIndex());
  $("edit").textContent = held ? "Clear text" : "Edit text";
}

/** Go back to writing the text, or, of an index or of a text that is too long for it, to waiting for a question. */
function edit() {
  const index = sourceIndex();
  const field = !index && !held;
  $("elsewhere").hidden = $("legend").hidden = true;
  closeSheet();
  $("choose").hidden = Boolean(index);
  $("reading").classList.remove("heat");
  reading();
  $("edit").hidden = !held || Boolean(index);
  $("text").hidden = !field;
  $("reading").hidden = field;
  if (index) {
    const empty = "Ask, and the passage that answers is shown here.";
    $("reading").replaceChildren(element("p", { className: "empty", textContent: empty }));
    $("title").textContent = index;
    const { documents, passages } = info.indexes.find(({ name }) => name === index) ?? {};
    const known = Number.isInteger(documents) && Number.isInteger(passages);
    $("size").textContent = known ? `${many(documents, "document")}, ${many(passages, "passage")}` : "";
    return;
  }
  $("title").textContent = title;
  $("size").textContent = many((held ?? new Text($("text").value)).length, "character");
  if (held) {
    shown = view = null;
    draw();
  }
}

function forget() {
  stop();
  closeSheet();
  shown = null;
  for (const id of ["best", "best-scores", "candidates", "spent", "notice"]) $(id).hidden = true;
  $("hint").hidden = false;
  $("hint").textContent = sourceIndex() ? "Ask the index a question." : "Ask the text a question.";
}

let counting = 0;
function written() {
  forget();
  clearTimeout(counting);
  counting = setTimeout(() => $("text").hidden || edit(), 150);
}

/** Take another text; its lines end as in the field, which knows \n alone. */
function take(value, name = "") {
  const text = new Text(wellFormed(value.replace(/\r\n?/g, "\n")));
  held = text.length > EDITABLE ? text : null;
  $("source").value = "";
  $("text").value = held ? "" : text.value;
  title = name;
  forget();
  edit();
  $("text").scrollTop = 0;
  say(`${name || "Text"}: ${$("size").textContent}.`);
  $("question").select();
  $("question").focus();
}

async function takeFile(file) {
  const most = (info?.limits?.max_text_characters ?? 1e6) * 4;
  if (file.size > most)
    return fail(new Failure(`${file.name} is too large: it has ${number.format(file.size)} bytes.`), { ours: true });
  try {
    take(decoded(await file.arrayBuffer()), file.name);
  } catch {
    fail(new Failure(`${file.name} is not a text file. For PDF or DOCX, make an index.`), { ours: true });
  }
}

/** Bytes as text: UTF-8, or UTF-16 if they say so. Raises TypeError if they are neither. */
function decoded(buffer) {
  const [a, b] = new Uint8Array(buffer.slice(0, 2));
  const wide = a === 0xff && b === 0xfe ? "utf-16le" : a === 0xfe && b === 0xff ? "utf-16be" : null;
  const text = new TextDecoder(wide ?? "utf-8", { fatal: true }).decode(buffer);
  if (text.includes("\0")) throw new TypeError("no text");
  return text;
}

// What people do

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  ask();
});
$("question").addEventListener("input", fit);
addEventListener("resize", fit);
$("stop").addEventListener("click", stop);
$("again").addEventListener("click", () => repeat());
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  $("key").value = "";
  if (!/^[\x21-\x7e]+$/.test(key)) {
    $("problem").textContent = "This is not a key: a key has letters, digits and signs, and no spaces.";
    return;
  }
  keepKey(key);
  $("notice").hidden = true;
  $("question").focus();
  repeat();
});
$("budget").addEventListener("input", budgetMoved);
$("layers").addEventListener("click", toggleLayers);
$("leaf").addEventListener("click", () => {
  leaf = !leaf;
  drawSheet();
});
$("numbers").addEventListener("change", () => $("reading").classList.toggle("numbers", $("numbers").checked));
$("earlier").addEventListener("click", () => turn(-1));
$("later").addEventListener("click", () => turn(1));
$("edit").addEventListener("click", () => {
  if (held) take("");
  else edit();
  $("text").focus();
});
$("text").addEventListener("input", written);
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files[0]) takeFile($("file").files[0]);
  $("file").value = "";
});
$("source").addEventListener("change", () => {
  forget();
  edit();
});

$("reading").addEventListener("pointerover", (event) => {
  const run = event.target.closest(".run");
  if (run) readOut(run);
});
$("reading").addEventListener("click", (event) => {
  const run = event.target.closest(".run");
  if (run) readOut(run);
  const mark = event.target.closest("mark:not(.chosen)");
  if (mark && getSelection().isCollapsed) choose(Number(mark.dataset.candidate));
});
$("reading").addEventListener("keydown", (event) => {
  const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!direction || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (!$("reading").classList.contains("heat")) return;
  event.preventDefault();
  walk(direction);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    ask();
  } else if (event.key === "Escape" && !event.isComposing) stop();
});

// A paste that is meant for no field is meant for the text; and a long one does not go through the field.
document.addEventListener("paste", (event) => {
  const text = event.clipboardData?.getData("text/plain");
  const field = event.target.closest?.("input, textarea");
  if (!text || (field && !(field === $("text") && field.value.length + text.length > EDITABLE))) return;
  event.preventDefault();
  if (field) take(field.value.slice(0, field.selectionStart) + text + field.value.slice(field.selectionEnd), title);
  else take(text);
});

let over = 0;
const hasFile = (event) => event.dataTransfer?.types.includes("Files");
const meant = (event) => hasFile(event) || (event.dataTransfer?.types.includes("text/plain") && !event.target.closest?.("input, textarea"));
document.addEventListener("dragenter", (event) => {
  if (!meant(event)) return;
  over += 1;
  $("drop").hidden = false;
});
document.addEventListener("dragleave", () => {
  over = Math.max(0, over - 1);
  if (!over) $("drop").hidden = true;
});
document.addEventListener("dragover", (event) => meant(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  over = 0;
  $("drop").hidden = true;
  if (!meant(event)) return;
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (file) takeFile(file);
  else take(event.dataTransfer.getData("text/plain"));
});

fit();
edit();
begin();
