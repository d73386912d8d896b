/* Numbers of a graph as they were written. JavaScript reads 2.0 as 2, which is another dtype to PyTorch,
   rounds integers beyond 2^53, and loses the sign of -0 and the size of 1e400. */

/** A number whose text says more than JavaScript's number. */
export class Written {
  constructor(text) {
    this.text = text;
  }

  valueOf() {
    return Number(this.text);
  }
}

/** Return JSON text as a value; browsers that do not tell how a number was written read it as ever. */
export function read(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && context?.source && context.source !== JSON.stringify(value)
      ? new Written(context.source)
      : value,
  );
}

/** Return a value as JSON text, its numbers as they were written. */
export const write = (value) =>
  JSON.stringify(value, (_, item) => (item instanceof Written ? JSON.rawJSON(item.text) : item));
