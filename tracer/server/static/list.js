// The list of traces: rows come and go as one scrolls and as traces start and end; keys; parts that load behind it.
import { announce, isTyping, localize, tick } from "./app.js";
import { watch } from "./live.js";
import "./bar.js";
import "./columns.js";
import "./histogram.js";
import { keepPicks } from "./picks.js";

const table = document.getElementById("list");
const REACH = 1600; // pixels beyond the visible part within which rows stay in the page
const FIRST = 100;

if (table) start(); else if (document.getElementById("empty")) waitForFirst();

function waitForFirst() {
  watch(async () => {
    const { traces } = await (await fetch("/api/traces?limit=1")).json();
    if (traces.length) location.reload();
  });
}

function start() {
  const scroller = document.getElementById("scroller");
  const foot = document.getElementById("foot");
  const pill = document.getElementById("pill");
  const url = table.dataset.rows;
  const columnCount = table.tHead.rows[0].cells.length;
  const newestFirst = table.dataset.order === "start_time desc";
  // Pieces of the list in order, each a <tbody>: {body, token it was asked for with, rows: how many, loaded}.
  const pieces = [{ body: table.tBodies[0], token: "", rows: table.tBodies[0].rows.length, loaded: true }];
  let next = table.dataset.next, loading = false, selected = null, waiting = 0;

  // --- rows from the server ---------------------------------------------------------------------------------------
  async function fetchRows(parameters) {
    const asked = new URL(url, location);
    for (const [name, value] of Object.entries(parameters)) if (value) asked.searchParams.set(name, value);
    const answer = await fetch(asked);
    if (!answer.ok) throw new Error(answer.statusText);
    const body = document.createElement("tbody");
    body.innerHTML = await answer.text(); // our own markup: everything from a trace in it is escaped
    localize(body);
    return { body, next: answer.headers.get("X-Next-Page-Token") };
  }

  async function more() {
    if (loading || !next) return;
    loading = true;
    const token = next;
    try {
      const found = await fetchRows({ page_token: token });
      if (token === next) { // otherwise the list was begun anew meanwhile
        table.append(found.body);
        pieces.push({ body: found.body, token, rows: found.body.rows.length, loaded: true });
        next = found.next;
        if (!next) foot.textContent = "That's all.";
      }
    } catch { foot.textContent = "The server doesn't answer; scroll to try again."; }
    loading = false;
    tick();
    settle();
  }

  // --- what is far from being seen leaves the page ----------------------------------------------------------------
  function settle() {
    const below = innerHeight + REACH;
    for (const piece of pieces) {
      const box = piece.body.getBoundingClientRect();
      const near = box.bottom > -REACH && box.top < below;
      if (near && !piece.loaded) restore(piece);
      else if (!near && piece.loaded && piece !== pieces[pieces.length - 1]) empty(piece, box.height);
    }
    if (next && foot.getBoundingClientRect().top < below) more();
  }

  function empty(piece, height) {
    const row = document.createElement("tr"), cell = document.createElement("td");
    row.className = "spacer";
    row.setAttribute("aria-hidden", "true");
    cell.colSpan = columnCount;
    cell.style.height = `${height}px`;
    row.append(cell);
    piece.rows = piece.body.rows.length;
    piece.body.replaceChildren(row);
    piece.loaded = false;
  }

  async function restore(piece) {
    piece.loaded = true; // so that it is requested only once
    try {
      const limit = piece.token ? "" : String(Math.min(piece.rows, 1000));
      const found = await fetchRows({ page_token: piece.token, limit });
      piece.body.replaceChildren(...found.body.rows);
      mark();
      tick();
    } catch { piece.loaded = false; }
  }

  let asked = false;
  const onScroll = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      if (waiting && atTop()) refresh();
      settle();
    });
  };
  document.addEventListener("scroll", onScroll, { capture: true, passive: true });
  addEventListener("resize", onScroll);

  // --- live -------------------------------------------------------------------------------------------------------
  const atTop = () => scroller.scrollTop < 40 && scrollY < 40;

  async function refresh() {
    const found = await fetchRows({ limit: String(FIRST) });
    const known = rowsById();
    const rows = [...found.body.rows];
    for (const row of rows) {
      const old = known.get(row.dataset.id);
      if (old && old.innerHTML !== row.innerHTML) { old.innerHTML = row.innerHTML; old.dataset.state = row.dataset.state; }
    }
    keepPicks();
    await refreshRunning(rows);
    const fresh = rows.filter((row) => !known.has(row.dataset.id));
    if (!atTop()) tell(fresh.length);
    else if (fresh.length) { tell(0); newestFirst && fresh.length < rows.length ? prepend(fresh) : begin(found); }
    else tell(0);
    tick();
  }

  /** Updates running traces that are no longer among the first: otherwise they would seem to run for ever. */
  async function refreshRunning(seen) {
    const ids = new Set(seen.map((row) => row.dataset.id));
    const running = [...table.querySelectorAll('tr[data-state="IN_PROGRESS"]')].filter((row) => !ids.has(row.dataset.id));
    if (!running.length) return;
    const some = running.slice(0, 100);
    const list = some.map((row) => `'${row.dataset.id}'`).join(", ");
    const answer = await fetch(`/rows?${new URLSearchParams({ filter: `trace_id IN (${list})`, limit: "100" })}`);
    if (!answer.ok) return;
    const body = document.createElement("tbody");
    body.innerHTML = await answer.text();
    localize(body);
    for (const row of body.rows) {
      const old = some.find((candidate) => candidate.dataset.id === row.dataset.id);
      const href = old.querySelector("a").getAttribute("href"); // that of this list, not of the search for what runs
      old.innerHTML = row.innerHTML;
      old.querySelector("a").setAttribute("href", href);
      old.dataset.state = row.dataset.state;
    }
  }

  function prepend(rows) {
    for (const row of rows) row.classList.add("fresh");
    const first = pieces[0];
    first.body.prepend(...rows);
    first.rows += rows.length;
    if (first.rows > 600) begin(null);
    mark();
  }

  /** Begin the list anew with its first piece. */
  async function begin(found) {
    const first = found ?? (await fetchRows({ limit: String(FIRST) }));
    for (const piece of pieces.splice(1)) piece.body.remove();
    pieces[0].body.replaceChildren(...first.body.rows);
    Object.assign(pieces[0], { rows: pieces[0].body.rows.length, loaded: true });
    next = first.next;
    mark();
    settle();
  }

  function tell(count) {
    waiting = count;
    pill.hidden = !count;
    if (count) { pill.textContent = `${count >= FIRST ? `${FIRST}+` : count} new ↑`; announce(`${count} new traces`); }
  }
  pill.addEventListener("click", () => { scroller.scrollTop = 0; scrollTo(0, 0); refresh(); });

  const rowsById = () => new Map([...table.querySelectorAll("tbody tr[data-id]")].map((row) => [row.dataset.id, row]));

  let nextParts = 0; // charts of a large database take the server a second: they are limited to a twentieth of the time
  const line = watch(async () => {
    await refresh();
    if (Date.now() > nextParts) await loadParts();
  });
  const live = document.getElementById("live");
  live.addEventListener("click", () => {
    const on = live.getAttribute("aria-pressed") === "false";
    live.setAttribute("aria-pressed", String(on));
    on ? line.resume() : line.pause();
  });

  // --- facets and histogram, behind the list ----------------------------------------------------------------------
  async function load(id, target) {
    const answer = await fetch(document.getElementById(id).dataset.src);
    const place = document.querySelector(target), text = await answer.text();
    if (!answer.ok) { // such as a search that took too long
      place.textContent = new DOMParser().parseFromString(text, "text/html").querySelector(".message")?.textContent ?? "";
      return;
    }
    place.innerHTML = text;
    localize(place);
  }
  async function loadParts() {
    const began = Date.now();
    nextParts = Infinity;
    await Promise.all([load("histogram", "#histogram"), load("facets", "#facets > div")]);
    nextParts = Date.now() + Math.max(5000, 20 * (Date.now() - began));
  }
  loadParts();
  if (matchMedia("(max-width: 700px)").matches) document.getElementById("facets").open = false;

  // --- keys and clicks --------------------------------------------------------------------------------------------
  function mark() {
    keepPicks();
    for (const row of table.querySelectorAll("tr.selected")) row.classList.remove("selected");
    rowsById().get(selected)?.classList.add("selected");
  }

  function select(row) {
    selected = row.dataset.id;
    mark();
    row.querySelector("a").focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  function move(step) {
    const rows = [...table.querySelectorAll("tbody tr[data-id]")];
    const at = rows.findIndex((row) => row.dataset.id === selected);
    const row = rows[at < 0 ? 0 : Math.min(Math.max(at + step, 0), rows.length - 1)];
    if (row) select(row);
  }

  const open = (row) => { location.href = row.querySelector("a").href; };

  document.addEventListener("keydown", (event) => {
    if (isTyping(event)) return;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "Enter" && selected && (event.target === document.body || table.contains(event.target))) open(rowsById().get(selected));
  });

  table.addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr[data-id]");
    if (!row || event.target.closest("a, .c-pick") || getSelection().type === "Range") return;
    if (event.ctrlKey || event.metaKey) window.open(row.querySelector("a").href, "_blank", "noopener");
    else open(row);
  });

  foot.addEventListener("click", (event) => { if (next && event.target.closest("a")) { event.preventDefault(); more(); } });

  // --- begin ------------------------------------------------------------------------------------------------------
  /** Until its first paint the page lays out no more rows than a screen has: see list.css. */
  function showAll() {
    table.classList.add("whole");
    settle();
  }
  const [came] = performance.getEntriesByType("navigation");
  if (came?.type === "back_forward") showAll(); // the browser scrolls back to where the user was
  else requestAnimationFrame(() => setTimeout(showAll));
}
