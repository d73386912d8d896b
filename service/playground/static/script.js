/* Small changes to a Python script, so that a click keeps the comments that someone wrote. */

const escaped = (name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Return the line (from 1) on which a variable is last assigned, 0 where it is nowhere. */
export function assignedOn(source, name) {
  const pattern = new RegExp(`^\\s*(?:[\\w, ]*\\b)?${escaped(name)}\\b(?:\\s*,[\\w, ]*)?\\s*=(?!=)`);
  const lines = source.split("\n");
  for (let index = lines.length - 1; index >= 0; index -= 1) {
    if (pattern.test(lines[index])) return index + 1;
  }
  return 0;
}

/** Return the script with `name.retain_grad()` added or taken out, null where that is not simple. */
export function withRetainGrad(source, name, on) {
  const call = new RegExp(`^\\s*${escaped(name)}\\.retain_grad\\(\\)\\s*(#.*)?$`);
  const lines = source.split("\n");
  const without = lines.filter((line) => !call.test(line));
  if (!on) return without.length < lines.length ? without.join("\n") : null;
  const line = assignedOn(without.join("\n"), name);
  if (!line) return null;
  const indent = /^\s*/.exec(without[line - 1])[0];
  without.splice(line, 0, `${indent}${name}.retain_grad()`);
  return without.join("\n");
}

/** Return the script with a tensor's requires_grad changed, null where that is not simple. */
export function withRequiresGrad(source, name, on) {
  const line = assignedOn(source, name);
  if (!line) return null;
  const lines = source.split("\n");
  const before = lines[line - 1];
  const [code, comment] = splitComment(before);
  let after;
  if (/requires_grad\s*=\s*(True|False)/.test(code)) {
    after = on
      ? code.replace(/requires_grad\s*=\s*False/, "requires_grad=True")
      : code.replace(/,\s*requires_grad\s*=\s*True/, "");
  } else if (/\.requires_grad_\((True)?\)/.test(code)) {
    after = on ? code : code.replace(/\.requires_grad_\((True)?\)/, "");
  } else if (on) {
    after = /^\s*\w+\s*=\s*torch\.\w+\((?:[^()]|\([^()]*\))+\)\s*$/.test(code)
      ? code.replace(/\)\s*$/, ", requires_grad=True)")
      : `${code.trimEnd()}.requires_grad_()`;
  }
  if (after === undefined || after === code) return null;
  lines[line - 1] = comment ? `${after.trimEnd()}  ${comment}` : after;
  return lines.join("\n");
}

function splitComment(line) {
  const at = line.indexOf("#");
  return at < 0 || /["']/.test(line.slice(0, at)) ? [line, ""] : [line.slice(0, at), line.slice(at)];
}

/**
 * Return the part of an exported script that makes the graph: the printing around it is for
 * running it, not for reading it.
 */
export function shortened(exported) {
  const lines = exported.split("\n");
  const start = lines.findIndex((line) => line.startsWith("torch.manual_seed("));
  if (start < 0) return exported;
  const graph = lines.slice(start + 1).filter((line) => !/^show\(/.test(line));
  const seed = lines[start] === "torch.manual_seed(0)" ? "" : `${lines[start]}\n`;
  const needs = ["math"].filter((name) => graph.some((line) => line.includes(`${name}.`)));
  const imports = [...needs, "torch"].map((name) => `import ${name}\n`).join("");
  return `${imports}\n${seed}${graph.join("\n").trim()}\n`;
}
