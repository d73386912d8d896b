/* The health panel: the service's diagnosis, in its own words, with links to the nodes. */

import { h, paged, plural } from "./dom.js";
import { nodeLink } from "./details.js";
import { number } from "./tensor.js";

const VERDICTS = {
  steady: "Gradients keep their size on the way back.",
  vanishing: "Gradients vanish on the way back.",
  exploding: "Gradients explode on the way back.",
  too_shallow: "The graph is too shallow to judge how gradients flow.",
};

const LEVELS = 24;
/* How many distances from the root are shown at first: the service tells of a hundred. */

/** Return the panel's content; `select(id)` follows a link to a node. */
export function healthPanel({ response }, select) {
  const health = response.health;
  const warnings = response.warnings.map((warning) => item("PyTorch warns", true, [warning]));
  if (!health) return [h("p", { class: "soft pad" }, "No diagnosis for a graph this large."), ...warnings];
  return [
    finding("Values", health.nonfinite_value, "All values are finite.", select),
    finding("Gradients", health.nonfinite_grad, "All gradients are finite.", select),
    flow(health.gradient_flow),
    ...health.dead_relus.map((dead) =>
      item("Dead relu", true, [
        nodeLink(dead.node, select),
        ` passes nothing in ${dead.dead_units} of ${plural(dead.units, "unit")}; ${Math.round(dead.inactive_fraction * 100)} % of its elements are not above zero.`,
      ]),
    ),
    ...health.leaves_without_grad.map((leaf) =>
      item("No gradient", true, [nodeLink(leaf.node, select), `: ${leaf.note}`]),
    ),
    ...warnings,
  ];
}

function item(title, wrong, children) {
  return h("div", { class: wrong ? "finding wrong" : "finding fine" },
    h("h3", {}, h("span", { "aria-hidden": "true" }, wrong ? "▲ " : "✓ "), title),
    h("p", {}, children),
  );
}

function finding(title, found, fine, select) {
  if (!found) return item(title, false, [fine]);
  const places = [found.node, ...(found.producers ?? [])];
  const links = [...new Set(places)].flatMap((id) => [" ", nodeLink(id, select)]);
  return item(title, true, [found.note, ...links]);
}

function flow({ verdict, ratio, levels }) {
  const wrong = verdict === "vanishing" || verdict === "exploding";
  const far = ratio == null ? "" : ` Far from the root they are ${number(ratio)} times those near it.`;
  const words = verdict === "steady" && ratio == null ? incomparable(levels) : VERDICTS[verdict] ?? verdict;
  const panel = item("Gradient flow", wrong, [`${words}${far}`]);
  if (levels.length > 1) panel.append(...bars(levels));
  return panel;
}

/** Say why there is no ratio between gradients far from the root and near it, where none is seen to grow. */
function incomparable(levels) {
  return levels.length && levels.every((level) => level.grad_rms === 0)
    ? "Gradients are zero."
    : "Too few gradients are finite, or not zero, to judge how they flow.";
}

/** Return a bar for each distance from the root, by the logarithm of the gradients' size. */
function bars(levels) {
  const known = levels.filter((level) => level.grad_rms > 0).map((level) => Math.log10(level.grad_rms));
  const low = Math.min(...known, 0) - 1;
  const high = Math.max(...known, 0);
  return paged(h("ol", { class: "levels" }), levels, LEVELS, (level) => {
    const size = level.grad_rms > 0 ? Math.log10(level.grad_rms) : null;
    const share = size === null ? 0 : (size - low) / (high - low || 1);
    return h("li", {},
      h("span", { class: "level-name" }, `${level.depth} from root`),
      h("meter", { min: 0, max: 1, value: share.toFixed(3), "aria-hidden": "true" }),
      h("span", { class: "number" }, number(level.grad_rms)),
    );
  });
}
