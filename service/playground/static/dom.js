/* Elements from plain calls. Text goes in as text: nothing here ever parses markup. */

/** Return `<tag>` with attributes, listeners (functions) and children; null children are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Return `1 node`, `2 nodes`. */
export const plural = (count, word) =>
  `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
