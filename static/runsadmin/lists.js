// Lists. Choosing a filter applies it immediately; without scripts, a button does.

document.addEventListener("change", (event) => {
  const form = event.target.closest("[data-filters]");
  if (form && event.target.tagName === "SELECT") form.requestSubmit();
});

// Keep URLs short: do not send empty fields.
document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-filters]")) return;
  for (const field of event.target.elements) field.disabled ||= field.name && !field.value;
});

// Ticks are kept on all pages of a filtered list. An action clears them.
const bar = document.querySelector("[data-actions]");
if (bar) {
  const store = `ticked ${location.pathname}?${bar.dataset.filter}`;
  const find = (name) => bar.querySelector(`[data-${name}]`);
  const boxes = () => [...document.querySelectorAll("input.action-select")];
  const all = () => document.getElementById("action-toggle");
  const read = () => new Set((sessionStorage.getItem(store) ?? "").split(",").filter(Boolean));
  const across = find("across");

  const show = () => {
    const ticked = read();
    const shown = boxes();
    for (const box of shown) {
      box.checked = ticked.has(box.value);
      box.closest("tr").classList.toggle("ra-ticked", box.checked);
    }
    if (all()) all().checked = shown.length > 0 && shown.every((box) => box.checked);
    const elsewhere = ticked.size - shown.filter((box) => box.checked).length;
    const counted = ticked.size ? `${ticked.size.toLocaleString("en")} selected` : "Nothing selected";
    const text = elsewhere ? `${counted}, ${elsewhere.toLocaleString("en")} not on this page` : counted;
    find("ticked").textContent = across?.checked ? "All that match are selected" : text;
    find("untick").hidden = !ticked.size || across?.checked;
    for (const button of bar.querySelectorAll("[name=action]")) {
      const forAll = "forAll" in button.dataset;
      const limit = +(forAll ? bar.dataset.maxTicked : bar.dataset.maxRows);
      button.disabled = across?.checked ? !forAll : !ticked.size || ticked.size > limit;
    }
  };
  const tick = (changed, on) => {
    const ticked = read();
    for (const box of changed) ticked[on ? "add" : "delete"](box.value);
    sessionStorage.setItem(store, [...ticked].join(","));
    show();
  };

  document.addEventListener("change", (event) => {
    if (event.target.matches("input.action-select")) tick([event.target], event.target.checked);
    else if (event.target === all()) tick(boxes(), event.target.checked);
    else if (event.target === across) show();
  });
  find("untick").addEventListener("click", () => {
    sessionStorage.removeItem(store);
    show();
  });
  // Send all ticks in one field, since Django limits the number of fields.
  bar.closest("form").addEventListener("formdata", (event) => {
    event.formData.set("_selected_action", [...read()].join(","));
    sessionStorage.removeItem(store);
    setTimeout(show); // After a download, the page is still open.
  });
  window.addEventListener("pageshow", show);
  document.addEventListener("htmx:afterSwap", show);
  show();
}
