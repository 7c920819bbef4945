// The search page: what is asked stands in the address, what is answered in the columns.

import { ask, keepKey } from "./client.js";
import { counted, drawn, element, empty, grade, pieces, placeholder } from "./draw.js";
import { arrows } from "./keys.js";

const at = (id) => document.getElementById(id);
const NONE = "";
let known = []; // systems of the service
let answer = null; // to the query that is shown
let shown = 0; // which column a narrow screen shows
let running = null; // AbortController of what is being asked for
let timer = 0;
let early = false; // a search was asked for before the systems were known

const system = (id) => known.find((one) => one.id === id);
const names = {
  long: (id) => system(id)?.label ?? id,
  short(id) {
    const twice = known.filter((one) => one.version === system(id)?.version && one.id !== "champion").length > 1;
    if (id === "champion" || id === "bm25" || !system(id)) return { champion: "champion", bm25: "BM25" }[id] ?? id;
    return `version ${system(id).version}${twice ? ` (${system(id).created.slice(0, 10)})` : ""}`;
  },
};

// What is asked: the address, and the controls, which say the same.

function asked() {
  const parts = new URLSearchParams(location.search);
  return { query: parts.get("q") ?? "", systems: [...new Set(parts.getAll("s"))] };
}

function chosen() {
  const systems = [at("first").value, at("second").value, at("lexical").checked ? "bm25" : NONE];
  return [...new Set(systems.filter((one) => one !== NONE))];
}

function choose(systems) {
  if (!systems.length) return;
  const dense = systems.filter((one) => one !== "bm25");
  at("lexical").checked = systems.includes("bm25");
  for (const id of dense) if (!known.some((one) => one.id === id)) remember(id);
  at("first").value = dense[0] ?? "champion";
  at("second").value = dense[1] ?? NONE;
}

function remember(id) { // of somebody's link; the service says what became of it
  for (const select of ["first", "second"]) at(select).append(new Option(id, id));
}

function address(query, systems) {
  const parts = new URLSearchParams({ q: query });
  for (const one of systems) parts.append("s", one);
  return `?${parts}`;
}

// Searching.

function go(push, query = at("query").value.trim()) {
  const systems = chosen();
  stop();
  clear();
  at("start").hidden = true;
  document.title = query ? `${query} – LLaRA search` : "LLaRA search";
  const target = query ? address(query, systems) : location.pathname;
  if (push && target !== (location.search || location.pathname)) history.pushState(null, "", target);
  if (!query) {
    at("status").textContent = "";
    at("columns").replaceChildren();
    at("tabs").hidden = true;
    suggest();
    return;
  }
  if (!systems.length) {
    tell("Choose a system to search with.");
    return;
  }
  at("status").textContent = "Searching …";
  at("columns").replaceChildren(...systems.map((id, place) => placeholder(names.long(id), place)));
  at("tabs").hidden = true;
  show(Math.min(shown, systems.length - 1));
  search(query, systems);
}

async function search(query, systems) {
  running = new AbortController();
  const { signal } = running;
  try {
    const found = await ask("compare", { body: { query, systems }, signal });
    answer = { ...found, query };
    draw();
    later();
  } catch (error) {
    if (error.name === "AbortError") return;
    at("columns").replaceChildren();
    at("status").textContent = "";
    failed(error, () => go(false, query));
  }
}

// To begin with: fetched when there is no query yet, so that no search waits for it.
async function suggest() {
  if (!at("examples").children.length) {
    running = new AbortController();
    try {
      const { queries } = await ask("examples", { signal: running.signal });
      at("examples").replaceChildren(...queries.map((text) => element("li", {},
        element("button", { type: "button", onclick: () => { at("query").value = text; go(true); at("query").focus(); } }, text))));
    } catch (error) {
      if (error.name !== "AbortError") failed(error, suggest);
      return;
    }
  }
  at("start").hidden = !at("examples").children.length;
}

// Systems that are being opened are asked again, and nothing else is searched anew.
function later() {
  const waiting = answer.columns.filter((one) => one.state === "opening");
  if (!waiting.length) return;
  const seconds = Math.max(...waiting.map((one) => one.retry_after ?? 1));
  timer = setTimeout(() => again(waiting.map((one) => one.system)), 1000 * seconds);
}

async function again(systems) {
  try {
    const { query } = answer;
    const found = await ask("compare", { body: { query, systems }, signal: running.signal });
    const fresh = new Map(found.columns.map((one) => [one.system, one]));
    answer = { ...answer, judged: found.judged, columns: answer.columns.map((one) => fresh.get(one.system) ?? one) };
    draw();
    if (found.columns.some((one) => one.state !== "opening")) list();
    later();
  } catch (error) {
    if (error.name !== "AbortError") failed(error, () => again(systems));
  }
}

function stop() {
  clearTimeout(timer);
  running?.abort();
}

// Showing.

function draw() {
  const { columns } = answer;
  const held = document.activeElement?.closest?.(".column")?.dataset.system;
  const spot = held === undefined ? -1
    : [...document.activeElement.closest(".column").querySelectorAll("button")].indexOf(document.activeElement);
  at("columns").replaceChildren(...columns.map((column, place) =>
    drawn(column, place, answer, names, open, () => again([column.system]))));
  at("tabs").replaceChildren(...columns.map((column, place) =>
    element("button", { type: "button", onclick: () => show(place) }, names.short(column.system))));
  at("tabs").hidden = columns.length < 2;
  show(Math.min(shown, columns.length - 1));
  const kept = [...document.querySelectorAll(".column")].find((one) => one.dataset.system === held);
  kept?.querySelectorAll("button")[spot]?.focus(); // drawn anew under the reader's hands
  at("status").textContent = summary();
}

function summary() {
  const ready = answer.columns.filter((one) => one.state === "ready");
  const passages = ready.reduce((sum, one) => sum + one.results.length, 0);
  const words = [`${counted(passages, "passage", "passages")} from ${counted(ready.length, "system", "systems")}`];
  if (ready.length < answer.columns.length) words.push(`${answer.columns.length - ready.length} not ready yet`);
  if (answer.judged !== null) {
    words.push(`a judged query with ${counted(answer.judged, "known answer", "known answers")}`);
  }
  return words.join(" · ");
}

function show(place) {
  shown = place;
  at("columns").dataset.shown = String(place);
  for (const [row, one] of [...at("columns").children].entries()) one.classList.toggle("shown", row === place);
  for (const [row, one] of [...at("tabs").children].entries()) one.setAttribute("aria-pressed", String(row === place));
}

async function open(result, from) {
  const dialog = at("passage");
  at("passage-title").replaceChildren(empty(result.title) ? result.id : pieces(result.title));
  at("passage-facts").replaceChildren();
  at("passage-text").replaceChildren(element("p", { class: "muted" }, "Loading …"));
  dialog.showModal();
  const parts = new URLSearchParams({ id: result.id, system: from, query: answer.query });
  try {
    const found = await ask(`passage?${parts}`);
    if (!dialog.open) return;
    const flag = grade(found.grade);
    if (!empty(found.title)) at("passage-title").replaceChildren(pieces(found.title));
    at("passage-facts").append(element("bdi", { class: "id" }, found.id),
      element("span", {}, counted(found.characters, "character", "characters")), flag ?? "");
    at("passage-text").replaceChildren(empty(found.text) ? "(no text)" : pieces(found.text));
    at("passage-text").scrollTop = 0;
  } catch (error) {
    at("passage-text").replaceChildren(element("p", {}, error.message),
      element("button", { type: "button", onclick: () => { dialog.close(); open(result, from); } }, "Try again"));
  }
}

// Trouble.

function clear() {
  at("trouble").hidden = at("key").hidden = true;
}

function tell(message, retry = null) {
  const button = retry && element("button", { type: "button", onclick: () => { clear(); retry(); } }, "Try again");
  at("trouble").replaceChildren(element("p", {}, message), button ?? "");
  at("trouble").hidden = false;
}

function failed(error, retry) {
  if (error.key) {
    at("key").hidden = false;
    at("secret").focus();
    return;
  }
  tell(error.message, retry);
  if (error.again !== null && error.again !== undefined) {
    timer = setTimeout(() => { clear(); retry(); }, 1000 * error.again);
  }
}

// Beginning.

async function list() {
  const found = await ask("systems");
  known = found.systems;
  const kept = chosen();
  const options = (first) => [
    ...(first ? [] : [new Option("nothing else", NONE)]),
    ...known.filter((one) => one.id !== "bm25").map((one) =>
      new Option(one.same_corpus ? one.label : `${one.label} · other corpus`, one.id)),
  ];
  at("first").replaceChildren(...options(true));
  at("second").replaceChildren(...options(false));
  choose(kept);
  const champion = known.find((one) => one.id === "champion");
  const about = [found.collection, champion && counted(champion.documents, "passage", "passages")];
  at("about").textContent = about.filter(Boolean).join(" · ");
  if (!known.length) throw Object.assign(new Error("Nothing is live yet. The page goes on when something is."), { again: 2 });
}

async function begin() {
  try {
    await list();
  } catch (error) {
    at("status").textContent = "";
    failed(error, begin);
    return;
  }
  const { query, systems } = asked();
  // The version before the champion, where there is one, is what a champion is compared with.
  if (systems.length) choose(systems);
  else at("second").value = known.find((one) => one.label.endsWith("before"))?.id ?? NONE;
  if (early) go(true);
  else go(false, query); // and not what is only half typed
  early = false;
}

function submit() {
  if (known.length) return go(true);
  early = true;
  at("status").textContent = "Searching …";
}

at("ask").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
for (const id of ["first", "second", "lexical"]) at(id).addEventListener("change", submit);
at("key").addEventListener("submit", (event) => { event.preventDefault(); keepKey(at("secret").value); clear(); begin(); });
at("close").addEventListener("click", () => at("passage").close());
at("passage").addEventListener("click", (event) => { if (event.target === at("passage")) at("passage").close(); });
addEventListener("popstate", () => {
  const { query, systems } = asked();
  at("query").value = query;
  choose(systems);
  if (known.length) go(false);
});
addEventListener("online", () => { if (!at("trouble").hidden) begin(); });
arrows(show);
at("query").value ||= asked().query; // somebody may have typed before this ran
begin();
