/* Ways out of the page: a link that carries the graph in its fragment, curl, Python, JSON. */

import { address, key, ProblemError } from "./api.js";
import { pretty } from "./jsontext.js";

const NAME = "graph";
const LIMIT = 4_000_000;
const LONGEST = 1_000_000; // of a link: browsers refuse addresses of 2 MB
const PLAIN = "0.";
const DEFLATED = "1.";

const toBase64 = (bytes) => {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
};

const fromBase64 = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));

async function through(stream, bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const parts = [];
  let length = 0;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    length += value.length;
    if (length > LIMIT) throw new Error("too large");
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Return the fragment of a link to what the editor shows; nothing is stored anywhere. */
export async function toFragment({ view, text }) {
  const bytes = new TextEncoder().encode(JSON.stringify({ view, text }));
  if (bytes.length > LIMIT) throw tooLarge();
  const packed =
    typeof CompressionStream === "undefined"
      ? PLAIN + toBase64(bytes)
      : DEFLATED + toBase64(await through(new CompressionStream("deflate-raw"), bytes));
  if (packed.length > LONGEST) throw tooLarge();
  return `#${NAME}=${packed}`;
}

const tooLarge = () =>
  new ProblemError({ code: "too_large", detail: "Too large for a link: copy the JSON", errors: [] });

/** Return whether a fragment is meant to carry a graph. */
export const isLink = (fragment) => new URLSearchParams(fragment.replace(/^#/, "")).has(NAME);

/** Return `{view, text}` of a fragment, null where it carries no graph that can be read. */
export async function fromFragment(fragment) {
  const packed = new URLSearchParams(fragment.replace(/^#/, "")).get(NAME);
  if (!packed) return null;
  try {
    let bytes = fromBase64(packed.slice(2));
    if (packed.startsWith(DEFLATED)) bytes = await through(new DecompressionStream("deflate-raw"), bytes);
    const { view, text } = JSON.parse(new TextDecoder().decode(bytes));
    return ["python", "json"].includes(view) && typeof text === "string" ? { view, text } : null;
  } catch {
    return null;
  }
}

/** Return the request as a command line. */
export function curl(request) {
  const quoted = pretty(request).replaceAll("'", "'\\''");
  const keyed = key.get() ? " \\\n  -H \"authorization: Bearer $GRADTRACE_KEY\"" : "";
  return `curl -sS ${address("v1/trace")} \\\n  -H 'content-type: application/json'${keyed} \\\n  -d '${quoted}'\n`;
}

/** Put text on the clipboard, the old way where the page is not served securely. */
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("refused");
}
