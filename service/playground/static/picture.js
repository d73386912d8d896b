/* The picture: the service's SVG, put into the page as elements, its nodes made into buttons. */

import { h } from "./dom.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const SMALLEST = 0.04;
const LEGIBLE = 0.62;
const COMFORTABLE = 0.84;

/** Return the root element of SVG text, without anything that could run or load, and its style. */
export function parse(text) {
  // The page's policy allows no style in the markup, not even while it is parsed.
  let style = "";
  const bare = text.replace(/<style>([^<]*)<\/style>/g, (_, sheet) => {
    style += sheet;
    return "";
  });
  const root = new DOMParser().parseFromString(bare, "image/svg+xml").documentElement;
  if (root.namespaceURI !== NAMESPACE || root.localName !== "svg") throw new Error("not an SVG");
  for (const element of [...root.querySelectorAll("*")]) {
    if (["style", "script", "foreignObject", "image", "use", "a"].includes(element.localName)) {
      element.remove();
    } else {
      for (const { name } of [...element.attributes]) {
        if (/^on|href$/i.test(name)) element.removeAttribute(name);
      }
    }
  }
  return { root, style };
}

export class Picture {
  #frame;
  #chosen;
  #described;
  #svg = null;
  #width = 0;
  #height = 0;
  #zoom = null;
  #sheet = new CSSStyleSheet();

  /**
   * `chosen(id)` is called for a click or Enter on a node, `described(id)` gives what a screen
   * reader says of it.
   */
  constructor(frame, { chosen, described }) {
    this.#frame = frame;
    this.#chosen = chosen;
    this.#described = described;
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, this.#sheet];
    frame.addEventListener("click", (event) => this.#activate(event));
    frame.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Draw SVG text; the node that had the focus keeps it, and the size stays. */
  show(text) {
    const focused = document.activeElement?.closest?.("[data-node]")?.dataset.node;
    const { root, style } = parse(text);
    this.#sheet.replaceSync(style);
    this.#svg = document.importNode(root, true);
    this.#width = Number(root.getAttribute("width"));
    this.#height = Number(root.getAttribute("height"));
    this.#svg.setAttribute("role", "group");
    for (const node of this.#nodes()) {
      node.setAttribute("role", "button");
      node.setAttribute("tabindex", "-1");
      node.setAttribute("aria-label", this.#described(node.dataset.node));
    }
    this.#nodes()[0]?.setAttribute("tabindex", "0");
    const { scrollLeft, scrollTop } = this.#frame;
    const before = this.#frame.querySelector("svg");
    this.#frame.replaceChildren(this.#svg);
    this.#frame.classList.remove("stale");
    this.#resize();
    if (before) this.#frame.scrollTo(scrollLeft, scrollTop);
    else this.#frame.scrollTo((this.#svg.clientWidth - this.#frame.clientWidth) / 2, 0);
    if (focused) this.#focus(this.#node(focused), false);
  }

  /** Whether the cards stand for groups of nodes, as those of a large graph do. */
  get isSummary() {
    return Boolean(this.#svg?.querySelector("[data-group]"));
  }

  /** Show that the picture is of an earlier graph, and which node is the trouble. */
  stale(failed) {
    this.#frame.classList.add("stale");
    for (const node of this.#nodes()) {
      node.classList.toggle("failed", [node.dataset.node, node.dataset.node.split(":")[0]].includes(failed));
    }
  }

  /** Mark the chosen node. */
  select(id) {
    for (const node of this.#nodes()) {
      const chosen = node.dataset.node === id;
      node.classList.toggle("selected", chosen);
      if (chosen) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    }
  }

  /** Start over with a size that fits the next picture. */
  reset() {
    this.#zoom = null;
    this.#svg = null;
    this.#frame.replaceChildren();
  }

  /** Make it larger (`in`), smaller (`out`), or as large as there is room for (`fit`). */
  zoom(how) {
    if (!this.#svg) return;
    const factor = { in: 1.25, out: 0.8 }[how];
    this.#zoom = factor ? Math.min(4, Math.max(SMALLEST, this.#scale() * factor)) : this.#fitting();
    this.#resize();
  }

  #fitting() {
    const across = (this.#frame.clientWidth - 4) / this.#width;
    const down = (this.#frame.clientHeight - 4) / this.#height;
    return Math.max(SMALLEST, Math.min(1, across, down));
  }

  #scale() {
    if (this.#zoom) return this.#zoom;
    const across = (this.#frame.clientWidth - 4) / this.#width;
    const down = (this.#frame.clientHeight - 4) / this.#height;
    return Math.max(LEGIBLE, Math.min(1, across, Math.max(down, COMFORTABLE)));
  }

  #resize() {
    const scale = this.#scale();
    this.#svg.setAttribute("width", String(Math.round(this.#width * scale)));
    this.#svg.setAttribute("height", String(Math.round(this.#height * scale)));
  }

  #nodes() {
    return this.#svg ? [...this.#svg.querySelectorAll("[data-node]")] : [];
  }

  #node(id) {
    return this.#nodes().find((node) => node.dataset.node === id);
  }

  #focus(node, scroll = true) {
    if (!node) return;
    for (const other of this.#nodes()) other.setAttribute("tabindex", other === node ? "0" : "-1");
    node.focus({ preventScroll: !scroll });
  }

  #activate(event) {
    const node = event.target.closest("[data-node]");
    if (!node) return;
    this.#focus(node, false);
    this.#chosen(node.dataset.node, !event.shiftKey);
  }

  #key(event) {
    const node = event.target.closest("[data-node]");
    if (!node) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#chosen(node.dataset.node, event.key === "Enter");
      return;
    }
    const nodes = this.#nodes();
    const at = nodes.indexOf(node);
    const to = {
      ArrowDown: at + 1,
      ArrowRight: at + 1,
      ArrowUp: at - 1,
      ArrowLeft: at - 1,
      Home: 0,
      End: nodes.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#focus(nodes[Math.max(0, Math.min(nodes.length - 1, to))]);
  }
}

/** Return what stands where no picture can be. */
export const placeholder = (words) => h("p", { class: "placeholder" }, words);
