/* JSON as people read it, and the way back from a JSON Pointer to a line of it. */

import { Written } from "./exact.js";

const WIDTH = 72;

/** Return `value` as JSON text in which whatever fits stands on one line. */
export function pretty(value, indent = "") {
  const flat = oneLine(value);
  if (value === null || typeof value !== "object" || value instanceof Written || indent.length + flat.length <= WIDTH) return flat;
  const deeper = indent + "  ";
  if (Array.isArray(value)) {
    const items = value.map((item) => deeper + pretty(item, deeper));
    return `[\n${items.join(",\n")}\n${indent}]`;
  }
  const members = Object.entries(value).map(
    ([name, item]) => `${deeper}${JSON.stringify(name)}: ${pretty(item, deeper)}`,
  );
  return `{\n${members.join(",\n")}\n${indent}}`;
}

function oneLine(value) {
  if (Array.isArray(value)) return `[${value.map(oneLine).join(", ")}]`;
  if (value !== null && typeof value === "object" && !(value instanceof Written)) {
    const members = Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${oneLine(item)}`);
    return `{${members.join(", ")}}`;
  }
  return value instanceof Written ? value.text : JSON.stringify(value);
}

/**
 * Return the line (from 1) at which the value of a JSON Pointer starts in valid JSON text; of its
 * nearest parent where it is not there.
 */
export function lineOf(text, pointer) {
  const wanted = pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
  const path = []; // of the open objects and lists: {key} or {index}
  let best = { depth: -1, offset: 0 };
  let expectKey = false;
  for (let match; (match = tokens.exec(text)); ) {
    const token = match[0];
    const top = path.at(-1);
    if (token === "}" || token === "]") {
      path.pop();
      expectKey = false;
    } else if (token === ",") {
      if (top && "index" in top) top.index += 1;
      else expectKey = true;
    } else if (token === ":") {
      expectKey = false;
    } else if (expectKey) {
      top.key = JSON.parse(token);
    } else {
      const here = path.map((level) => String(level.key ?? level.index));
      if (here.length <= wanted.length && here.every((part, index) => part === wanted[index])) {
        if (here.length > best.depth) best = { depth: here.length, offset: match.index };
      }
      if (token === "{") {
        path.push({ key: undefined });
        expectKey = true;
      } else if (token === "[") {
        path.push({ index: 0 });
      }
    }
  }
  return lineAt(text, best.offset);
}

/** Return the line (from 1) of a position in text. */
export const lineAt = (text, offset) => text.slice(0, offset).split("\n").length;

const TOKEN =
  /\s*(?:("[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\u0000-\u001f]*)*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)|([{}[\],:]))/y;

/** What may come next, by what is expected: a kind of token (s, v or a sign) to what is then. */
const NEXT = {
  value: { s: "after", v: "after", "{": "firstKey", "[": "firstItem" },
  firstItem: { s: "after", v: "after", "{": "firstKey", "[": "firstItem", "]": "after" },
  firstKey: { s: "colon", "}": "after" },
  key: { s: "colon" },
  colon: { ":": "value" },
};

/**
 * Return the line (from 1) of the first thing in `text` that is not JSON to the service, 0 where
 * there is none. Browsers do not say where it is, and let a key that is given twice pass.
 */
export function syntaxLine(text) {
  const open = []; // of the open objects and lists: {sign, keys}
  let expected = "value";
  TOKEN.lastIndex = 0;
  for (let end = 0; ; end = TOKEN.lastIndex) {
    const match = TOKEN.exec(text);
    const token = match && (match[1] ? "s" : match[2] ? "v" : match[3]);
    const after = { "[": { ",": "value", "]": "after" }, "{": { ",": "key", "}": "after" } };
    const next = expected === "after" ? after[open.at(-1)?.sign]?.[token] : NEXT[expected][token];
    const key = next === "colon" ? JSON.parse(match[1]) : null;
    if (!next || open.at(-1)?.keys.has(key)) {
      const start = end + /^\s*/.exec(text.slice(end))[0].length;
      const whole = expected === "after" && !open.length && start === text.length;
      return whole ? 0 : lineAt(text, start);
    }
    if (key !== null) open.at(-1).keys.add(key);
    if (token === "{" || token === "[") open.push({ sign: token, keys: new Set() });
    if (token === "}" || token === "]") open.pop();
    expected = next;
  }
}
