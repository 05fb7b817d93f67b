// The search box of the run list: suggestions, and a line under what is wrong. The server finds both.

const form = document.querySelector("[data-search]");
const box = form.querySelector("[name=q]");
const mirror = form.querySelector("[data-mirror]");
const suggested = form.querySelector("[data-suggested]");
const problem = document.getElementById("search-problem");
let request; // The pending one, so that a new one can abort it.
let suggestedFor; // The state of the box for which the server has made the suggestions.
let chosen = -1;
let timer;

const list = () => suggested.querySelector("ul");
const options = () => [...suggested.querySelectorAll("li")];
const isOpen = () => options().length > 0;
const state = () => `${box.selectionStart} ${box.value}`;
// While the user types, the last suggestions stay visible until the next ones arrive, although they are for other text.
const areCurrent = () => suggestedFor === state();

// The server counts characters, and scripts count UTF-16 code units.
const characters = (text, units) => [...text.slice(0, units)].length;
const units = (text, count) => [...text].slice(0, count).join("").length;

async function suggest(select = -1) {
  clearTimeout(timer);
  request?.abort();
  const own = (request = new AbortController());
  const asked = state();
  const query = new URLSearchParams({ q: box.value, at: characters(box.value, box.selectionStart) });
  try {
    const response = await fetch(`${form.dataset.suggestions}?${query}`, { signal: own.signal });
    if (!response.ok || response.redirected) return close();
    suggested.innerHTML = await response.text();
    suggestedFor = asked;
  } catch (error) {
    if (error.name !== "AbortError") close(); // Typing goes on without suggestions.
    return;
  } finally {
    if (request === own) request = undefined;
  }
  if (document.activeElement !== box) suggested.querySelectorAll("li").forEach((option) => option.remove());
  show(Math.min(select, options().length - 1));
  showProblem();
}

function show(index) {
  chosen = index;
  box.setAttribute("aria-expanded", isOpen());
  options().forEach((option, number) => {
    option.setAttribute("aria-selected", number === index);
    if (number === index) option.scrollIntoView({ block: "nearest" });
  });
  const option = options()[index];
  if (option) box.setAttribute("aria-activedescendant", option.id);
  else box.removeAttribute("aria-activedescendant");
}

function close() {
  options().forEach((option) => option.remove());
  show(-1);
}

// Also for suggestions that are still being fetched.
function cancel() {
  request?.abort();
  request = undefined;
  close();
}

// A mistake in what is just being typed is shown later, since the text may only be incomplete.
function showProblem() {
  const { problem: message, place } = list()?.dataset ?? {};
  const at = message === undefined ? -1 : units(box.value, +place);
  const isTyping = document.activeElement === box;
  const typedFrom = box.value.slice(0, box.selectionStart).search(/(?:[^\s"]|"(?:[^"\\]|\\.)*"?)*$/);
  const isShown = at >= 0 && !(isTyping && at >= typedFrom && at <= box.selectionStart);
  problem.textContent = isShown ? message : "";
  box.setAttribute("aria-invalid", isShown);
  underline(isShown ? at : -1);
}

// The mirror lies under the box and has the same text, since a part of the text in an input cannot be styled.
function underline(at) {
  mirror.replaceChildren(box.value.slice(0, Math.max(at, 0)));
  if (at < 0) return;
  const mark = document.createElement("mark");
  const rest = box.value.slice(at);
  mark.textContent = rest.match(/^\s*\S+/)?.[0] ?? " ";
  mirror.append(mark, rest.slice(mark.textContent.length));
  mirror.scrollLeft = box.scrollLeft;
}

function accept(option) {
  if (!areCurrent()) return suggest();
  const { begin, end } = list().dataset;
  const text = option.dataset.text;
  const before = box.value.slice(0, units(box.value, +begin));
  const after = box.value.slice(units(box.value, +end));
  const space = "begins" in option.dataset || /^[\s)]/.test(after) ? "" : " ";
  box.value = before + text + space + after;
  const caret = before.length + text.length + (space || "begins" in option.dataset ? space.length : 1);
  close(); // These suggestions were for the text before.
  box.focus();
  box.setSelectionRange(caret, caret);
  suggest();
}

function suggestSoon() {
  clearTimeout(timer);
  show(-1); // Enter must not insert a suggestion for the text before.
  underline(-1);
  problem.textContent = "";
  timer = setTimeout(suggest, 60);
}

box.addEventListener("input", suggestSoon);
box.addEventListener("focus", suggestSoon);
box.addEventListener("click", suggestSoon);
box.addEventListener("scroll", () => (mirror.scrollLeft = box.scrollLeft));
box.addEventListener("blur", () => {
  clearTimeout(timer);
  close();
  showProblem();
});

box.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  const count = options().length;
  if (event.key === "ArrowDown" && !count) suggest();
  else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && count && !areCurrent()) suggest(0);
  else if (event.key === "ArrowDown") show((chosen + 1) % count);
  else if (event.key === "ArrowUp" && count) show(chosen < 0 ? count - 1 : chosen - 1);
  else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) accept(options()[chosen]);
  else if (event.key === "Escape" && (count || request)) cancel();
  else if (event.key === "ArrowLeft" || event.key === "ArrowRight") return suggestSoon();
  else return;
  event.preventDefault();
});

// The box keeps the focus when a suggestion is clicked.
suggested.addEventListener("pointerdown", (event) => event.preventDefault());
suggested.addEventListener("click", (event) => {
  const option = event.target.closest("li");
  if (option) accept(option);
});

form.addEventListener("submit", () => (box.value = box.value.trim()));

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  box.focus();
  box.select();
});

// The server has already shown what is wrong with the search. Fetch where, to underline it.
if (problem.textContent) suggest();

// A link of the palette starts a term, which is completed here.
const begun = new URLSearchParams(location.search).get("complete");
if (begun) {
  box.value = begun;
  window.addEventListener("load", () => box.focus()); // Before that, the theme hides the page.
}

// --- Filters

const filters = document.querySelector("[data-shortcuts]");
filters.addEventListener("change", (event) => {
  if (event.target.tagName === "SELECT") filters.requestSubmit();
});
filters.addEventListener("submit", () => {
  filters.querySelector("[name=q]").value = box.value; // Including text that was typed but not searched for.
  // Send only what has changed, since typed text may have replaced the rest.
  for (const select of filters.querySelectorAll("select")) {
    select.disabled = [...select.options].every((option) => option.selected === option.defaultSelected);
  }
  const times = [...filters.querySelectorAll("input:not([type=hidden])")];
  for (const time of times) time.disabled = times.every((each) => each.value === each.defaultValue);
});

// --- Facets

const facets = document.querySelector("[data-facets]");
const isWide = matchMedia("(min-width: 1600px)").matches;
if (facets) {
  const counted = facets.querySelector("[data-counted]");
  let isCounted = false;
  facets.addEventListener("toggle", () => {
    if (isWide) localStorage.setItem("facets", facets.open ? "open" : "closed");
    if (facets.open && !isCounted) htmx.trigger(counted, "count");
    isCounted ||= facets.open;
  });
  if (isWide && localStorage.getItem("facets") !== "closed") facets.open = true;
  counted.addEventListener("htmx:afterSwap", () => counted.querySelector("[data-focus]")?.focus());
}

// --- Popups and copying

document.addEventListener("click", (event) => {
  for (const popup of document.querySelectorAll(".ra-popup[open]")) {
    const isBesideList = popup === facets && isWide;
    if (!popup.contains(event.target) && !isBesideList) popup.open = false;
  }
  const copy = event.target.closest("[data-copy]");
  if (!copy) return;
  const text = copy.parentElement.querySelector("[data-copied]");
  navigator.clipboard.writeText(text.textContent).then(
    () => (copy.textContent = "Copied"),
    () => getSelection().selectAllChildren(text), // Without permission to copy, at least select the text.
  );
});
document.addEventListener("keydown", (event) => {
  const popup = event.key === "Escape" && event.target.closest?.(".ra-popup[open]");
  if (!popup) return;
  popup.open = false;
  popup.querySelector("summary").focus();
});
