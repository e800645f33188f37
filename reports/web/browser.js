const PAGE = 50; // prompts listed at a time

/** Which prompts are listed: each has a title and says whether a prompt of the two sides belongs. */
const SHOWN = {
  all: ["all prompts", () => true],
  differ: ["the two differ in outcome", ({ left, right, judge }, i) => {
    const [a, b] = [outcome(left, judge, i), outcome(right, judge, i)];
    return a !== null && b !== null ? a !== b : (a ?? b ?? "ties") !== "ties";
  }],
  text: ["the two wrote different text", ({ left, right }, i) => left.texts[i] !== right.texts[i]],
  wrong: ["a judge is wrong (by the data's check)", ({ trials, check, judges }, i) =>
    check !== null && trials.some((side) => {
      const truth = outcome(side, check, i);
      return judges.some((_, j) => {
        const said = j === check ? null : outcome(side, j, i);
        return said && truth && said !== "ties" && truth !== "ties" && said !== truth;
      });
    })],
  flips: ["a judge names another winner in the other order", ({ trials, judges }, i) =>
    trials.some((side) => judges.some((_, j) => ordersDisagree(side, j, i)))],
  unscored: ["without a readable verdict", ({ trials }, i) =>
    trials.some((side) => side.wins.some((said) => typeof said[i] === "string"))],
  wins: ["left beats the anchor", ({ left, judge }, i) => outcome(left, judge, i) === "wins"],
  loses: ["left loses to the anchor", ({ left, judge }, i) => outcome(left, judge, i) === "loses"],
  cut: ["cut off at the length limit", ({ left, right }, i) => Boolean(left.cut?.[i] || right.cut?.[i])],
};

/** In which order: a number for each prompt, the largest first. */
const ORDERED = {
  data: ["as in the data", (_, i) => -i],
  difference: ["largest difference in outcome", ({ left, right, judge }, i) =>
    Math.abs((chanceToWin(left, judge, i) ?? 0.5) - (chanceToWin(right, judge, i) ?? 0.5))],
  length: ["longest change in length", ({ left, right }, i) =>
    Math.abs((left.tokens?.[i] ?? left.texts[i]?.length / 4) - (right.tokens?.[i] ?? right.texts[i]?.length / 4)) || 0],
  best: ["left's clearest win first", ({ left, judge }, i) => chanceToWin(left, judge, i) ?? -1],
  worst: ["left's clearest loss first", ({ left, judge }, i) => -(chanceToWin(left, judge, i) ?? 2)],
};

/** The sample browser: any two sides' responses to every prompt, with all that was said of them. */
class SampleBrowser {
  constructor(root, evidence) {
    this.root = root;
    this.evidence = evidence;
    this.limit = PAGE;
    this.fields = Object.fromEntries([...root.querySelectorAll("[data-field]")].map((f) => [f.dataset.field, f]));
    this.list = root.querySelector("[data-part=list]");
    this.detail = root.querySelector("[data-part=detail]");
    this.count = root.querySelector("[data-part=count]");
    this.more = root.querySelector("[data-part=more]");
    this.fill();
    this.listen();
  }

  fill() {
    const { sides, judges } = this.evidence;
    const check = judges.indexOf("the data's check");
    const useless = { wrong: check < 0 || judges.length < 2, flips: !judges.length, unscored: !judges.length };
    const shown = Object.entries(SHOWN).filter(([name]) => !useless[name]);
    addOptions(this.fields.left, sides.map((side, i) => [i, side.name]));
    addOptions(this.fields.right, sides.map((side, i) => [i, side.name]));
    addOptions(this.fields.judge, judges.map((name, i) => [i, name]));
    addOptions(this.fields.shown, shown.map(([name, [title]]) => [name, title]));
    addOptions(this.fields.order, Object.entries(ORDERED).map(([name, [title]]) => [name, title]));
    this.fields.judge.closest("label").hidden = judges.length < 2;
    this.fields.left.value = Math.max(1, sides.findIndex((side) => side.name === this.evidence.best));
    this.fields.right.value = 1;
  }

  listen() {
    for (const [name, field] of Object.entries(this.fields)) {
      field.addEventListener("input", () => {
        this.limit = PAGE;
        if (["shown", "order", "search"].includes(name)) this.prompt = undefined; // another list begins at its top
        this.update();
        this.remember();
      });
    }
    this.more.addEventListener("click", () => {
      this.limit += PAGE;
      this.update();
    });
    this.list.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const items = [...this.list.querySelectorAll("button")];
      const next = items[items.indexOf(document.activeElement) + step];
      if (!step || !next) return;
      event.preventDefault();
      next.focus();
      next.click();
    });
  }

  /** What the fields ask for. */
  get asked() {
    const { sides, judges } = this.evidence;
    const [left, right] = [sides[this.fields.left.value], sides[this.fields.right.value]];
    const check = judges.indexOf("the data's check");
    const judge = Number(this.fields.judge.value || 0);
    const trials = [...new Set([left, right])].filter((side) => side.wins);
    return { left, right, judge, judges, trials, check: check < 0 ? null : check };
  }

  /** Shows these two sides by name, keeping the prompt; an unknown name changes nothing. */
  choose(left, right) {
    for (const [field, name] of [[this.fields.left, left], [this.fields.right, right]]) {
      const place = this.evidence.sides.findIndex((side) => side.name === name);
      if (place >= 0) field.value = place;
    }
    this.update();
  }

  /** The prompts that belong, in order. */
  matching() {
    const asked = this.asked;
    const words = this.fields.search.value.trim().toLowerCase();
    const held = (i) => [this.evidence.questions[i], asked.left.texts[i], asked.right.texts[i]]
      .some((text) => text?.toLowerCase().includes(words));
    const [, belongs] = SHOWN[this.fields.shown.value];
    const [, key] = ORDERED[this.fields.order.value];
    return this.evidence.questions.map((_, i) => i)
      .filter((i) => belongs(asked, i) && (!words || held(i)))
      .sort((i, j) => key(asked, j) - key(asked, i) || i - j);
  }

  update(prompt = this.prompt) {
    const found = this.matching();
    this.prompt = found.includes(prompt) ? prompt : found[0];
    const reach = Math.max(this.limit, found.indexOf(this.prompt) + 1);
    this.list.replaceChildren(...found.slice(0, reach).map((i) => this.item(i)));
    this.more.hidden = found.length <= reach;
    this.scroll();
    this.count.textContent = `${found.length} of ${this.evidence.questions.length} prompts`;
    this.show(this.prompt);
  }

  /** Brings the prompt that is shown into view within its list, and leaves the page where it is. */
  scroll() {
    const box = this.list.parentElement;
    const current = this.list.querySelector("[aria-current]");
    if (current) box.scrollTop = current.getBoundingClientRect().top - this.list.getBoundingClientRect().top - 60;
  }

  item(i) {
    const { left, right, judge } = this.asked;
    const said = [left, right].map((side) => outcome(side, judge, i)).filter(Boolean).join(" · ");
    const question = this.evidence.questions[i];
    const short = question.length > 110 ? `${question.slice(0, 110)}…` : question;
    const button = element("button", { type: "button", "data-prompt": i }, short, element("small", {}, said));
    if (i === this.prompt) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      this.prompt = i;
      for (const other of this.list.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      this.show(i);
      this.remember();
    });
    return element("li", {}, button);
  }

  show(i) {
    if (i === undefined) {
      this.detail.replaceChildren(element("p", {}, "No prompt matches: show all prompts, or search for something else."));
      return;
    }
    const asked = this.asked;
    const texts = [asked.left, asked.right].map((side) => side.texts[i] ?? "(not answered)");
    const marks = markDifferences(...texts);
    const responses = [asked.left, asked.right].map((side, place) => response(side, i, marks[place]));
    const answer = this.evidence.answers[i];
    const parts = [
      element("p", { class: "question" }, this.evidence.questions[i]),
      ...(answer ? [element("p", { class: "note" }, `Right answer: ${answer}`)] : []),
      element("div", { class: "responses" }, ...responses),
    ];
    if (asked.trials.length) parts.push(verdictTable(asked, i));
    this.detail.replaceChildren(...parts);
  }

  /** Lets the page's address name what is shown. */
  remember() {
    const { left, right } = this.asked;
    const names = new URLSearchParams({ prompt: this.prompt ?? "", left: left.name, right: right.name });
    try {
      history.replaceState(null, "", `#${names}`);
    } catch {
      // A page inside another may not rename itself; nothing else depends on it.
    }
  }

  /** Opens what an address of this page names: #prompt=3&left=…&right=… */
  restore(hash) {
    const names = new URLSearchParams(hash.slice(1));
    if (names.get("prompt")) this.prompt = Number(names.get("prompt"));
    this.choose(names.get("left"), names.get("right"));
    return names.has("prompt");
  }
}

function addOptions(select, options) {
  select.append(...options.map(([value, title]) => element("option", { value }, title)));
}

function response(side, i, words) {
  const facts = [];
  const correct = side.correct?.[i];
  if (correct !== undefined && correct !== null) facts.push(correct ? "correct" : "wrong");
  if (side.tokens?.[i]) facts.push(`${side.tokens[i]} tokens`);
  if (side.cut?.[i]) facts.push("cut off at the length limit");
  const empty = words.length === 0 || (words.length === 1 && words[0] === "");
  const text = element("p", { class: "response", tabindex: "0" }, ...(empty ? ["(empty)"] : words));
  return element("article", {}, element("h4", {}, side.name), text, element("p", { class: "note" }, facts.join(" · ")));
}

/** Who says what of each trial's response against the anchor's, order by order. */
function verdictTable({ trials, judges }, i) {
  const head = ["Against the anchor", "Says", "Shown first", "Shown second", "Both orders"];
  const rows = trials.flatMap((side) => judges.map((judge, j) => verdictRow(side, judge, j, i)));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Verdicts" },
    element("table", {},
      element("caption", {}, "Verdicts: chance that it beats the anchor's response"),
      element("thead", {}, element("tr", {}, ...head.map((title) => element("th", { scope: "col" }, title)))),
      element("tbody", {}, ...rows)));
}

function verdictRow(side, judge, j, i) {
  const verdict = side.wins[j]?.[i];
  const cells = typeof verdict === "string" ? [verdict, "—", "—"]
    : !verdict ? ["—", "—", "—"]
    : verdict.length === 1 ? ["—", "—", outcome(side, j, i)]
    : [...verdict.map(percent), `${outcome(side, j, i)}, ${percent(chanceToWin(side, j, i))}`];
  if (ordersDisagree(side, j, i)) cells[2] += " (orders disagree)";
  return element("tr", {}, element("th", { scope: "row" }, side.name), element("td", {}, judge), ...cells.map((c) => element("td", {}, c)));
}
