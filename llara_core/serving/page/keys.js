// The keyboard: / to the query, arrows through the results; Enter and Esc are the browser's own.

const buttons = (column) => [...column.querySelectorAll("button.open:not(:disabled)")];

function move(from, key, show) {
  const columns = [...document.querySelectorAll(".column")].filter((one) => buttons(one).length);
  const column = columns.indexOf(from.closest(".column"));
  const mine = buttons(columns[column]);
  const row = mine.indexOf(from);
  if (key === "ArrowUp" && row === 0) return document.getElementById("query");
  if (key === "ArrowUp" || key === "ArrowDown") return mine[row + (key === "ArrowDown" ? 1 : -1)];
  if (key === "Home" || key === "End") return mine[key === "End" ? mine.length - 1 : 0];
  const beside = columns[column + (key === "ArrowRight" ? 1 : -1)];
  if (!beside) return undefined;
  show([...beside.parentElement.children].indexOf(beside)); // a narrow screen shows one at a time
  return buttons(beside)[Math.min(row, buttons(beside).length - 1)];
}

export function arrows(show) {
  const query = document.getElementById("query");
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    const { target, key } = event;
    let next;
    if (key === "/" && !target.closest("input, select, textarea")) next = query;
    else if (key === "ArrowDown" && target === query) {
      next = [...document.querySelectorAll(".column")].filter((one) => one.offsetParent !== null).flatMap(buttons)[0];
    } else if (target.matches("button.open") && /^(Arrow|Home$|End$)/.test(key)) next = move(target, key, show);
    else if (key === "Escape" && target.matches("button.open")) next = query;
    if (!next) return;
    event.preventDefault();
    next.focus();
    if (next === query) query.select();
    else next.closest(".result").scrollIntoView({ block: "nearest" });
  });
}
