/* The chain rule of one node: what flows back into each of its uses, and what each passes on. */

import { sum } from "./tensor.js";

/** Return the op's id that a reference or node id belongs to: `t` of `t:0`. */
export const owner = (id) => id.split(":")[0];

/** Return what the request says of a node: its leaf or its op, and which of the two. */
export function declaration(request, id) {
  const name = owner(id);
  const leaf = (request.leaves ?? []).find((item) => item.id === name);
  if (leaf) return { kind: "leaf", item: leaf };
  const op = (request.ops ?? []).find((item) => item.id === name);
  return op ? { kind: "op", item: op } : null;
}

/** Return the roots of a request as references, the implied one included. */
export function roots(request) {
  if (request.backward) return request.backward;
  const last = (request.ops?.length ? request.ops : request.leaves ?? []).at(-1);
  return last ? [{ node: last.id }] : [];
}

/**
 * Return the gradients that backward starts a node with: ones where the request gives none, and
 * undefined where what it gives is not read here.
 */
function ownGradients(request, node) {
  return roots(request)
    .filter((root) => root.node === node.id)
    .map((root) => (root.gradient_base64 == null ? root.gradient ?? ones(node.shape) : undefined));
}

/** Return the root that may mean this output, as `t:values` does: only PyTorch knows its number. */
function namedRoot(request, node) {
  const ofOp = (root) => root.node.includes(":") && owner(root.node) === owner(node.id);
  return roots(request).find((root) => ofOp(root) && !/:\d+$/.test(root.node)) ?? null;
}

const ones = ([size, ...rest]) =>
  size === undefined ? 1 : Array.from({ length: size }, () => ones(rest));

/**
 * Return a node's gradient: as PyTorch kept it, else as its contributions add up to it; undefined
 * where one of them is not read here.
 */
function gradient(uses, request, node) {
  if (node.grad != null) return node.grad;
  const own = ownGradients(request, node);
  if (own.includes(undefined) || namedRoot(request, node)) return undefined;
  return sum([...(uses.get(node.id) ?? []).map((edge) => edge.grad), ...own]);
}

/** Return a map from what `name` says of an item to the list of those items. */
function grouped(items, name) {
  const groups = new Map();
  for (const item of items) {
    const group = groups.get(name(item));
    if (group) group.push(item);
    else groups.set(name(item), [item]);
  }
  return groups;
}

/**
 * Return the chain rule of a node: `own` gradients where it is a root, `named` the root that may
 * mean it, `uses` with the op, the parameter, the upstream gradient of each output of that op and
 * the contribution, and their sum, undefined where one of them is not read here.
 *
 * Of thousands of uses and outputs few are looked at, so each is worked out when it is.
 */
export function chainRule(trace, request, node) {
  const usesOf = grouped(trace.edges ?? [], (edge) => edge.from);
  const outputsOf = grouped(trace.nodes, (other) => owner(other.id));
  const uses = (usesOf.get(node.id) ?? []).map((edge) => ({
    to: edge.to,
    input: edge.input,
    contribution: edge.grad ?? null,
    get outputs() {
      return (outputsOf.get(edge.to) ?? []).map((other) => ({
        node: other,
        get gradient() {
          return gradient(usesOf, request, other);
        },
      }));
    },
  }));
  const own = ownGradients(request, node);
  const named = namedRoot(request, node);
  const read = !named && !own.includes(undefined);
  const total = read ? sum([...own, ...uses.map((use) => use.contribution)]) : node.grad ?? undefined;
  return { own, named, uses, total };
}
