// The page of one trace: choosing spans, keyboard, finding, copying, replay. Without this module the page still reads.

const all = (root, what) => [...root.querySelectorAll(what)];
const idOf = (row) => row?.getAttribute("href").split(/=|#s-/)[1];
const level = (row) => Number(row.getAttribute("aria-level"));

/** Makes one view interactive. On a server, spans are fetched when they are chosen; a file has them already. */
export function start(view) {
  const tree = view.querySelector(".tv-tree");
  const detail = view.querySelector(".tv-detail");
  const form = view.querySelector(".tv-find");
  const source = view.dataset.spans;
  let rows = all(tree, ".r");
  let request = null;
  view.classList.add("on");
  view.classList.toggle("placeless", location.protocol === "about:"); // a notebook's frame: its spans have no address
  if (view.querySelector(".hit")) tree.classList.add("finding");

  // --- the tree ----------------------------------------------------------------------------------------------------

  /** Inserts the next piece of the rows. A long page keeps them as text, so that its first paint need not wait. */
  function extend() {
    const piece = tree.querySelector("noscript");
    if (!piece) return false;
    const box = document.createElement("template");
    box.innerHTML = piece.textContent; // our own markup, as the parser would have read it without scripts
    const fresh = all(box.content, ".r");
    for (const row of fresh) row.tabIndex = -1;
    piece.replaceWith(box.content);
    rows.push(...fresh);
    return true;
  }

  function complete() {
    while (extend());
  }

  function extendInTime() {
    if (extend()) setTimeout(extendInTime);
  }

  const rowOf = (id) => rows.find((row) => id?.startsWith(idOf(row)));
  const chosen = () => rows.find((row) => row.ariaSelected === "true");
  const shown = () => rows.filter((row) => !row.hidden);

  function rove(row, focus = true) {
    for (const other of all(tree, '[tabindex="0"]')) other.tabIndex = -1;
    row.tabIndex = 0;
    if (focus) row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  function fold(row, open) {
    if (!row.hasAttribute("aria-expanded")) return;
    row.setAttribute("aria-expanded", String(open));
    let closed = open ? Infinity : level(row);
    for (let at = rows.indexOf(row) + 1; at < rows.length && level(rows[at]) > level(row); at++) {
      if (level(rows[at]) <= closed) closed = Infinity;
      rows[at].hidden = closed < Infinity;
      if (closed === Infinity && rows[at].getAttribute("aria-expanded") === "false") closed = level(rows[at]);
    }
  }

  function reveal(row) {
    for (let at = rows.indexOf(row) - 1, above = level(row); at >= 0 && above > 1; at--) {
      if (level(rows[at]) < above) {
        above = level(rows[at]);
        fold(rows[at], true);
      }
    }
  }

  function step(row, by) {
    const among = shown();
    return among[Math.max(0, Math.min(among.length - 1, among.indexOf(row) + by))];
  }

  const parent = (row) => rows.slice(0, rows.indexOf(row)).reverse().find((other) => level(other) < level(row)) ?? row;

  function move(row, key) {
    const open = row.getAttribute("aria-expanded");
    if (key === "ArrowDown") return step(row, 1);
    if (key === "ArrowUp") return step(row, -1);
    if (key === "Home") return shown()[0];
    if (key === "End") return shown().at(-1);
    if (key === "ArrowRight") return open === "false" ? (fold(row, true), row) : open ? step(row, 1) : row;
    if (key === "ArrowLeft") return open === "true" ? (fold(row, false), row) : parent(row);
    return null;
  }

  tree.addEventListener("keydown", (event) => {
    const row = event.target.closest(".r");
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = move(row, event.key);
    if (next) rove(next);
    else if (event.key === "Enter" || event.key === " ") choose(idOf(row));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // --- the chosen span ---------------------------------------------------------------------------------------------

  const article = () => detail.querySelector(source ? "article" : ".tv-one[open] article");
  const tab = () => article()?.querySelector(".tabs input:checked")?.value ?? "main";

  async function choose(id, { remember = true, focus = true } = {}) {
    complete();
    const row = rowOf(id);
    if (!row) return;
    chosen()?.setAttribute("aria-selected", "false");
    row.setAttribute("aria-selected", "true");
    reveal(row);
    rove(row, focus);
    if (!(await (source ? load(id) : open(id)))) return;
    mark();
    if (remember) address({ span: id });
  }

  async function load(id) {
    request?.abort();
    request = new AbortController();
    const mine = request;
    detail.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(source + id, { signal: mine.signal });
      if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
      const text = await answer.text();
      const kept = tab(); // asked now: the reader may have chosen another one while this loaded
      detail.innerHTML = text;
      setTab(kept);
    } catch (error) {
      if (mine.signal.aborted) return false;
      detail.textContent = `The span could not be loaded: ${error.message}`;
    }
    detail.removeAttribute("aria-busy");
    return mine === request;
  }

  function open(id) {
    const kept = tab();
    const spare = all(detail, "template").find((one) => one.dataset.id === id);
    if (spare) {
      const box = document.createElement("details");
      box.className = "tv-one";
      box.id = `s-${id}`;
      box.dataset.id = id;
      box.append(spare.content.cloneNode(true));
      spare.replaceWith(box);
    }
    for (const box of all(detail, ".tv-one")) box.open = box.dataset.id === id;
    setTab(kept);
    return true;
  }

  function setTab(name) {
    const input = article()?.querySelector(`.tabs input[value="${CSS.escape(name)}"]`);
    if (input) input.checked = true;
  }

  function address(change) {
    try {
      if (!source) return history.replaceState(null, "", change.span ? `#s-${change.span}` : location.hash);
      const url = new URL(location.href);
      for (const [name, value] of Object.entries(change)) {
        if (value) url.searchParams.set(name, value);
        else url.searchParams.delete(name);
      }
      history[change.span ? "pushState" : "replaceState"](null, "", url);
    } catch {
      // a frame without an address of its own: a notebook
    }
  }

  addEventListener("popstate", () => {
    const id = new URL(location.href).searchParams.get("span") ?? idOf(rows[0]);
    if (source && id !== idOf(chosen())) choose(id, { remember: false, focus: false });
  });

  // --- finding -----------------------------------------------------------------------------------------------------

  const term = () => form.elements.find.value.trim().replace(/\s+/g, " ").toLowerCase();
  let ranges = [];
  let now = -1;

  function mark() {
    ranges = [];
    now = -1;
    if (!globalThis.CSS?.highlights) return;
    CSS.highlights.clear();
    const wanted = term();
    const root = article();
    if (!wanted || !root) return;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode() && ranges.length < 2000) {
      const node = walker.currentNode;
      if (node.parentElement.closest('[data-panel="raw"], .tabs')) continue;
      const text = node.data.toLowerCase();
      for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + wanted.length);
        ranges.push(range);
      }
    }
    CSS.highlights.set("tv-find", new Highlight(...ranges));
  }

  function go(at) {
    now = at;
    const place = ranges[at].startContainer.parentElement;
    for (let up = place; up !== detail; up = up.parentElement) {
      if (up.tagName === "DETAILS") up.open = true;
      if (up.dataset.panel) setTab(up.dataset.panel);
    }
    place.scrollIntoView({ block: "center" });
    CSS.highlights.set("tv-find-now", new Highlight(ranges[at]));
  }

  async function find(by) {
    if (ranges[now + by]) return go(now + by);
    const hits = rows.filter((row) => row.classList.contains("hit"));
    if (!hits.length) return;
    const from = rows.indexOf(chosen());
    const next = by > 0 ? hits.find((row) => rows.indexOf(row) > from) : hits.findLast((row) => rows.indexOf(row) < from);
    const row = next ?? hits.at(by > 0 ? 0 : -1);
    if (row !== chosen()) await choose(idOf(row), { focus: false });
    if (ranges.length) go(by > 0 ? 0 : ranges.length - 1);
  }

  function findHere() {
    const wanted = term();
    let hits = 0;
    for (const row of rows) {
      const box = detail.querySelector(`[data-id="${idOf(row)}"]`);
      const text = row.textContent + ((box?.content ?? box)?.textContent ?? "");
      const found = wanted !== "" && text.replace(/\s+/g, " ").toLowerCase().includes(wanted);
      row.classList.toggle("hit", found);
      hits += found;
    }
    tree.classList.toggle("finding", wanted !== "");
    form.querySelector(".count").textContent = wanted ? `${hits} of ${rows.length} spans` : "";
    mark();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (form.dataset.last === term() && term()) return find(1);
    form.dataset.last = term();
    if (source) {
      const url = new URL(location.href);
      url.searchParams.set("find", form.elements.find.value);
      location.assign(url);
    } else {
      findHere();
      find(1);
    }
  });
  form.elements.find.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    form.elements.find.blur();
  });
  form.dataset.last = term();

  // --- clicks and keys ---------------------------------------------------------------------------------------------

  view.addEventListener("click", (event) => {
    const at = event.target;
    const row = at.closest(".r");
    const link = at.closest("[data-go]");
    if ((row || link) && (event.ctrlKey || event.metaKey || event.shiftKey)) return;
    if (row && at.closest(".tw") && row.hasAttribute("aria-expanded")) fold(row, row.ariaExpanded !== "true");
    else if (row) choose(idOf(row));
    else if (link) choose(link.dataset.go);
    else if (at.closest(".copy")) return copy(at.closest(".copy"));
    else if (at.closest("[data-replay]")) return replay(at.closest("[data-replay]"));
    else if (at.closest("[data-find]")) return find(Number(at.closest("[data-find]").dataset.find));
    else return;
    event.preventDefault();
  });
  view.addEventListener("change", (event) => {
    if (event.target.closest(".tabs")) address({ tab: event.target.value === "main" ? "" : event.target.value });
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=radio]), textarea, select, [contenteditable], dialog")) return;
    if (!view.checkVisibility()) return;
    if (event.key === "/") form.elements.find.focus();
    else if (event.key === "j" || event.key === "k") choose(idOf(step(chosen() ?? rows[0], event.key === "j" ? 1 : -1)));
    else return;
    event.preventDefault();
  });

  // --- a trace that still runs ---------------------------------------------------------------------------------------

  /** Requests the page again and inserts what has changed. Run at each ``tracer:changed`` event. */
  async function refresh() {
    const answer = await fetch(location.href);
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".tv");
    if (!fresh) return;
    if (!fresh.dataset.live) delete view.dataset.live;
    for (const piece of all(fresh, "noscript")) piece.replaceWith(...piece.childNodes); // this runs no script
    complete();
    const id = idOf(chosen());
    const wasOpen = rowOf(id)?.classList.contains("open");
    const folded = rows.filter((row) => row.ariaExpanded === "false").map(idOf);
    const focused = tree.contains(document.activeElement) && idOf(document.activeElement);
    view.querySelector(".tv-head").replaceWith(fresh.querySelector(".tv-head"));
    tree.replaceChildren(...fresh.querySelector(".tv-tree").children);
    rows = all(tree, ".r");
    for (const row of rows) row.setAttribute("aria-selected", String(idOf(row) === id));
    for (const one of folded) if (rowOf(one)) fold(rowOf(one), false);
    for (const row of rows) row.tabIndex = idOf(row) === id ? 0 : -1;
    if (focused) rowOf(focused)?.focus({ preventScroll: true });
    const busy = detail.querySelector("form :focus"); // somebody is writing there
    if ((wasOpen || !id) && !busy) await choose(id ?? idOf(rows[0]), { remember: false, focus: false });
    localTimes(view);
  }
  view.addEventListener("tracer:changed", () => refresh().catch(() => {}));

  /** Listens until the trace has ended, while the page is visible; a slow page is requested less often. */
  function listen() {
    let line = null, timer = 0, pause = 1000;
    const again = async () => {
      timer = 0;
      const begun = performance.now();
      await refresh().catch(() => {});
      pause = Math.max(1000, 3 * (performance.now() - begun));
      if (!view.dataset.live) line?.close();
    };
    const attend = () => {
      line?.close();
      if (document.hidden || !view.dataset.live) return;
      line = new EventSource(view.dataset.live);
      line.addEventListener("changed", () => (timer ||= setTimeout(again, pause)));
    };
    document.addEventListener("visibilitychange", () => (attend(), document.hidden || again()));
    addEventListener("pagehide", () => line?.close());
    attend();
  }
  if (view.dataset.live) listen();

  // --- begin ---------------------------------------------------------------------------------------------------------

  for (const row of rows) row.tabIndex = -1;
  if (!chosen() || term()) complete();
  else {
    requestAnimationFrame(() => setTimeout(extendInTime));
    // A user who is quicker finds all rows, too.
    for (const kind of ["keydown", "pointerdown", "click"]) document.addEventListener(kind, complete, { capture: true, once: true });
  }
  const first = chosen() ?? rows[0];
  if (first) first.tabIndex = 0;
  if (source) setTab(new URL(location.href).searchParams.get("tab") ?? "main");
  else if (rowOf(location.hash.slice(3))) choose(location.hash.slice(3), { remember: false, focus: false });
  first?.scrollIntoView({ block: "nearest" });
  localTimes(view);
  mark();
}

function localTimes(view) {
  for (const time of all(view, "time[data-ns]")) {
    const moment = new Date(Number(time.dataset.ns) / 1e6);
    if (Number.isNaN(moment.getTime())) continue;
    time.title = time.textContent;
    time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

// --- copying -------------------------------------------------------------------------------------------------------

async function copy(button) {
  const text = textOf(button);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const words = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = words), 1200);
}

function textOf(button) {
  const { copyText, copyPath, copyLink } = button.dataset;
  if (copyText) return copyText;
  if (copyLink) {
    const served = button.closest(".tv").dataset.spans;
    return Object.assign(new URL(location.href), served ? { hash: "", search: `?span=${copyLink}` } : { hash: `s-${copyLink}` }).href;
  }
  if (copyPath) return messageAt(button, JSON.parse(copyPath));
  return button.closest(".snippet, [data-panel]").querySelector("pre").textContent;
}

/** A message as it was sent: its text, or its JSON if it is more than text. */
function messageAt(button, path) {
  const raw = button.closest("article").querySelector("pre.raw");
  if (raw.hasAttribute("data-cut")) return button.closest(".msg").innerText;
  const value = path.reduce((inner, key) => inner?.[key], JSON.parse(raw.textContent));
  if (typeof value === "string") return value;
  const others = Object.keys(value).filter((key) => value[key] && !["role", "content", "type"].includes(key));
  return typeof value.content === "string" && !others.length ? value.content : JSON.stringify(value, null, 2);
}

// --- replay ----------------------------------------------------------------------------------------------------------

/** Plays a stream back as it came: each piece of text after its original delay. */
function replay(button) {
  const panel = button.closest("[data-panel]");
  const box = panel.querySelector(".replay");
  const screen = box.querySelector(".screen");
  const bar = box.querySelector("progress");
  const lines = all(panel, "tr[data-ns]");
  if (button.dataset.on) return stop();
  const begun = performance.now();
  const end = Number(lines.at(-1).dataset.ns) / 1e6;
  let at = 0;
  screen.textContent = "";
  box.hidden = false;
  button.textContent = "Stop";
  button.dataset.on = "1";
  requestAnimationFrame(frame);

  function frame() {
    if (!button.dataset.on || !button.isConnected) return;
    const past = performance.now() - begun;
    let text = "";
    lines[at - 1]?.classList.remove("now");
    for (; at < lines.length && Number(lines[at].dataset.ns) / 1e6 <= past; at++) text += lines[at].querySelector("q")?.textContent ?? "";
    lines[at - 1]?.classList.add("now");
    if (text) screen.append(text);
    bar.value = end ? Math.min(1, past / end) : 1;
    if (at < lines.length) requestAnimationFrame(frame);
    else stop();
  }

  function stop() {
    delete button.dataset.on;
    button.textContent = "Replay";
    panel.querySelector("tr.now")?.classList.remove("now");
  }
}

addEventListener("message", ({ data }) => {
  const framed = location.protocol === "about:"; // in a notebook, which decides the theme
  if (framed && (data === "dark" || data === "light")) document.documentElement.dataset.theme = data;
});
for (const view of document.querySelectorAll(".tv")) start(view);
