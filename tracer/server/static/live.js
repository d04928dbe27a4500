// Tells when something was stored: one connection to the server, closed while the page is hidden.

/** Call `look` soon after each change, never twice at a time. Returns {pause, resume}. */
export function watch(look, { interval = 400 } = {}) {
  let source = null, paused = false, busy = false, again = false;

  async function changed() {
    if (paused) return; // the connection, when opened again, begins with "hello"
    if (busy) { again = true; return; }
    busy = true;
    try { await look(); } catch { /* the server is gone for now: the connection comes back and says so */ }
    await new Promise((done) => setTimeout(done, interval));
    busy = false;
    if (again) { again = false; changed(); }
  }
  function open() {
    if (source || paused || document.hidden) return;
    source = new EventSource("/api/live");
    source.addEventListener("hello", changed);
    source.addEventListener("changed", changed);
  }
  function close() { source?.close(); source = null; }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
  return { pause() { paused = true; close(); }, resume() { paused = false; open(); } };
}
