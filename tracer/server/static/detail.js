// Around one trace: its neighbours in the list by keys, and feedback without leaving the page.
import { announce, isTyping, localize } from "./app.js";

const ways = { "[": "previous", "]": "next" };
document.addEventListener("keydown", (event) => {
  if (!isTyping(event) && ways[event.key]) document.getElementById(ways[event.key])?.click();
});

document.addEventListener("submit", async (event) => {
  const box = event.target.closest("[data-feedback]");
  if (!box) return;
  event.preventDefault();
  const data = new FormData(event.target, event.submitter);
  data.set("fragment", "1");
  const answer = await fetch(event.target.action, { method: "POST", body: new URLSearchParams(data) }).catch(() => null);
  const text = await answer?.text();
  const page = new DOMParser().parseFromString(text ?? "", "text/html");
  if (answer?.ok) {
    const fresh = page.querySelector("[data-feedback]");
    localize(fresh);
    box.replaceWith(fresh);
    announce("Saved");
  } else {
    const words = page.querySelector(".message")?.textContent ?? "The server doesn't answer.";
    box.querySelector("details").open = true;
    box.querySelector(".problem-line").textContent = words;
  }
});

// The moments of a span that was loaded later.
const place = document.querySelector(".tv-detail");
if (place) new MutationObserver(() => localize(place)).observe(place, { childList: true });
