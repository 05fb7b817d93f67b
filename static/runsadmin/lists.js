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
