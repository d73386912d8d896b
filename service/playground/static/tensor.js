/* Tensors as the service sends them: nested lists, with NaN and the infinities as strings. */

const WORDS = { Infinity: "inf", "-Infinity": "-inf", NaN: "NaN" };

/** Return an element as a number: strings and booleans too. */
export const toNumber = (element) => Number(element);

/** Return one element as short text. */
export function number(element) {
  if (element === null || element === undefined) return "–";
  if (typeof element === "boolean") return String(element);
  const value = toNumber(element);
  if (!Number.isFinite(value)) return WORDS[String(value)];
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return Object.is(value, -0) ? "-0" : String(value);
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e6) return String(Number(value.toPrecision(4)));
  return value.toExponential(2).replace("e+", "e").replace(/\.?0+e/, "e");
}

/** Return `re+imi`. */
export const complexNumber = ([re, im]) =>
  `${number(re)}${number(im).startsWith("-") ? "" : "+"}${number(im)}i`;

export const isComplex = (dtype) => dtype.startsWith("complex");

/** Return nested lists as text of at most `limit` signs; reads no more than it shows. */
export function text(value, limit, complex = false) {
  const parts = [];
  let length = 0;
  for (const part of pieces(value, complex)) {
    parts.push(part);
    length += part.length;
    if (length > limit) return parts.join("").slice(0, limit - 1) + "…";
  }
  return parts.join("");
}

function* pieces(value, complex) {
  if (!Array.isArray(value)) {
    yield number(value);
  } else if (complex && value.length === 2 && !Array.isArray(value[0])) {
    yield complexNumber(value);
  } else {
    yield "[";
    for (let index = 0; index < value.length; index += 1) {
      if (index) yield ", ";
      yield* pieces(value[index], complex);
    }
    yield "]";
  }
}

/** Return the sum of nested lists of one shape; null counts as nothing, null if all are. */
export function sum(values) {
  return values.reduce((total, value) => {
    if (value == null) return total;
    return total == null ? value : plus(total, value);
  }, null);
}

function plus(a, b) {
  if (Array.isArray(a)) return a.map((item, index) => plus(item, b[index]));
  const total = toNumber(a) + toNumber(b);
  return Number.isFinite(total) ? total : String(total);
}

/** Return `[2, 3]`, or `scalar` for a tensor without axes. */
export const shapeText = (shape) => (shape.length ? `[${shape.join(", ")}]` : "scalar");

/**
 * Return rows of elements for a tensor that can be shown as a table, cut at `most` each way:
 * a scalar is one cell, a vector one row, leading axes of a larger tensor are cut to their first.
 */
export function rows(value, shape, complex, most) {
  let table = value;
  let axes = shape.length;
  let cutAxes = 0;
  while (axes > 2) {
    table = table[0] ?? [];
    axes -= 1;
    cutAxes += 1;
  }
  if (axes === 0) table = [[table]];
  else if (axes === 1) table = [table];
  const height = table.length;
  const width = table[0]?.length ?? 0;
  const cells = table.slice(0, most).map((row) => row.slice(0, most));
  return {
    cells: cells.map((row) => row.map((item) => cell(item, complex))),
    cut: cutAxes > 0 || height > most || width > most,
    cutAxes,
    height,
    width,
  };
}

function cell(item, complex) {
  if (complex) return { text: complexNumber(item), value: Math.hypot(...item.map(toNumber)) };
  return { text: number(item), value: toNumber(item) };
}
