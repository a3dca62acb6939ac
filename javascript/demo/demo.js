// The page of the demo. The model works in a worker, so that the page stays responsive.

const find = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
let asked = null;

const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)}%`;

function say(text) {
  find("state").textContent = text;
}

function showAnswers(answers, milliseconds) {
  const [best] = answers;
  const items = answers.map((answer) => {
    const item = document.createElement("li");
    const [words, sure, place] = ["span", "span", "small"].map((tag) => document.createElement(tag));
    words.textContent = answer.text || "no answer";
    sure.textContent = answer.confidence === null ? "" : percent(answer.confidence);
    place.textContent = answer.text ? `characters ${answer.start} to ${answer.end}, score ${answer.score.toFixed(3)}` : "";
    item.append(words, sure, place);
    return item;
  });
  find("answers").replaceChildren(...items);
  say(best ? `${Math.round(milliseconds)} ms, ${percent(best.spent.share)} of the work, ${best.spent.windows} window${best.spent.windows > 1 ? "s" : ""}; percents: how sure` : "The text has no words.");
}

/** Show the text with the answers marked. */
function showPlaces(text, answers) {
  const parts = [];
  let at = 0;
  const spans = answers.filter((answer) => answer.text);
  for (const answer of spans.toSorted((a, b) => a.start - b.start)) {
    const mark = document.createElement("mark");
    mark.textContent = text.slice(answer.start, answer.end);
    if (answer === answers[0]) mark.className = "best";
    parts.push(text.slice(at, answer.start), mark);
    at = answer.end;
  }
  find("reading").replaceChildren(...parts, text.slice(at));
  find("heading").hidden = !text;
}

worker.addEventListener("message", ({ data }) => {
  if (data.kind === "progress") {
    find("progress").value = data.share;
    say(`Loading the model: ${(data.loaded / 1e6).toFixed(1)} MB`);
  } else if (data.kind === "ready") {
    find("progress").hidden = true;
    find("ask").disabled = false;
    say(`The model “${data.name}” is ready (${data.precision}, ${Math.round(data.milliseconds)} ms). Nothing leaves this page.`);
  } else if (data.kind === "answers") {
    find("ask").disabled = false;
    showAnswers(data.answers, data.milliseconds);
    showPlaces(asked.text, data.answers);
  } else {
    find("ask").disabled = false;
    find("progress").hidden = true;
    say(data.message);
  }
});

worker.addEventListener("error", () => {
  find("progress").hidden = true;
  say("The worker cannot start. Did you run: npm --prefix javascript ci");
});

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (find("ask").disabled) return;
  const budget = find("budget").value;
  asked = { question: find("question").value, text: find("text").value };
  find("ask").disabled = true;
  const options = { topK: 3, budget: Number(budget) || budget, handleImpossibleAnswer: find("none").checked };
  worker.postMessage({ ...asked, options });
});
