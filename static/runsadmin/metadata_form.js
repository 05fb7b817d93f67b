// The metadata editor, for one run and for many: adds and removes rows, counts characters, handles the keyboard.
// Without scripts, the form has some blank rows and works the same way.

const form = document.querySelector("[data-pairs]");
const rows = form.querySelector("[data-rows]");
const blank = form.querySelector("[data-blank]");
const limits = { pairs: +(form.dataset.maxPairs ?? 0), key: +form.dataset.maxKey, value: +form.dataset.maxValue };

// Count code points, like the API: an emoji counts as one.
const length = (text) => [...text].length;
const keyOf = (row) => row.querySelector("[name$=-key]");
const valueOf = (row) => row.querySelector("[name$=-value]");
const allRows = () => [...rows.querySelectorAll("[data-row]")];
const whatOf = (row) => row.querySelector("[name$=-what]")?.value ?? "set"; // What to do with the key (many runs only).
const isBlank = (row) => !keyOf(row).value && !valueOf(row).value && whatOf(row) === "set";

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

// Django finds the rows by number.
function renumber() {
  allRows().forEach((row, number) => {
    for (const field of row.querySelectorAll("[name]")) field.name = field.name.replace(/-.*-/, `-${number}-`);
  });
  form.querySelector("[name=row-TOTAL_FORMS]").value = allRows().length;
}

function count() {
  renumber();
  for (const row of allRows()) {
    const key = length(keyOf(row).value);
    const value = length(valueOf(row).value);
    const valueLimit = whatOf(row) === "rename" ? limits.key : limits.value;
    const hasValue = ["set", "rename"].includes(whatOf(row));
    const shown = row.querySelector("[data-count]");
    const counted = hasValue ? ` · ${value}/${valueLimit}` : "";
    shown.textContent = isBlank(row) ? "" : `${key}/${limits.key}${counted}`;
    shown.classList.toggle("ra-too-long", key > limits.key || (hasValue && value > valueLimit));
    row.dataset.what = whatOf(row);
    valueOf(row).placeholder = whatOf(row) === "rename" ? "new name" : "value";
    valueOf(row).hidden = !hasValue && !value; // Keep typed text visible, so that nothing is dropped silently.
  }
  if (!limits.pairs) return;
  const kept = form.querySelectorAll("[data-kept] input:checked").length;
  const pairs = allRows().filter((row) => !isBlank(row)).length + kept;
  const shown = form.querySelector("[data-pair-count]");
  shown.textContent = `${pairs} of ${limits.pairs} pairs`;
  shown.classList.toggle("ra-too-long", pairs > limits.pairs);
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
  if (event.target === keyOf(row) && !valueOf(row).hidden) valueOf(row).focus();
  else if (row.nextElementSibling && isBlank(row.nextElementSibling)) keyOf(row.nextElementSibling).focus();
  else addRow(row);
});

// Prevent double submission.
form.addEventListener("submit", () => {
  const send = form.querySelector("[data-send]");
  send.disabled = true;
  send.dataset.label = send.textContent;
  send.textContent = send.dataset.send || "Sending…";
});
window.addEventListener("pageshow", (event) => {
  // The user came back from the next page: the form may be out of date, or the user may want to send it again.
  if (!event.persisted) return;
  if (form.querySelector("[name=base]")) window.location.reload();
  const send = form.querySelector("[data-send]");
  send.disabled = false;
  send.textContent = send.dataset.label ?? send.textContent;
});

allRows().forEach(prepare);
allRows().filter(isBlank).slice(1).forEach((row) => row.remove());
form.querySelector("[data-add]").hidden = false;
form.querySelector("[data-keys]").hidden = false;
count();
