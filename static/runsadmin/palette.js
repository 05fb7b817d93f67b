// The theme fetches results half a second after the last key. Fetch them sooner.

document.getElementById("search-input-command")?.setAttribute("hx-trigger", "input changed delay:100ms");
