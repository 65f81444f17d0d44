"use strict";
// Texts of items are written with textContent alone: no title becomes a part of the page.
const get = (id) => document.getElementById(id);
const history = [];
let state = { item_field: "item_id", columns: [], baselines: [], model: "" };

function element(name, text, parent, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  if (parent) parent.append(made);
  return made;
}

async function ask(path, body) {
  const headers = {};
  if (get("key").value) headers["X-API-Key"] = get("key").value;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  const values = await answer.json();
  if (!answer.ok) throw new Error(values.error);
  return values;
}

function show(error) {
  get("error").hidden = !error;
  get("error").textContent = error ? error.message : "";
}

// Of two answers that overtake each other, the one that was asked for last is shown.
function latest(work) {
  let newest = 0;
  return async () => {
    const number = ++newest;
    try {
      const draw = await work();
      if (number === newest) { draw(); show(null); }
    } catch (error) {
      if (number === newest) show(error);
    }
  };
}

// A text is the title, then ", column: value" for each further column.
function parts(text) {
  const starts = state.columns.map((column) => text.indexOf(", " + column.replaceAll("_", " ") + ": "));
  const end = Math.min(text.length, ...starts.filter((start) => start > 0));
  return [text.slice(0, end), text.slice(end + 2)];
}

function entry(list, item, end, action) {
  const button = element("button", undefined, element("li", undefined, list));
  button.type = "button";
  button.title = item.item + ": " + item.text;
  const [title, about] = parts(item.text);
  const text = element("span", title || item.item, button, "item");
  if (about) element("span", about, text, "about");
  if (end) element("span", end, button, "end");
  button.addEventListener("click", action);
}

function choose(item) {
  history.push(item);
  get("search").value = "";
  get("found").replaceChildren();
  changed();
}

const recommend = latest(async () => {
  if (!history.length) {
    await ask("items?limit=1");  // a wrong key is noticed at once
    return () => { get("answers").replaceChildren(); get("notes").replaceChildren(); };
  }
  const asked = { history: history.map((item) => item.item), k: 10 };
  const others = state.baselines.map((model) => ask("recommend", { ...asked, model }).catch((error) => ({ error })));
  const answers = [await ask("recommend", asked), ...await Promise.all(others)];
  return () => {
    get("answers").replaceChildren();
    get("notes").replaceChildren();
    answers.forEach((answer, place) => {
      const name = place ? state.baselines[place - 1] : state.model;
      if (answer.error) {
        element("p", name + " does not answer: " + answer.error.message, get("notes"));
        return;
      }
      const card = element("div", undefined, get("answers"), "card");
      element("h3", name, card);
      const list = element("ol", undefined, card, "list");
      for (const item of answer.items) entry(list, item, item.score.toFixed(3), () => choose(item));
    });
  };
});

function changed() {
  get("empty").hidden = history.length > 0;
  get("history").replaceChildren();
  history.forEach((item, place) => entry(get("history"), item, "\u2715", () => {
    history.splice(place, 1);
    changed();
  }));
  recommend();
}

const search = latest(async () => {
  const words = get("search").value.trim();
  const found = words ? (await ask("items?limit=8&query=" + encodeURIComponent(words))).items : [];
  return () => {
    get("found").replaceChildren();
    for (const item of found) entry(get("found"), item, "+", () => choose(item));
    if (words && !found.length) element("li", "no item has these words", get("found"), "hint");
  };
});

let waiting;
function typed() {
  clearTimeout(waiting);
  waiting = setTimeout(search, 150);
}

function count(items) {
  get("state").textContent = items.toLocaleString("en") + " items";
}

async function add(event) {
  event.preventDefault();
  const item = {};
  for (const input of get("columns").querySelectorAll("input")) if (input.value) item[input.name] = input.value;
  try {
    const answer = await ask("items", { items: [item] });
    count(answer.items);
    get("added").textContent = "added " + item[state.item_field];
    get("add").reset();
    changed();
  } catch (error) {
    get("added").textContent = "";
    show(error);
  }
}

async function start() {
  try {
    state = await ask("health");
    document.title = state.model + " on " + state.dataset;
    get("name").textContent = document.title;
    count(state.items);
    for (const column of [state.item_field, ...state.columns]) {
      const label = element("label", column.replaceAll("_", " ") + " ", get("columns"));
      element("input", undefined, label).name = column;
    }
    changed();
  } catch (error) {
    show(error);
  }
}

get("search").addEventListener("input", typed);
get("clear").addEventListener("click", () => { history.length = 0; changed(); });
get("add").addEventListener("submit", add);
get("key").addEventListener("change", changed);
get("sign").addEventListener("submit", (event) => event.preventDefault());
start();
