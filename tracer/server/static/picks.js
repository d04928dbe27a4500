// Two ticked rows are compared. Ticks stay when rows leave the page or come again; a third tick replaces the first.
import { announce, isTyping } from "./app.js";

const form = document.getElementById("compare");
const table = document.getElementById("list");
let picks = [];

/** Tick the rows of the page as they were chosen. */
export function keepPicks() {
  if (!table) return;
  for (const box of table.querySelectorAll(".c-pick input")) box.checked = picks.includes(box.value);
}

function show() {
  keepPicks();
  form.classList.toggle("on", picks.length > 0);
  const words = picks.length < 2 ? "1 trace ticked: tick another to compare" : "2 traces ticked";
  form.querySelector("span").textContent = words;
  form.querySelector("button").disabled = picks.length < 2;
  if (picks.length) announce(words);
}

if (table && form) {
  // A browser that comes back to the page may restore old ticks.
  addEventListener("pageshow", () => {
    picks = [...table.querySelectorAll(".c-pick input:checked")].map((box) => box.value).slice(0, 2);
    show();
  });
  table.addEventListener("change", ({ target }) => {
    if (target.name !== "id") return;
    picks = target.checked ? [...picks, target.value].slice(-2) : picks.filter((id) => id !== target.value);
    show();
  });
  table.addEventListener("click", (event) => {
    const box = event.target.closest(".c-pick")?.querySelector("input");
    if (box && event.target !== box) box.click(); // the whole cell is easier to hit than the box
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "x" && !isTyping(event)) table.querySelector("tr.selected .c-pick input")?.click();
  });
  form.addEventListener("reset", (event) => { event.preventDefault(); picks = []; show(); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.href = `/compare?${new URLSearchParams({ a: picks[0], b: picks[1] })}`;
  });
}
