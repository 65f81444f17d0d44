"use strict";
// Texts of items are written with textContent alone: no title becomes a part of the page.
const get = (id) => document.getElementById(id);
const history = [];
let state = { item_field: "item_id", columns: [], baselines: [], model: "" };

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
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

function entry(parent, text, action) {
  const button = element("button", text, element("li", undefined, parent));
  button.type = "button";
  button.addEventListener("click", action);
}

function showHistory() {
  get("history").replaceChildren();
  history.forEach((item, place) => entry(get("history"), item.text + " \u2715", () => {
    history.splice(place, 1);
    changed();
  }));
}

let newest = 0;
async function recommend() {
  const number = ++newest;
  const tokens = history.map((item) => item.item);
  const names = [null, ...state.baselines];
  const answers = await Promise.all(names.map((name) =>
    ask("recommend", { history: tokens, k: 10, ...(name ? { model: name } : {}) }).catch((error) => ({ error }))));
  if (number !== newest) return;
  get("answers").replaceChildren();
  answers.forEach((answer, place) => {
    const column = element("div", undefined, get("answers"));
    element("h3", names[place] || state.model, column);
    if (answer.error) {
      element("p", answer.error.message, column);
      return;
    }
    const list = element("ol", undefined, column);
    list.className = "list";
    for (const item of answer.items) {
      const line = element("li", undefined, list);
      element("span", item.text + " ", line);
      element("span", item.score.toFixed(3), line).className = "score";
    }
  });
}

function changed() {
  showHistory();
  recommend().then(() => show(null), show);
}

let waiting;
function search() {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    try {
      const words = get("search").value.trim();
      const found = words ? (await ask("items?limit=10&query=" + encodeURIComponent(words))).items : [];
      get("found").replaceChildren();
      for (const item of found) entry(get("found"), item.text, () => { history.push(item); changed(); });
      show(null);
    } catch (error) {
      show(error);
    }
  }, 150);
}

async function add(event) {
  event.preventDefault();
  const item = {};
  for (const input of get("columns").querySelectorAll("input")) if (input.value) item[input.name] = input.value;
  try {
    const answer = await ask("items", { items: [item] });
    get("added").textContent = "added: " + answer.items + " items can be recommended";
    get("add").reset();
    changed();
  } catch (error) {
    show(error);
  }
}

async function start() {
  try {
    state = await ask("health");
    document.title = state.model + " on " + state.dataset;
    get("name").textContent = document.title;
    get("state").textContent = state.items.toLocaleString("en") + " items";
    for (const column of [state.item_field, ...state.columns]) {
      const label = element("label", column + " ", get("columns"));
      element("input", undefined, label).name = column;
    }
    changed();
  } catch (error) {
    show(error);
  }
}

get("search").addEventListener("input", search);
get("clear").addEventListener("click", () => { history.length = 0; changed(); });
get("add").addEventListener("submit", add);
get("key").addEventListener("change", changed);
start();
