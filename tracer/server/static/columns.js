// Columns: which are shown (in the URL, and remembered) and how wide they are (remembered).

const table = document.getElementById("list");
const SHOWN = "tracer.columns", WIDTHS = "tracer.widths";
const read = (key) => { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } };

if (table) {
  const boxes = [...document.querySelectorAll('#columns input[type="checkbox"]')];
  const inUrl = new URLSearchParams(location.search).has("cols");

  const show = (keys) => {
    for (const box of boxes) {
      box.checked = keys.includes(box.value);
      table.classList.toggle(`hide-${box.value}`, !box.checked);
    }
  };
  /** Every link and form of the page keeps the choice, and so does the address. */
  const keep = (keys) => {
    const set = (url) => { keys ? url.searchParams.set("cols", keys.join(",")) : url.searchParams.delete("cols"); return url; };
    history.replaceState(null, "", set(new URL(location.href)));
    for (const link of document.querySelectorAll("#list thead a, .chips a")) link.href = set(new URL(link.href)).href;
    const form = document.getElementById("search");
    form.querySelector('input[name="cols"]')?.remove();
    if (keys) {
      const field = Object.assign(document.createElement("input"), { type: "hidden", name: "cols", value: keys.join(",") });
      form.append(field);
    }
  };

  const remembered = read(SHOWN);
  if (!inUrl && Array.isArray(remembered)) { show(remembered); keep(remembered); }
  document.getElementById("columns").addEventListener("change", () => {
    const keys = boxes.filter((box) => box.checked).map((box) => box.value);
    if (!keys.length) return;
    localStorage.setItem(SHOWN, JSON.stringify(keys));
    show(keys);
    keep(keys);
  });
  document.getElementById("reset-columns").addEventListener("click", () => {
    localStorage.removeItem(SHOWN);
    localStorage.removeItem(WIDTHS);
    const url = new URL(location.href);
    url.searchParams.delete("cols");
    location.href = url;
  });
  const widths = read(WIDTHS) ?? {};
  for (const head of table.tHead.rows[0].cells) {
    const key = head.dataset.key;
    if (!key) continue;
    if (widths[key]) head.style.width = `${widths[key]}px`;
    const grip = document.createElement("span");
    grip.className = "grip";
    head.append(grip);
    grip.addEventListener("pointerdown", (event) => drag(event, head, grip, key));
    grip.addEventListener("dblclick", () => { head.style.width = ""; delete widths[key]; localStorage.setItem(WIDTHS, JSON.stringify(widths)); });
  }

  function drag(event, head, grip, key) {
    event.preventDefault();
    const from = event.clientX, width = head.offsetWidth;
    grip.setPointerCapture(event.pointerId);
    grip.classList.add("held");
    const move = (moved) => {
      widths[key] = Math.max(34, width + moved.clientX - from);
      head.style.width = `${widths[key]}px`;
    };
    grip.addEventListener("pointermove", move);
    grip.addEventListener("pointerup", () => {
      grip.removeEventListener("pointermove", move);
      grip.classList.remove("held");
      localStorage.setItem(WIDTHS, JSON.stringify(widths));
    }, { once: true });
  }
}
