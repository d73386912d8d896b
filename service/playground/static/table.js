/* The table of all nodes: status, statistics of value and gradient, small heat maps. */

import { h, paged } from "./dom.js";
import { nodeLink, statusMark } from "./details.js";
import { thumbnail } from "./heatmap.js";
import { number, shapeText } from "./tensor.js";

const PAGE = 300;

/** Return the table of the first nodes, and a button that adds more; `fields` has who is selected. */
export function nodeTable(fields, select) {
  const head = ["node", "op", "shape", "gradient", "value", "min", "mean", "max", "grad", "min", "max", "norm"];
  const [body, ...more] = paged(h("tbody"), fields.response.nodes, PAGE, (node) => row(node, fields.selected, select));
  const table = h(
    "table",
    { class: "nodes" },
    h("caption", { class: "hidden" }, "Every node with statistics of its value and its gradient"),
    h("thead", {},
      h("tr", { class: "groups" },
        h("td", { colspan: 4 }),
        h("th", { colspan: 4, scope: "colgroup" }, "Value"),
        h("th", { colspan: 4, scope: "colgroup" }, "Gradient"),
      ),
      h("tr", {}, head.map((name) => h("th", { scope: "col" }, name))),
    ),
    body,
  );
  return [table, ...more];
}

function row(node, selected, select) {
  const { value, grad } = node.stats;
  return h(
    "tr",
    { class: node.id === selected ? "selected" : null, "data-row": node.id, click: () => select(node.id) },
    h("th", { scope: "row" }, nodeLink(node.id, select)),
    h("td", {}, node.op ?? "leaf"),
    h("td", { class: "mono" }, shapeText(node.shape)),
    h("td", {}, statusMark(node.grad_status)),
    h("td", {}, thumbnail(node.value, node.shape, node.dtype), warnings(value)),
    ...[value.min, value.mean, value.max].map(cell),
    h("td", {}, node.grad == null ? h("span", { class: "null" }, "null") : thumbnail(node.grad, node.shape, node.dtype), grad ? warnings(grad) : null),
    ...(grad ? [grad.min, grad.max, grad.norm] : [null, null, null]).map(cell),
  );
}

const cell = (value) => h("td", { class: "number" }, number(value));

/** Return marks for elements that are not finite; nothing where all are. */
function warnings(stats) {
  const counts = [[stats.nan_count, "NaN"], [stats.inf_count, "inf"]];
  return counts
    .filter(([count]) => count)
    .map(([count, word]) => h("span", { class: "bad-mark" }, `▲ ${count} ${word}`));
}
