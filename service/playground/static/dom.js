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

/**
 * Fill `list` with the first `page` of `items`, each as the element that `render` makes of it;
 * return the parts: the list, and where there are more a button that adds the next ones.
 */
export function paged(list, items, page, render) {
  let shown = 0;
  const add = () => {
    const next = items.slice(shown, shown + page).map(render);
    shown += next.length;
    list.append(...next);
    return next[0];
  };
  const left = () => `Show more (${(items.length - shown).toLocaleString("en")} left)`;
  add();
  if (shown === items.length) return [list];
  const more = (event) => {
    const button = event.currentTarget;
    const first = add();
    button.textContent = left();
    if (shown < items.length) return;
    // The button has the focus and goes: one reads on at what it brought.
    first.setAttribute("tabindex", "-1");
    first.focus();
    button.remove();
  };
  return [list, h("button", { type: "button", class: "more", click: more }, left())];
}

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Return `1 node`, `2 nodes`. */
export const plural = (count, word) =>
  `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
