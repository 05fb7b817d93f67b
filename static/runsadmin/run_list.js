// The list of runs, and the way from a run to its neighbors in the list. Without scripts, links and forms do the same.

// J and → open the next run, K and ← the previous one; not while typing, and not in a scrolled text.
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable], [role=dialog], pre")) return;
  const relation = { j: "next", ArrowRight: "next", k: "prev", ArrowLeft: "prev" }[event.key];
  const link = relation && document.querySelector(`.ra-place a[rel=${relation}]`);
  if (link) {
    event.preventDefault();
    link.click();
  }
});

// After the way back from a run, its row has the focus. The browser itself scrolls to it, and then resets the focus.
window.addEventListener("load", () => {
  const target = location.hash.startsWith("#run-") && document.getElementById(location.hash.slice(1));
  if (!target) return;
  target.scrollIntoView({ block: "center" });
  setTimeout(() => target.querySelector("a.ra-id, a.ra-open")?.focus({ preventScroll: true }));
});

// Time zones are offered by name, and the browser's own with a button.
const zones = document.querySelector("[data-time-zone]");
if (zones) {
  const field = zones.querySelector("[name=tz]");
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const button = zones.querySelector("[data-own-zone]");
  if (own && own !== field.value) {
    button.textContent = `Use ${own}`;
    button.hidden = false;
    button.addEventListener("click", () => (field.value = own));
  }
  field.addEventListener(
    "focus",
    () => {
      const names = Intl.supportedValuesOf("timeZone");
      zones.querySelector("datalist").append(...names.map((name) => new Option(name, name)));
      field.select();
    },
    { once: true },
  );
}

// Ticked runs may have changed and left the list: say which.
const ticks = document.querySelector("[data-ticked-url]");
if (ticks) {
  const store = `ticked ${location.pathname}?${ticks.dataset.filter}`;
  const read = () => (sessionStorage.getItem(store) ?? "").split(",").filter(Boolean);
  const note = ticks.querySelector("[data-left]");
  const untick = ticks.querySelector("[data-untick-left]");
  let left = new Set();

  const check = async () => {
    const keys = read();
    const body = new FormData();
    body.set("keys", keys.join(","));
    body.set("csrfmiddlewaretoken", document.querySelector("[name=csrfmiddlewaretoken]").value);
    const response = keys.length ? await fetch(ticks.dataset.tickedUrl, { method: "POST", body }) : null;
    if (response && !response.ok) return;
    const found = response ? await response.json() : { left: [], gone: [] };
    left = new Set([...found.left.map((each) => String(each.key)), ...found.gone.map(String)]);
    const names = found.left.slice(0, 5).map((each) => each.run);
    const more = found.left.length - names.length;
    const parts = [];
    if (names.length) parts.push(`No longer in this list: ${names.join(", ")}${more ? ` and ${more} more` : ""}.`);
    if (found.gone.length) parts.push(`${found.gone.length} no longer mirrored.`);
    note.textContent = parts.join(" ");
    untick.hidden = !left.size;
  };
  untick.addEventListener("click", () => {
    sessionStorage.setItem(store, read().filter((key) => !left.has(key)).join(","));
    window.dispatchEvent(new Event("pageshow")); // Shows the ticks that are left.
  });
  window.addEventListener("pageshow", check);
}
