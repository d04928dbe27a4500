// The chosen time in the reader's time zone; without scripts its fields are in the server's.

const form = document.getElementById("range");

if (form) {
  const fields = [...form.elements].filter((field) => field.type === "datetime-local");
  for (const field of fields) {
    if (!field.dataset.moment) continue;
    const at = new Date(field.dataset.moment);
    field.value = new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = new URLSearchParams(new FormData(form));
    for (const { name, value } of fields) {
      if (value) query.set(name, new Date(value).toISOString());
      else query.delete(name);
    }
    location.href = `${form.getAttribute("action")}?${query}`;
  });
}
