// The pair editor, for browsers that run scripts: add and remove rows, count characters, work from the keyboard.
// Without it the form has some blank rows, and does the same.

const form = document.querySelector("[data-pairs]");
const rows = form.querySelector("[data-rows]");
const blank = form.querySelector("[data-blank]");
const limits = { pairs: +form.dataset.maxPairs, key: +form.dataset.maxKey, value: +form.dataset.maxValue };

// As the API counts: code points, so that an emoji is one.
const length = (text) => [...text].length;
const keyOf = (row) => row.querySelector("[name=key]");
const valueOf = (row) => row.querySelector("[name=value]");
const allRows = () => [...rows.querySelectorAll("[data-row]")];
const isBlank = (row) => !keyOf(row).value && !valueOf(row).value;

function prepare(row) {
  row.querySelector("[data-remove]").hidden = false;
  return row;
}

function addRow(after) {
  const row = prepare(blank.content.firstElementChild.cloneNode(true));
  if (after) after.after(row);
  else rows.append(row);
  keyOf(row).focus();
  count();
}

function count() {
  for (const row of allRows()) {
    const key = length(keyOf(row).value);
    const value = length(valueOf(row).value);
    const shown = row.querySelector("[data-count]");
    shown.textContent = isBlank(row) ? "" : `${key}/${limits.key} · ${value}/${limits.value}`;
    shown.classList.toggle("ra-over", key > limits.key || value > limits.value);
  }
  const kept = form.querySelectorAll("[data-kept] input:checked").length;
  const pairs = allRows().filter((row) => !isBlank(row)).length + kept;
  const shown = form.querySelector("[data-pair-count]");
  shown.textContent = `${pairs} of ${limits.pairs} pairs`;
  shown.classList.toggle("ra-over", pairs > limits.pairs);
}

form.addEventListener("input", count);

form.addEventListener("click", (event) => {
  if (event.target.closest("[data-add]")) addRow();
  const remove = event.target.closest("[data-remove]");
  if (remove) {
    const row = remove.closest("[data-row]");
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (next ? keyOf(next) : form.querySelector("[data-add]")).focus();
    count();
  }
});

form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    form.requestSubmit();
    return;
  }
  const row = event.target.closest("[data-row]");
  if (!row || event.shiftKey || event.target.tagName === "BUTTON") return;
  event.preventDefault();
  if (event.target === keyOf(row)) valueOf(row).focus();
  else if (row.nextElementSibling && isBlank(row.nextElementSibling)) keyOf(row.nextElementSibling).focus();
  else addRow(row);
});

// One press sends once.
form.addEventListener("submit", () => {
  const send = form.querySelector("[data-send]");
  send.disabled = true;
  send.textContent = "Sending…";
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload(); // Back from the next page: what stood here may be out of date.
});

allRows().forEach(prepare);
allRows().filter(isBlank).slice(1).forEach((row) => row.remove());
form.querySelector("[data-add]").hidden = false;
form.querySelector("[data-keys]").hidden = false;
count();
