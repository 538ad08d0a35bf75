for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const value = row => row.cells[column].dataset.value;
    const compare = column ? (a, b) => a - b : (a, b) => a.localeCompare(b);
    const rows = [...table.tBodies[0].rows].sort((a, b) =>
      (value(a) === "") - (value(b) === "") || compare(value(a), value(b)) * (down ? -1 : 1));
    heads.forEach(each => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...rows);
  }));
}
const choice = document.querySelector(".choice");
const show = () => document.querySelectorAll(".panel").forEach(panel => {
  panel.hidden = panel.dataset.metric !== choice.querySelector("select").value;
});
choice.hidden = false;
choice.addEventListener("change", show);
show();
