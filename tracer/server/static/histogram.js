// Choose a time by drawing over a chart; a click chooses one bar. For every <svg data-from data-to data-steps>, also
// those that come later.

let from = null, svg = null;

const share = (event) => {
  const box = svg.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
};
const draw = (a, b) => {
  const brush = svg.querySelector(".chart-brush");
  brush.setAttribute("x", Math.min(a, b) * 1000);
  brush.setAttribute("width", Math.abs(b - a) * 1000);
};

document.addEventListener("pointerdown", (event) => {
  svg = event.target.closest("svg[data-steps]");
  if (!svg || event.button !== 0) return;
  from = share(event);
  svg.setPointerCapture(event.pointerId);
});
document.addEventListener("pointermove", (event) => { if (from !== null) draw(from, share(event)); });
document.addEventListener("pointercancel", () => { if (from !== null) { draw(0, 0); from = null; } });
document.addEventListener("pointerup", (event) => {
  if (from === null) return;
  const steps = Number(svg.dataset.steps), start = Number(svg.dataset.from), end = Number(svg.dataset.to);
  const [a, b] = [from, share(event)].sort((x, y) => x - y);
  from = null;
  // Whole bars, and one at least.
  const low = Math.min(Math.floor(a * steps), steps - 1), high = Math.max(Math.ceil(b * steps), low + 1);
  const moment = (bar) => new Date(start + ((end - start) * bar) / steps).toISOString();
  const url = new URL(location.href);
  url.searchParams.set("since", moment(low));
  url.searchParams.set("until", moment(high));
  location.href = url;
});
