/* The editor: a plain text area, for keyboards and screen readers, over a painted copy of its text. */

import { h } from "./dom.js";

const PAINT_LIMIT = 60_000;

const TOKENS = {
  python:
    /(?<comment>#.*)|(?<string>"""[\s\S]*?"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?<word>\b(?:import|from|as|def|return|for|in|if|else|elif|while|with|not|and|or|None|True|False|lambda|class|pass|range)\b)|(?<number>\b\d[\w.]*\b)|(?<grad>\b(?:requires_grad_?|retain_grad|backward|grad|detach)\b)/g,
  json: /(?<name>"(?:[^"\\\n]|\\.)*"(?=\s*:))|(?<string>"(?:[^"\\\n]|\\.)*")|(?<word>\b(?:true|false|null)\b)|(?<number>-?\b\d[\d.eE+-]*\b)/g,
};

/** Yield text and painted spans of a source. */
function* painted(source, language) {
  let last = 0;
  for (const match of source.matchAll(TOKENS[language])) {
    if (match.index > last) yield source.slice(last, match.index);
    const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    yield h("span", { class: `tok-${kind}` }, match[0]);
    last = match.index + match[0].length;
  }
  yield source.slice(last);
}

export class Editor {
  #area;
  #paint;
  #gutter;
  #language = "python";
  #wrong = 0;

  /** `changed` is called with the text as it is typed, `run` on Ctrl+Enter. */
  constructor(root, { changed, run }) {
    this.root = root;
    this.#area = root.querySelector("textarea");
    this.#paint = root.querySelector(".paint");
    this.#gutter = root.querySelector(".gutter");
    this.#area.addEventListener("input", () => {
      this.#wrong = 0;
      this.#draw();
      changed(this.#area.value);
    });
    this.#area.addEventListener("scroll", () => this.#follow());
    this.#area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        run();
      }
    });
  }

  /** Show `text` as `language`; keeps the place where one reads if only a little changed. */
  show(text, language) {
    this.#language = language;
    this.#area.setAttribute("aria-label", language === "python" ? "Python script" : "JSON graph");
    if (this.#area.value !== text) {
      const { scrollTop, scrollLeft } = this.#area;
      this.#area.value = text;
      this.#area.scrollTop = scrollTop;
      this.#area.scrollLeft = scrollLeft;
    }
    this.#draw();
  }

  /** Mark a line (from 1) as wrong; 0 marks none. */
  mark(line) {
    if (line === this.#wrong) return;
    this.#wrong = line;
    this.#area.setAttribute("aria-invalid", String(line > 0));
    this.#draw();
  }

  /** Put the cursor at the start of a line (from 1) and show it. */
  goTo(line) {
    const lines = this.#area.value.split("\n");
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    this.#area.focus();
    this.#area.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  }

  #draw() {
    const source = this.#area.value;
    const lines = source.split("\n").length;
    this.#paint.replaceChildren(
      ...(source.length > PAINT_LIMIT ? [source] : painted(source, this.#language)),
      "\n",
    );
    const numbers = Array.from({ length: Math.min(lines, 5000) }, (_, index) =>
      h("span", { class: index + 1 === this.#wrong ? "line wrong" : "line" }, String(index + 1)),
    );
    // Lines beyond those have no number, rather than one of another line.
    this.#gutter.replaceChildren(...numbers, "\n".repeat(lines - numbers.length));
    this.#follow();
  }

  #follow() {
    this.#paint.scrollTop = this.#area.scrollTop;
    this.#paint.scrollLeft = this.#area.scrollLeft;
    this.#gutter.scrollTop = this.#area.scrollTop;
  }
}
