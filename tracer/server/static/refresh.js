// Keeps a page without user input up to date: when something was stored, its parts are requested again. A part is
// an element with `data-part`; only those that differ are replaced. A busy store costs a twentieth of its time.
import { localize, tick } from "./app.js";
import { watch } from "./live.js";

const LEAST = 2000; // milliseconds between two looks
const parts = (root) => new Map([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
let timer = 0, wait = LEAST;

async function look() {
  const began = Date.now();
  let whole = true;
  try {
    const answer = await fetch(location.href);
    if (answer.ok) whole = show(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* the server is gone for now: the connection comes back and says so */ }
  wait = Math.max(LEAST, 20 * (Date.now() - began));
  timer = whole ? 0 : setTimeout(look, wait);
}

/** Put in what has changed. Returns false if something was left for later. */
function show(fresh) {
  localize(fresh);
  const held = parts(document), found = parts(fresh);
  // A part is gone (for example, when the first trace has come): the page is another one now.
  if ([...held.keys()].some((name) => !found.has(name))) { location.reload(); return true; }
  let last = null, whole = true;
  for (const [name, part] of found) {
    const old = held.get(name);
    if (!old) { last?.after(part); last = part; }
    else if (isSame(old, part)) last = old;
    else if (isBusy(old)) { last = old; whole = false; }
    else { exchange(old, part); last = part; }
  }
  tick();
  return whole;
}

function isSame(old, fresh) {
  const folds = (part) => [...part.querySelectorAll("details")];
  for (const [at, fold] of folds(fresh).entries()) fold.open = folds(old)[at]?.open ?? fold.open;
  return old.outerHTML === fresh.outerHTML;
}

/** Whether the user is drawing over it, or is about to copy from it. */
function isBusy(part) {
  const selection = getSelection();
  return part.matches(":active") || (!selection.isCollapsed && selection.containsNode(part, true));
}

function exchange(old, fresh) {
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
