/* The panel of the chosen node: its switch, its numbers, and the chain rule step by step. */

import { chainRule, declaration } from "./chain.js";
import { h, paged } from "./dom.js";
import { heatmap } from "./heatmap.js";
import { shapeText } from "./tensor.js";

const USES = 20;
const OUTPUTS = 5;
/* How many are shown at first, and with each click: an op can have thousands of both. */

export const STATUS = {
  accumulated: "gradient accumulated",
  retained: "gradient retained",
  not_retained: "null: not retained",
  not_on_path: "null: not on the path",
  constant: "null: constant",
  non_differentiable: "null: not differentiable",
  no_backward: "null: no backward",
};

/** Return the mark of a grad_status: words, and a form that differs without colour. */
export const statusMark = (status) =>
  h("span", { class: `status ${status === "accumulated" || status === "retained" ? "has" : "none"}` }, STATUS[status] ?? status);

/** Return whether a node's switch is on in the request: requires_grad or retain_grad. */
export function isOn(request, trace, id) {
  const found = declaration(request, id);
  if (!found) return false;
  if (switchOf(request, trace, id) === "requires_grad") return Boolean(found.item.requires_grad);
  return found.item.retain_grad ?? request.retain_grad ?? false;
}

/**
 * Return what a click on a node switches: a leaf's `requires_grad`, an op's `retain_grad`. An op
 * without tracked inputs, such as `torch.ones`, makes a leaf.
 */
export function switchOf(request, trace, id) {
  const found = declaration(request, id);
  if (!found) return null;
  if (found.kind === "leaf") return "requires_grad";
  const node = trace?.nodes.find((item) => item.id === id);
  const source = !(found.item.inputs ?? []).length && !/"ref"/.test(JSON.stringify(found.item.attrs ?? {}));
  return source || (node?.is_leaf && found.item.requires_grad) ? "requires_grad" : "retain_grad";
}

/** Return the panel's content. `toggle(id)` is the switch, `select(id)` follows a link to a node. */
export function details({ request, response, selected }, { toggle, select }) {
  const node = response?.nodes.find((item) => item.id === selected);
  if (!node) {
    return [h("p", { class: "soft pad" }, "Choose a node in the picture or the table to see how its gradient comes about.")];
  }
  const which = switchOf(request, response, node.id);
  return [
    h(
      "div",
      { class: "facts" },
      statusMark(node.grad_status),
      h("label", { class: "check" },
        h("input", { type: "checkbox", id: "switch", checked: isOn(request, response, node.id), change: () => toggle(node.id) }),
        h("code", {}, which),
      ),
    ),
    h("p", { class: "note" }, node.note),
    h(
      "dl",
      { class: "flags" },
      flag("shape", `${shapeText(node.shape)} ${node.dtype}`),
      flag("op", node.op ?? "leaf"),
      flag("is_leaf", node.is_leaf),
      flag("requires_grad", node.requires_grad),
      flag("retains_grad", node.retains_grad),
      flag("grad_fn", node.grad_fn ?? "None"),
    ),
    h("h3", {}, "Value"),
    heatmap(node.value, node.shape, node.dtype, `Value of ${node.id}`),
    h("h3", {}, "Gradient"),
    node.grad == null
      ? h("p", { class: "null" }, "null")
      : heatmap(node.grad, node.shape, node.dtype, `Gradient of ${node.id}`),
    ...chain(request, response, node, select),
  ];
}

function flag(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, String(value === true ? "True" : value === false ? "False" : value)));
}

function chain(request, response, node, select) {
  const title = h("h3", {}, "Chain rule");
  if (!response.edges) {
    return [title, h("p", { class: "soft" }, "This graph is too large to show each use here.")];
  }
  if (!node.requires_grad) {
    return [title, h("p", { class: "soft" }, `Nothing flows back to ${node.id}: it does not require grad.`)];
  }
  const { own, named, uses, total } = chainRule(response, request, node);
  if (!own.length && !uses.length && !named) {
    return [title, h("p", { class: "soft" }, `Nothing uses ${node.id}, and backward does not start from it.`)];
  }
  const steps = [
    ...own.map((gradient) => () =>
      h("li", { class: "use" },
        h("p", {}, h("strong", {}, node.id), " is a root: backward starts here with"),
        gradient === undefined
          ? h("span", { class: "null" }, "a gradient in base64, which is not shown here")
          : heatmap(gradient, node.shape, node.dtype, `Starting gradient of ${node.id}`),
      ),
    ),
    ...(named
      ? [() => h("li", { class: "use" }, h("p", {}, "Backward starts from ", h("strong", {}, named.node), ", which may be this output."))]
      : []),
    ...uses.map((use) => () => useStep(node, use, select)),
  ];
  const kept = node.grad == null && total != null;
  return [
    title,
    uses.length
      ? h("p", { class: "soft" }, `${node.id} gets one contribution from each use of it, ${uses.length.toLocaleString("en")} in all. Its gradient is their sum.`)
      : null,
    ...paged(h("ol", { class: "uses" }), steps, USES, (step) => step()),
    h("p", { class: "sum-title" }, h("strong", {}, "Sum"), ` = d root / d ${node.id}`),
    total == null
      ? h("p", { class: "null" }, total === undefined ? "not added up here" : "no use contributes")
      : heatmap(total, node.shape, node.dtype, `Sum of the contributions to ${node.id}`),
    kept ? h("p", { class: "soft" }, `This passed through ${node.id}, and was not kept.`) : null,
  ];
}

function useStep(node, use, select) {
  const { outputs } = use;
  const upstream = ({ node: output, gradient }) =>
    h("div", { class: "flow" },
      h("span", { class: "flow-label" }, "upstream: gradient of ", nodeLink(output.id, select)),
      gradient == null
        ? h("span", { class: "null" }, gradient === undefined ? "not added up here" : "none")
        : heatmap(gradient, output.shape, output.dtype, `Upstream gradient of ${output.id}`),
    );
  return h("li", { class: "use" },
    h("p", {}, "used by ", nodeLink(outputs[0]?.node.id ?? use.to, select, use.to), ` (${outputs[0]?.node.op ?? ""}) as `, h("code", {}, use.input)),
    paged(h("div", { class: "upstream" }), outputs, OUTPUTS, upstream),
    h("div", { class: "flow" },
      h("span", { class: "flow-label" }, "contributes"),
      use.contribution == null
        ? h("span", { class: "null" }, "nothing")
        : heatmap(use.contribution, node.shape, node.dtype, `Contribution of ${use.to}`),
    ),
  );
}

/** Return a button in the text that leads to a node. */
export const nodeLink = (id, select, words = id) =>
  h("button", { type: "button", class: "link", click: () => select(id) }, words);
