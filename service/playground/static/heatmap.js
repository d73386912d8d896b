/* A tensor as a table whose cells are coloured by sign and size; the numbers stand in them. */

import { h } from "./dom.js";
import { isComplex, rows } from "./tensor.js";

const MOST = 12;
const STEPS = 6;

/** Return the class of an element: `minus-3`, `zero`, `plus-6`, `bad`. `largest` is the scale. */
export function shade(value, largest) {
  if (!Number.isFinite(value)) return "bad";
  if (value === 0 || !largest) return "zero";
  const step = Math.max(1, Math.ceil((Math.abs(value) / largest) * STEPS));
  return `${value < 0 ? "minus" : "plus"}-${step}`;
}

/** Return the largest finite magnitude of cells. */
function scale(cells) {
  return cells
    .flat()
    .reduce((most, { value }) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
}

/** Return a table of a tensor's elements, named `label` for screen readers. */
export function heatmap(value, shape, dtype, label) {
  const { cells, cut, cutAxes, height, width } = rows(value, shape, isComplex(dtype), MOST);
  if (!cells.length || !cells[0].length) return h("p", { class: "soft" }, "no elements");
  const largest = scale(cells);
  const body = cells.map((row) =>
    h("tr", {}, row.map((item) => h("td", { class: `heat ${shade(item.value, largest)}` }, item.text))),
  );
  const table = h("table", { class: "heatmap" }, h("caption", { class: "hidden" }, label), h("tbody", {}, body));
  if (!cut) return table;
  const where = cutAxes ? `the first of each of the leading ${cutAxes} axes, ` : "";
  return h(
    "div",
    {},
    table,
    h("p", { class: "soft" }, `Shown: ${where}${cells.length} of ${height} rows, ${cells[0].length} of ${width} columns.`),
  );
}

/** Return a small picture of a tensor without numbers, for a table row; the row says the rest. */
export function thumbnail(value, shape, dtype) {
  const { cells } = rows(value, shape, isComplex(dtype), 8);
  if (!cells.length || !cells[0].length) return h("span", { class: "soft" }, "empty");
  const largest = scale(cells);
  const lines = cells.map((row) =>
    h("span", { class: "thumb-row" }, row.map((item) => h("span", { class: `thumb heat ${shade(item.value, largest)}` }))),
  );
  return h("span", { class: "thumbs", "aria-hidden": "true" }, lines);
}
