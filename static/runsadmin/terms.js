// Links to the runs with a value: a[data-term]. In the run list, they add their term to the search. With the Alt key,
// they exclude these runs.

const searchForm = document.querySelector("[data-search]");

function termOf(link) {
  link.dataset.term ||= new URL(link.href).searchParams.get("q");
  return link.dataset.term;
}

// The URL of the present search with one more term.
function extended(link, term) {
  if (!searchForm) {
    const url = new URL(link.href);
    url.searchParams.set("q", term);
    return url;
  }
  const url = new URL(location);
  const present = searchForm.dataset.extend;
  // In a group or in quotes, the same text means something else.
  const isPresent = !/["(]/.test(present) && ` ${present} `.includes(` ${term} `);
  url.searchParams.set("q", [present, isPresent ? "" : term].filter(Boolean).join(" "));
  for (const page of ["older", "newer"]) url.searchParams.delete(page);
  return url;
}

const opposite = (term) => (term.startsWith("-") ? term.slice(1) : `-${term}`);

// Write the whole URL into the link, so that it can be opened in a new tab or copied.
function extendLinks() {
  if (!searchForm) return;
  for (const link of document.querySelectorAll("a[data-term]")) link.href = extended(link, termOf(link));
}

function exclude(event) {
  const link = event.target.closest?.("a[data-term]");
  if (!link || !event.altKey || (event.type === "keydown" && event.key !== "Enter")) return;
  event.preventDefault();
  location.assign(extended(link, opposite(termOf(link))));
}

document.addEventListener("click", exclude);
document.addEventListener("keydown", exclude);
document.addEventListener("htmx:afterSwap", extendLinks);
extendLinks();
