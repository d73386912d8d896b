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

/** Return the gradients that backward starts a node with: ones where the request gives none. */
function ownGradients(request, node) {
  return roots(request)
    .filter((root) => root.node === node.id)
    .map((root) => root.gradient ?? ones(node.shape));
}

const ones = ([size, ...rest]) =>
  size === undefined ? 1 : Array.from({ length: size }, () => ones(rest));

/** Return a node's gradient: as PyTorch kept it, else as its contributions add up to it. */
function gradient(trace, request, node) {
  if (node.grad != null) return node.grad;
  const uses = (trace.edges ?? []).filter((edge) => edge.from === node.id);
  return sum([...uses.map((edge) => edge.grad), ...ownGradients(request, node)]);
}

/**
 * Return the chain rule of a node: `own` gradients where it is a root, `uses` with the op, the
 * parameter, the upstream gradient of each output of that op and the contribution, and their sum.
 */
export function chainRule(trace, request, node) {
  const uses = (trace.edges ?? [])
    .filter((edge) => edge.from === node.id)
    .map((edge) => ({
      to: edge.to,
      input: edge.input,
      contribution: edge.grad ?? null,
      outputs: trace.nodes
        .filter((other) => owner(other.id) === edge.to)
        .map((other) => ({ node: other, gradient: gradient(trace, request, other) })),
    }));
  const own = ownGradients(request, node);
  return { own, uses, total: sum([...own, ...uses.map((use) => use.contribution)]) };
}
