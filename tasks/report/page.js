// Every table with a head sorts by its columns. What a row shows is its value, unless data-value says otherwise.
const shown = td => td.dataset.value ?? td.textContent.trim();
const amount = text => { const found = text.replaceAll(",", "").replace("−", "-").match(/^[-+]?[\d.]+/); return found ? +found[0] : NaN; };
function sortBy(header) {
  const body = header.closest("table").tBodies[0];
  const column = [...header.parentNode.children].indexOf(header), text = header.dataset.sort === "text";
  const descending = header.getAttribute("aria-sort") !== "descending" && !(text && header.getAttribute("aria-sort") !== "ascending");
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = row => shown(row.cells[column]), size = row => { const value = amount(key(row)); return isNaN(value) ? -1e300 : value; };
  const rows = [...body.rows].sort((a, b) => text ? key(a).localeCompare(key(b)) : size(a) - size(b));
  if (descending) rows.reverse();
  body.append(...rows);
}
for (const header of document.querySelectorAll("thead th")) {
  const column = [...header.parentNode.children].indexOf(header), rows = [...header.closest("table").tBodies[0].rows];
  const said = rows.map(row => shown(row.cells[column])).filter(text => text && text !== "–");
  header.dataset.sort ||= !header.classList.contains("text") && said.every(text => !isNaN(amount(text))) ? "number" : "text";
  header.tabIndex = 0;
  header.addEventListener("click", () => sortBy(header));
  header.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sortBy(header); } });
}
document.documentElement.classList.add("scripted");
document.getElementById("filter").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase(), rows = [...document.querySelectorAll("#label-table tbody tr")];
  for (const row of rows) row.hidden = !row.cells[0].dataset.value.toLowerCase().includes(wanted);
  const left = rows.filter(row => !row.hidden).length;
  document.getElementById("in-sight").textContent = left === rows.length ? `${left} labels` : `${left} of ${rows.length} labels`;
});
// A label's part opens from the table and from its address.
function openPart() {
  const part = location.hash.startsWith("#label-") && document.getElementById(location.hash.slice(1));
  if (part) {
    for (const other of document.querySelectorAll(".part[open]")) other.open = other === part;  // one at a time, of hundreds
    part.open = true; 
    part.scrollIntoView();
    part.querySelector("summary").focus({ preventScroll: true });
  }
}
addEventListener("hashchange", openPart);
for (const link of document.querySelectorAll("#label-table a")) link.addEventListener("click", () => setTimeout(openPart));
// Its slider walks over the operating points; precision, recall and F1 are of the counts at each.
for (const box of document.querySelectorAll(".operating")) {
  const { thresholds, tp, predicted, positives, target } = JSON.parse(box.dataset.curve);
  const slider = box.querySelector("input"), answer = box.querySelector("output"), svg = box.querySelector("svg");
  const dot = svg.appendChild(document.createElementNS(svg.namespaceURI, "circle"));
  dot.setAttribute("r", 3.5);
  const show = () => {
    const k = +slider.value, precision = predicted[k] ? tp[k] / predicted[k] : 0, recall = tp[k] / positives;
    const f1 = tp[k] ? 2 * tp[k] / (predicted[k] + positives) : 0;
    const reached = !target ? "" : precision >= target.precision && recall >= target.recall ? "; reaches its target" : "; misses its target";
    answer.textContent = `at ${+thresholds[k].toPrecision(4)}: precision ${precision.toFixed(3)}, recall ${recall.toFixed(3)}, F1 ${f1.toFixed(3)}; `
      + `${tp[k]} right of ${predicted[k]} claimed, ${positives - tp[k]} missed${reached}`;
    slider.setAttribute("aria-valuetext", answer.textContent);
    dot.setAttribute("cx", 26 + 200 * recall);
    dot.setAttribute("cy", 114 - 110 * precision);
  };
  slider.addEventListener("input", show);
  show();
}
const dialog = document.getElementById("zoom");
for (const button of document.querySelectorAll(".zoom")) button.addEventListener("click", () => {
  const from = button.querySelector("img"), to = dialog.querySelector("img");
  to.src = from.src;
  to.alt = dialog.querySelector("span").textContent = from.alt;
  dialog.showModal();
});
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", async () => {
  const rows = [...document.getElementById(button.dataset.copy).rows].filter(row => !row.hidden);
  const csv = rows.map(row => [...row.cells].map(td => `"${td.textContent.trim().replaceAll('"', '""')}"`).join(",")).join("\n");
  const area = document.body.appendChild(document.createElement("textarea"));  // a page opened from disk has no clipboard API
  area.value = csv;
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  button.textContent = copied ? `Copied ${rows.length - 1} rows` : "Not copied: the browser refuses";
});
openPart();
