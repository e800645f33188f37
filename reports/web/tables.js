/** Turns the titles of a table into buttons that sort it: numbers the largest first, names from A to Z, gaps last. */
function makeSortable(table) {
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, column) => {
    if (!title.textContent.trim()) return;
    const button = element("button", { type: "button", class: "sort" });
    button.append(...title.childNodes);
    title.append(button);
    button.addEventListener("click", () => sortBy(table, titles, column));
  });
}

function sortBy(table, titles, column) {
  const numeric = titles[column].classList.contains("number");
  const before = titles[column].getAttribute("aria-sort");
  const down = before ? before === "ascending" : numeric;
  titles.forEach((title) => title.removeAttribute("aria-sort"));
  titles[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: sortKey(row.cells[column], numeric) }));
  rows.sort((a, b) => compareKeys(a.key, b.key, down));
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

function sortKey(cell, numeric) {
  if (cell.dataset.order !== undefined) return Number(cell.dataset.order);
  const text = cell.textContent.trim();
  if (!numeric) return text;
  const number = Number.parseFloat(text.replace("−", "-").replace(/[^\d.+-]/g, ""));
  return Number.isNaN(number) ? null : number;
}

function compareKeys(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" ? a - b : a.localeCompare(b, "en");
  return down ? -order : order;
}

/** Shows only the trials whose name holds one of the words, in every table of trials and on the frontier. */
function filterTrials(words, names) {
  const wanted = words.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const kept = (name) => !wanted.length || wanted.some((word) => name.toLowerCase().includes(word));
  for (const row of document.querySelectorAll("tbody tr")) {
    const name = row.cells[0].dataset.name;
    if (names.includes(name)) row.hidden = !kept(name);
  }
  for (const point of document.querySelectorAll("[data-point]")) {
    point.classList.toggle("faded", !kept(names[point.dataset.point]));
  }
  return names.filter(kept).length;
}
