// Keeps a page up to date that has nothing to lose: when something was stored, its parts are asked for again. A part is
// an element with `data-part`; only those that differ are replaced. A busy store costs a twentieth of its time.
import { localize, tick } from "./app.js";
import { watch } from "./live.js";

const LEAST = 2000; // milliseconds between two looks
const parts = (root) => [...root.querySelectorAll("[data-part]")];
let timer = 0, wait = LEAST;

async function look() {
  const began = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* the server is gone for now: the line comes back and says so */ }
  wait = Math.max(LEAST, 20 * (Date.now() - began));
  timer = 0;
}

function show(fresh) {
  localize(fresh);
  const held = parts(document), found = parts(fresh);
  // Not the same parts any more, as when the first trace has come: that is another page.
  if (!held.every((part, at) => part.dataset.part === found[at]?.dataset.part)) return location.reload();
  for (const [at, part] of held.entries()) exchange(part, found[at]);
  parts(document).at(-1)?.after(...found.slice(held.length));
  tick();
}

function exchange(old, fresh) {
  const folds = (part) => [...part.querySelectorAll("details")];
  for (const [at, fold] of folds(fresh).entries()) fold.open = folds(old)[at]?.open ?? fold.open;
  if (old.outerHTML === fresh.outerHTML) return;
  const selection = getSelection();
  if (selection && !selection.isCollapsed && selection.containsNode(old, true)) return; // somebody is copying from it
  const stops = (part) => [...part.querySelectorAll("a, summary")];
  const at = stops(old).indexOf(document.activeElement);
  old.replaceWith(fresh);
  stops(fresh)[at]?.focus({ preventScroll: true });
}

const line = watch(async () => { timer ||= setTimeout(look, wait); });
const live = document.getElementById("live");
live?.addEventListener("click", () => {
  const on = live.getAttribute("aria-pressed") === "false";
  live.setAttribute("aria-pressed", String(on));
  on ? line.resume() : line.pause();
});
