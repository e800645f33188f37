/** Makes the points of the frontier answer: hover or focus tells the trial, a click shows its responses. */
function enliven(frontier, trials, tip, choose) {
  frontier.setAttribute("role", "group");
  trials.forEach((trial, place) => {
    const point = frontier.querySelector(`#frontier-trial-${place}`);
    if (!point) return;
    const told = trial.scores.map(([title, value]) => `${title} ${value}`).join(", ");
    point.setAttribute("tabindex", "0");
    point.setAttribute("role", "button");
    point.setAttribute("aria-label", `${trial.name}: ${told}. Show its responses.`);
    point.dataset.point = place;
    point.append(target(point));
    for (const event of ["mouseenter", "focus"]) point.addEventListener(event, () => tell(tip, trial, point));
    for (const event of ["mouseleave", "blur"]) point.addEventListener(event, () => (tip.hidden = true));
    point.addEventListener("click", () => choose(trial));
    point.addEventListener("keydown", (event) => {
      if (event.key === "Escape") tip.hidden = true;
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(trial);
    });
  });
}

/** A circle, larger than the drawn point, that a finger can hit. */
function target(point) {
  const box = point.getBBox();
  const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  circle.setAttribute("cx", box.x + box.width / 2);
  circle.setAttribute("cy", box.y + box.height / 2);
  circle.setAttribute("r", 12);
  circle.setAttribute("class", "target");
  return circle;
}

function tell(tip, trial, point) {
  const rows = trial.scores.map(([title, value, n]) =>
    element("tr", {}, element("th", { scope: "row" }, title), element("td", {}, value, element("small", {}, n))),
  );
  const lines = [trial.about, trial.knobs].filter(Boolean).map((line) => element("p", {}, line));
  tip.replaceChildren(element("strong", {}, trial.name), ...lines, element("table", {}, element("tbody", {}, ...rows)));
  tip.hidden = false;
  const at = point.getBoundingClientRect();
  const left = Math.min(at.right + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const top = at.top - tip.offsetHeight - 8;
  tip.style.left = `${window.scrollX + Math.max(8, left)}px`;
  tip.style.top = `${window.scrollY + (top > 0 ? top : at.bottom + 10)}px`;
}
