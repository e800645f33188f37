"use strict";

/** Every response, verdict and mark of the run, as reports/evidence.py packed it. */
async function unpackEvidence() {
  const packed = atob(document.getElementById("evidence").textContent.trim());
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

/** An element with attributes and children; text is only ever text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The judge's P(side beats the anchor), swap-debiased; null where there is no verdict. */
function chanceToWin(side, judge, prompt) {
  const verdict = side.wins?.[judge]?.[prompt];
  if (!Array.isArray(verdict)) return null;
  return verdict.reduce((sum, p) => sum + p, 0) / verdict.length;
}

/** "wins", "loses" or "ties" against the anchor; null where nobody says. */
function outcome(side, judge, prompt) {
  const chance = chanceToWin(side, judge, prompt);
  return chance === null ? null : chance > 0.5 ? "wins" : chance < 0.5 ? "loses" : "ties";
}

/** Whether a judge names another winner in the two orders. */
function ordersDisagree(side, judge, prompt) {
  const verdict = side.wins?.[judge]?.[prompt];
  return Array.isArray(verdict) && verdict.length === 2 && verdict[0] > 0.5 !== verdict[1] > 0.5;
}

function percent(share) {
  const shown = Math.round(100 * share);
  if (shown === 100 && share < 1) return "99.9%";
  if (shown === 0 && share > 0) return "0.1%";
  return `${shown}%`;
}
