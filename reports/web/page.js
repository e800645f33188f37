const evidence = unpackEvidence();

async function begin() {
  for (const table of document.querySelectorAll("table[data-sortable]")) makeSortable(table);
  const browser = document.getElementById("browser");
  if (!browser) return;
  const found = await evidence;
  const trials = found.sides.filter((side) => side.wins);
  const samples = new SampleBrowser(browser, found);
  const choose = (left, right) => {
    samples.choose(left, right);
    samples.remember();
    browser.scrollIntoView({ block: "start" });
    samples.list.querySelector("[aria-current]")?.focus({ preventScroll: true });
  };
  browser.hidden = false;
  const frontier = document.querySelector("#figure-frontier svg");
  if (frontier) enliven(frontier, trials, document.getElementById("tip"), (trial) => choose(trial.name, "anchor"));
  const known = new Set(trials.map((trial) => trial.name));
  for (const table of document.querySelectorAll("table[data-pairs]")) linkPairs(table, choose, known);
  listenToFilter(trials.map((trial) => trial.name));
  if (samples.restore(location.hash)) browser.scrollIntoView({ block: "start" });
  document.documentElement.dataset.ready = "true";
  performance.mark("ready");
}

/** Every cell of the matrix opens the responses of its row and its column; recipes of several seeds have none. */
function linkPairs(table, choose, known) {
  const columns = [...table.tHead.rows[0].cells].map((cell) => cell.dataset.name);
  for (const row of table.tBodies[0].rows) {
    const name = row.cells[0].dataset.name;
    [...row.cells].slice(1).forEach((cell, place) => {
      const other = columns[place + 1];
      if (name === other || !known.has(name) || !known.has(other)) return;
      const label = `${name} minus ${other}: ${cell.textContent.trim()}. Show their responses.`;
      const button = element("button", { type: "button", class: "pair", "aria-label": label });
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => choose(name, other));
    });
  }
}

function listenToFilter(names) {
  const filter = document.getElementById("filter");
  if (!filter) return;
  filter.closest(".filter").hidden = false;
  filter.addEventListener("input", () => {
    const left = filterTrials(filter.value, names);
    document.getElementById("filtered").textContent = filter.value.trim() ? `${left} of ${names.length} trials` : "";
  });
}

// What is folded on the screen is open on paper.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not([open])")) {
    folded.open = true;
    addEventListener("afterprint", () => (folded.open = false), { once: true });
  }
});

begin().catch((error) => {
  // An old browser lacks DecompressionStream: tables and figures are there all the same, and the page says what is not.
  const browser = document.getElementById("browser");
  browser?.replaceWith(element("p", { class: "note" }, `The sample browser needs a newer web browser (${error.message}).`));
  document.documentElement.dataset.ready = "false";
});
