"use strict";
// Everything can be read without scripts: this one lets tables be sorted and pictures be enlarged.

// A click on a head sorts by its column: numbers the largest first, names from A to Z; another click turns it around.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 2) continue;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rows = [...body.rows];
      const keys = new Map(rows.map((row) => [row, keyOf(row.cells[column])]));
      const numbers = rows.every((row) => typeof keys.get(row) !== "string");
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numbers;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => (numbers ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
      rows.sort((one, other) => {
        const a = keys.get(one), b = keys.get(other);
        if (a === null || b === null) return (a === null) - (b === null); // what is undefined stays last
        return down ? order(b, a) : order(a, b);
      });
      body.append(...rows);
    });
  });
}

function keyOf(cell) {
  if (!("key" in cell.dataset)) return cell.textContent.trim();
  return cell.dataset.key === "" ? null : Number(cell.dataset.key);
}

// A picture fills the window until Escape, the button, or a click beside it.
const dialog = document.getElementById("large");
const place = dialog.querySelector("div");
let back = () => {};
function enlarged(element, label, closed = () => {}) {
  back = closed;
  place.replaceChildren(element);
  dialog.setAttribute("aria-label", label);
  dialog.showModal();
}
for (const figure of document.querySelectorAll("figure")) {
  const drawn = figure.querySelector(".drawn");
  if (!drawn) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.textContent = "Enlarge";
  button.setAttribute("aria-label", "Enlarge " + drawn.getAttribute("aria-label"));
  const open = () => enlarged(drawn.cloneNode(true), drawn.getAttribute("aria-label"));
  button.addEventListener("click", open);
  drawn.addEventListener("click", open);
  figure.classList.add("enlargeable");
  figure.append(button);
}
document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => {
  back(); // a figure goes back to its place
  place.replaceChildren();
});

// A link into something folded unfolds it; on paper everything is unfolded.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target?.closest("article")?.querySelector("details");
  if (details) details.open = true;
};
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
