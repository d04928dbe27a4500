// j and k go from one link that matters to the next (those with `data-step`); Enter opens it, as it does any link.
import { isTyping } from "./app.js";

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || (event.key !== "j" && event.key !== "k")) return;
  const links = [...document.querySelectorAll("a[data-step]")];
  const at = links.indexOf(document.activeElement);
  const next = at < 0 ? 0 : Math.min(Math.max(at + (event.key === "j" ? 1 : -1), 0), links.length - 1);
  links[next]?.focus();
  links[next]?.closest("article, tr").scrollIntoView({ block: "nearest" });
});
