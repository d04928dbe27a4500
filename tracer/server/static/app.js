// What every page has: theme, help, shortcuts, copy buttons, times in the reader's zone.

const root = document.documentElement;
const byId = (id) => document.getElementById(id);

byId("theme-button").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("tracer.theme", root.dataset.theme);
});

const help = byId("help");
byId("help-button").addEventListener("click", () => help.showModal());

/** Say something to people who listen to the page. */
export function announce(words) { byId("announce").textContent = words; }

/** Whether keys go into a field and are not shortcuts. */
export function isTyping(event) {
  const target = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || help.open ||
    target.isContentEditable || target.matches?.("input:not([type=checkbox], [type=radio]), textarea, select");
}

const pages = { t: "/", s: "/sessions", o: "/overview" };
let went = 0;
document.addEventListener("keydown", (event) => {
  if (isTyping(event)) return;
  if (event.key === "?") { event.preventDefault(); help.showModal(); }
  else if (event.key === "g") went = event.timeStamp;
  else if (went && event.timeStamp - went < 1500 && pages[event.key]) { went = 0; location.href = pages[event.key]; }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  await copy(document.querySelector(button.dataset.copy).textContent);
  const words = button.textContent;
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => { button.textContent = words; }, 1500);
});

/** Put text on the clipboard, also where the page is served without TLS under another name than localhost. */
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// Menus close on Escape and on a click elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); }
});

// Text that doesn't fit into a table's cell is shown when the pointer rests on it.
document.addEventListener("pointerover", (event) => {
  const cell = event.target.closest("td");
  if (cell && !cell.title && cell.scrollWidth > cell.clientWidth) cell.title = cell.textContent;
});

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });
const year = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

/** Show the moments below an element in the reader's time zone, as short as their age allows. */
export function localize(element) {
  const now = new Date();
  for (const time of element.querySelectorAll("time[datetime]:not([data-shown])")) {
    const at = new Date(time.dateTime);
    const form = at.toDateString() === now.toDateString() ? clock : at.getFullYear() === now.getFullYear() ? day : year;
    time.dataset.shown = "";
    time.textContent = form.format(at);
    time.title = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
  }
}

/** Let running times run: elements <time class="elapsed" data-since="milliseconds since the epoch">. */
export function tick() {
  for (const time of document.querySelectorAll("time.elapsed")) time.textContent = elapsed(Date.now() - time.dataset.since);
}

function elapsed(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${String(seconds % 60).padStart(2, "0")} s`;
  return `${Math.floor(seconds / 3600)} h ${String(Math.floor(seconds / 60) % 60).padStart(2, "0")} m`;
}

localize(document);
tick();
setInterval(() => { if (!document.hidden) tick(); }, 1000);
