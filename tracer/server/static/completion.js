// The filter's field: proposes fields, operators and values, and shows errors while one types.

const input = document.getElementById("filter");
const WORDS = { after_value: ["AND", "OR"], text: ["=", "!=", "LIKE", "ILIKE", "RLIKE", "IN", "IS NULL", "IS NOT NULL"], number: ["=", "!=", ">", ">=", "<", "<=", "IS NULL"], words: ["=", "!=", "IN"] };
const TOKEN = /'(?:[^'\\]|\\.|'')*'?|"(?:[^"\\]|\\.)*"?|[\w.`-]+|!=|>=|<=|[=<>(),]/g;

if (input) {
  const list = document.createElement("ul");
  list.className = "completion";
  list.id = "completion";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Proposals");
  list.hidden = true;
  input.after(list);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-controls": "completion", "aria-expanded": "false", "aria-autocomplete": "list" })) input.setAttribute(name, value);

  let fields = null, proposals = [], at = -1, timer = 0;
  const known = async () => (fields ??= (await (await fetch("/api/fields")).json()).fields);
  const fieldOf = (name) =>
    fields.find((field) => field.name === name.toLowerCase()) ??
    (/^(tags?|metadata|span\.attributes|feedback)\../i.test(name) ? { name: name.replace(/^tag\./i, "tags."), kind: "text" } : null);

  /** The text before the caret: the word that is being written, and the tokens before it. */
  function situation() {
    const before = input.value.slice(0, input.selectionStart);
    const tokens = [...before.matchAll(TOKEN)];
    const last = tokens.at(-1);
    const writing = last && last.index + last[0].length === before.length && !/^[=<>!(),]+$/.test(last[0]) ? tokens.pop() : null;
    return { start: writing ? writing.index : before.length, word: writing ? writing[0] : "", tokens: tokens.map((token) => token[0]) };
  }

  function valuesFor(field) {
    if (field.values?.length) return field.values;
    return [...new Set([...document.querySelectorAll("a[data-field]")].filter((link) => link.dataset.field === field.name).map((link) => link.dataset.value))];
  }

  function propose() {
    const { tokens, word } = situation();
    const last = tokens.at(-1)?.toUpperCase(), before = tokens.at(-2);
    let found;
    if (!last || ["AND", "OR", "NOT"].includes(last) || (last === "(" && before?.toUpperCase() !== "IN")) {
      found = fields.map((field) => ({ text: field.name, note: field.unit ?? field.kind }));
    } else if (/^(!=|>=|<=|=|<|>|I?LIKE|RLIKE|\(|,)$/.test(last)) {
      const field = fieldOf(last === "(" || last === "," ? tokens[tokens.findLastIndex((token) => token.toUpperCase() === "IN") - 1] ?? "" : before ?? "");
      found = field && field.kind !== "number" ? valuesFor(field).map((value) => ({ text: `'${value.replaceAll("'", "''")}'`, note: "" })) : [];
    } else if (fieldOf(last)) {
      found = WORDS[fieldOf(last).kind].map((text) => ({ text, note: "" }));
    } else if (last === "IN") found = [{ text: "(", note: "" }];
    else found = WORDS.after_value.map((text) => ({ text, note: "" }));
    const wanted = word.replace(/^['"]/, "").toLowerCase();
    return found.filter(({ text }) => text.replace(/^'/, "").toLowerCase().includes(wanted) && text.toLowerCase() !== word.toLowerCase()).sort((a, b) => rank(a, wanted) - rank(b, wanted)).slice(0, 40);
  }
  const rank = ({ text }, wanted) => (text.replace(/^'/, "").toLowerCase().startsWith(wanted) ? 0 : 1);

  function show() {
    list.replaceChildren(...proposals.map(({ text, note }, index) => {
      const item = document.createElement("li"), small = document.createElement("small");
      item.id = `completion-${index}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(index === at));
      item.textContent = text;
      small.textContent = note;
      item.append(small);
      item.addEventListener("pointerdown", (event) => { event.preventDefault(); take(index); });
      return item;
    }));
    list.hidden = !proposals.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    at >= 0 ? input.setAttribute("aria-activedescendant", `completion-${at}`) : input.removeAttribute("aria-activedescendant");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  function hide() { proposals = []; at = -1; show(); }

  function take(index) {
    const { start } = situation(), caret = input.selectionStart;
    const text = proposals[index].text, open = text.includes("<") && !/^[<>]/.test(text) ? text.slice(0, text.indexOf("<")) : `${text} `;
    input.setRangeText(open, start, caret, "end");
    input.focus();
    update();
  }

  async function update() {
    await known();
    proposals = propose();
    at = -1;
    show();
    clearTimeout(timer);
    timer = setTimeout(check, 350);
  }

  async function check() {
    const problem = document.getElementById("problem"), text = input.value;
    const answer = text.trim() ? await (await fetch(`/api/filter?${new URLSearchParams({ filter: text })}`)).json() : {};
    if (input.value !== text) return;
    input.setAttribute("aria-invalid", String(Boolean(answer.error)));
    problem.replaceChildren();
    // The word that is still being written is not wrong yet: only errors before it are shown.
    if (!answer.error || (document.activeElement === input && answer.error.position > situation().start)) return;
    const words = document.createElement("pre");
    words.className = "problem";
    words.textContent = answer.error.message;
    problem.append(words);
  }

  input.addEventListener("input", update);
  input.addEventListener("focus", update);
  input.addEventListener("blur", () => { hide(); check(); });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!proposals.length) return;
      event.preventDefault();
      at = (at + (event.key === "ArrowDown" ? 1 : -1) + proposals.length + (at < 0 && event.key === "ArrowUp" ? 1 : 0)) % proposals.length;
      show();
    } else if ((event.key === "Enter" || event.key === "Tab") && at >= 0) { event.preventDefault(); take(at); }
    else if (event.key === "Escape" && proposals.length) { event.preventDefault(); hide(); }
  });
}
