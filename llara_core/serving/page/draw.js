// Makes elements. Text of the corpus only ever becomes text nodes: no string is read as markup anywhere.

export function element(name, facts = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(facts)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Pieces are [text, matched]; <bdi> keeps letters that turn the direction of writing inside their own text.
export function pieces(parts, before = false, after = false) {
  const made = element("bdi", { dir: "auto" });
  if (before) made.append("… ");
  for (const [text, matched] of parts) made.append(matched ? element("mark", {}, text) : text);
  if (after) made.append(" …");
  return made;
}

export const empty = (parts) => parts.every(([text]) => text.trim() === "");
const isolated = (text) => element("bdi", { dir: "auto" }, text);
const number = new Intl.NumberFormat("en");
export const counted = (count, one, many) => `${number.format(count)} ${count === 1 ? one : many}`;

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function grade(value) {
  if (value === null) return null;
  if (value > 0) return element("span", { class: "chip good" }, value === 1 ? "answer" : `answer · grade ${value}`);
  return element("span", { class: "chip bad" }, "judged: no answer");
}

// Cosines differ in their third digit; a BM25 score is a sum of weights.
function score(value, system) {
  const shown = system === "bm25" ? value.toFixed(2) : value.toFixed(3);
  return element("span", { class: "score", title: system === "bm25" ? "BM25 score" : "cosine" }, shown);
}

function elsewhere(result, column, columns, short) {
  const others = columns.filter((one) => one !== column && one.state === "ready");
  if (!others.length) return null;
  const places = others.map((one) => {
    const rank = one.results.findIndex((other) => other.id === result.id) + 1;
    return rank ? `${short(one.system)} #${rank}` : `not in ${short(one.system)}`;
  });
  return element("span", { class: "elsewhere" }, places.join(" · "));
}

function card(result, column, columns, short, open) {
  const named = !empty(result.title);
  const title = named ? pieces(result.title) : isolated(result.id || "(no id)");
  const button = element("button", { class: "open", type: "button", disabled: !result.known }, title);
  button.addEventListener("click", () => open(result, column.system));
  const missing = "Its text is not at hand: this version was made before texts were kept.";
  const shown = empty(result.snippet) ? element("span", { class: "muted" }, "(no text)")
    : pieces(result.snippet, result.before, result.after);
  return element("li", { class: result.grade > 0 ? "result good" : "result" },
    element("div", { class: "head" },
      element("span", { class: "rank" }, String(result.rank)),
      element("h3", {}, button),
      score(result.score, column.system)),
    element("p", { class: "where" }, grade(result.grade),
      named ? element("span", { class: "id" }, isolated(result.id)) : null,
      elsewhere(result, column, columns, short)),
    element("p", { class: "snippet" }, result.known ? shown : missing));
}

function facts(column, judged) {
  const found = [];
  if (column.encode_ms !== null) found.push(`encode ${milliseconds(column.encode_ms)}`);
  if (column.search_ms !== null) found.push(`search ${milliseconds(column.search_ms)}`);
  const made = element("p", { class: "facts" }, found.join(" · "));
  if (column.ndcg_at_10 !== null) {
    const answers = column.results.filter((result) => result.grade > 0).length;
    made.append(element("span", { class: "judged" },
      element("span", { class: "chip" }, `nDCG@10 ${column.ndcg_at_10.toFixed(2)}`),
      element("span", { class: answers ? "chip good" : "chip bad" }, `${answers} of ${judged} found`)));
  }
  return made;
}

function body(column, columns, short, open, again) {
  if (column.state !== "ready") {
    const waits = column.state === "opening";
    return element("div", { class: waits ? "note waits" : "note" }, element("p", {}, column.message),
      waits || column.retry_after === null ? null
        : element("button", { type: "button", onclick: again }, "Try again"));
  }
  if (!column.results.length) {
    return element("p", { class: "note" },
      column.system === "bm25" ? "No passage shares a word with the query." : "Nothing found.");
  }
  const cards = column.results.map((result) => card(result, column, columns, short, open));
  return element("ol", { class: "list" }, ...cards);
}

// names: long for headings, short beside passages; open shows a passage, again asks the system once more.
export function drawn(column, place, answer, names, open, again) {
  const title = element("h2", { id: `column-${place}` }, isolated(names.long(column.system)));
  const note = column.state === "ready" && column.message ? element("p", { class: "small muted" }, column.message) : null;
  return element("section", {
    class: "column", "aria-labelledby": `column-${place}`, "data-system": column.system,
    "aria-busy": column.state === "opening" ? "true" : null,
  }, element("header", {}, title, facts(column, answer.judged), note),
  body(column, answer.columns, names.short, open, again));
}

export function placeholder(label, place) {
  const lines = [1, 2, 3, 4].map(() => element("div", { class: "ghost", "aria-hidden": "true" }));
  return element("section", { class: "column", "aria-labelledby": `column-${place}`, "aria-busy": "true" },
    element("header", {}, element("h2", { id: `column-${place}` }, label),
      element("p", { class: "facts" }, "searching …")), ...lines);
}
