// Lists: choosing a filter shows it at once. Without scripts there is the button.

document.addEventListener("change", (event) => {
  const form = event.target.closest("[data-filters]");
  if (form && event.target.tagName === "SELECT") form.requestSubmit();
});

// Addresses stay short: what is not chosen is not sent.
document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-filters]")) return;
  for (const field of event.target.elements) field.disabled ||= field.name && !field.value;
});

// Ticked rows are remembered while somebody pages through what one filter shows, and forgotten with the tab.
const bar = document.querySelector("[data-ticks]");
if (bar) {
  const store = `ticked ${location.pathname}?${bar.dataset.filter}`;
  const most = +bar.dataset.most;
  const boxes = [...document.querySelectorAll("[data-tick]")];
  const find = (name) => bar.querySelector(`[data-${name}]`);
  const read = () => new Set((sessionStorage.getItem(store) ?? "").split(",").filter(Boolean));

  const show = () => {
    const ticked = read();
    for (const box of boxes) {
      box.checked = ticked.has(box.value);
      box.closest("tr").classList.toggle("ra-ticked", box.checked);
    }
    const count = ticked.size.toLocaleString("en");
    find("ticked").textContent = `Edit metadata of ${count} ticked ${ticked.size === 1 ? "run" : "runs"}`;
    find("ticked").disabled = !ticked.size || ticked.size > most;
    find("untick").hidden = !ticked.size;
    find("too-many").hidden = ticked.size <= most;
    find("tick-page").hidden = boxes.every((box) => box.checked);
  };
  const tick = (changed, on) => {
    const ticked = read();
    for (const box of changed) ticked[on ? "add" : "delete"](box.value);
    sessionStorage.setItem(store, [...ticked].join(","));
    show();
  };

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-tick]")) tick([event.target], event.target.checked);
  });
  find("tick-page").addEventListener("click", () => tick(boxes, true));
  find("untick").addEventListener("click", () => {
    sessionStorage.removeItem(store);
    show();
  });
  // What is ticked on other pages goes along.
  bar.closest("form").addEventListener("formdata", (event) => event.formData.set("run", [...read()].join(",")));
  window.addEventListener("pageshow", show);
  show();
}
