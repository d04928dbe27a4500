// The bar that says which traces are shown, on every page that has it: its keys, and an address without blanks.
import { isTyping } from "./app.js";
import "./completion.js";
import "./range.js";

const form = document.getElementById("search");

if (form) {
  const field = (id) => document.getElementById(id);
  // Blank parameters are left out of the URL.
  form.addEventListener("submit", () => { for (const each of form.elements) if (each.name && !each.value) each.disabled = true; });
  addEventListener("pageshow", () => { for (const each of form.elements) each.disabled = false; });
  field("since").addEventListener("change", () => {
    form.querySelector('input[type="hidden"][name="until"]')?.remove();
    form.requestSubmit();
  });
  document.addEventListener("keydown", (event) => {
    if (isTyping(event)) {
      if (event.key === "Escape" && !event.defaultPrevented && event.target.form === form) event.target.blur();
    } else if (event.key === "/") { event.preventDefault(); field("text").select(); field("text").focus(); }
    else if (event.key === "f") { event.preventDefault(); field("filter").focus(); }
  });
}
