/* The page: its parts, and who listens to whom. */

import { connect, keyDialog } from "./api.js";
import { details, isOn, nodeLink, STATUS, switchOf } from "./details.js";
import { byId, h, plural } from "./dom.js";
import { Editor } from "./editor.js";
import { healthPanel } from "./health.js";
import { pretty } from "./jsontext.js";
import { Picture, placeholder } from "./picture.js";
import { Session } from "./session.js";
import { copy, curl, fromFragment, isLink, toFragment } from "./share.js";
import { Store } from "./store.js";
import { nodeTable } from "./table.js";

const TYPING_PAUSE_MS = 400;
const SLOW_MS = 700;
const HINT = "Click a node: a leaf switches its requires_grad, an op its retain_grad.";
const SUMMARY_HINT = "A large graph: each card stands for several nodes. Choose a single one in the table.";
const STALE = "The picture shows the last graph that could be traced.";
const STALE_HINT = "A click changes nothing until the text can be traced.";
const BROKEN_LINK =
  "This link carries no graph that can be read; perhaps a part of it was cut off. Here is an example instead.";

const store = new Store({
  view: "python", // what the editor shows: python or json
  text: "", // the editor's text
  request: null, // the last graph that could be read and traced
  response: null, // its trace
  picture: null, // its picture, as SVG text
  problem: null, // why the text could not be traced
  message: null, // what the last click did
  selected: null, // the chosen node's id
  contributions: true,
  busy: false,
  undo: null,
  milliseconds: 0,
});

const session = new Session(connect(keyDialog(byId("key-dialog"), byId("forget-key"))), store);

const select = (id) => {
  const known = store.get("response")?.nodes.some((node) => node.id === id);
  store.set({ selected: known ? id : (store.get("response")?.nodes.find((node) => node.id.startsWith(`${id}:`))?.id ?? null) });
};

// The editor.

const chooser = byId("example");
let typing = 0;
const editor = new Editor(byId("editor"), {
  changed(text) {
    clearTimeout(typing);
    typing = setTimeout(readTyped, TYPING_PAUSE_MS);
    chooser.value = "";
    showAbout("");
    session.stop();
    store.set({ text, undo: null });
  },
  run,
});

function run() {
  clearTimeout(typing);
  typing = 0;
  return session.read(store.get("text"));
}

/** Read what was typed and not read yet, before anything else is done with it. */
async function readTyped() {
  if (typing) await run();
}

store.on(["text", "view"], ({ text, view }) => editor.show(text, view));
store.on(["view"], ({ view }) => showTab(view));
byId("run").addEventListener("click", run);

const tabs = [...document.querySelectorAll("[role=tab]")];

async function switchTo(view) {
  await readTyped();
  await session.switchTo(view);
}

async function toggle(id) {
  await readTyped();
  await session.toggle(id);
}

function showTab(view) {
  for (const tab of tabs) {
    const chosen = tab.dataset.view === view;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) byId("editor").setAttribute("aria-labelledby", tab.id);
  }
}

for (const tab of tabs) {
  tab.addEventListener("click", () => switchTo(tab.dataset.view));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = tabs.find((item) => item !== tab);
    other.focus();
    switchTo(other.dataset.view);
  });
}

// Problems, at their line and at their node.

store.on(["problem", "undo"], ({ problem, undo }) => {
  editor.mark(problem?.line ?? 0);
  byId("problem").replaceChildren(...(problem ? problemParts(problem, undo) : []));
  byId("problem").hidden = !problem;
  if (problem) picture.stale(problem.errors[0]?.node ?? problem.clicked);
});

function problemParts(problem, undo) {
  const words = problem.errors.length ? [...new Set(problem.errors.map((error) => error.message))] : [problem.detail];
  const scripted = /^line \d+, column/.test(words[0]);
  return [
    h("p", { class: "problem-title" }, h("span", { "aria-hidden": "true" }, "▲ "), scripted ? "This script cannot be read" : problem.title),
    ...words.slice(0, 5).map((text) => h("p", { class: "problem-text" }, text)),
    h("div", { class: "buttons" },
      problem.line ? h("button", { type: "button", click: () => editor.goTo(problem.line) }, `Go to line ${problem.line}`) : null,
      undo ? h("button", { type: "button", click: takeBack }, "Undo the click") : null,
    ),
    ...(problem.hint ? [h("p", { class: "soft" }, problem.hint)] : []),
  ];
}

function takeBack() {
  byId("picture").focus(); // the button goes
  return session.undo();
}

// The picture.

const picture = new Picture(byId("picture"), {
  chosen(id, switched) {
    select(id);
    if (switched) toggle(id);
  },
  described(id) {
    const { request, response } = { request: store.get("request"), response: store.get("response") };
    const node = response?.nodes.find((item) => item.id === id);
    if (!node) return id;
    const which = switchOf(request, response, id);
    const on = isOn(request, response, id) ? "on" : "off";
    return `${id}, ${node.op ?? "leaf"}, ${STATUS[node.grad_status]}. ${which} is ${on}; Enter switches it.`;
  },
});

// With the response too: another trace may have the same picture, and what is said of it changes.
store.on(["picture", "response"], ({ picture: text, selected }) => {
  if (!text) return;
  picture.show(text);
  picture.select(selected);
});
store.on(["selected"], ({ selected }) => picture.select(selected));
byId("contributions").addEventListener("change", async (event) => {
  await readTyped();
  await session.redraw(event.target.checked);
});
for (const button of document.querySelectorAll("[data-zoom]")) {
  button.addEventListener("click", () => picture.zoom(button.dataset.zoom));
}

let slow = 0;

function sayWaiting() {
  byId("message").hidden = false;
  byId("message").replaceChildren("Waiting for the service\u2026");
}

store.on(["busy"], ({ busy }) => {
  byId("picture").setAttribute("aria-busy", String(busy));
  clearTimeout(slow);
  if (busy) slow = setTimeout(sayWaiting, SLOW_MS);
});

store.on(["message", "response", "problem", "picture", "busy"], ({ message, response, problem }) => {
  byId("message").classList.toggle("said", Boolean(message));
  byId("message").hidden = Boolean(problem && !response);
  if (problem) byId("message").replaceChildren(problem.clicked ? STALE : `${STALE} ${STALE_HINT}`);
  else if (!message) byId("message").replaceChildren(picture.isSummary ? SUMMARY_HINT : HINT);
  else {
    byId("message").replaceChildren(
      h("strong", {}, `${message.id}: ${message.which} is ${message.on ? "on" : "off"}. `),
      message.note,
    );
  }
});

// The chosen node, the table, the diagnosis.

const hooks = { toggle, select };

store.on(["selected", "response", "request"], (fields) => {
  const inside = byId("node").contains(document.activeElement) && document.activeElement !== byId("node");
  const focused = inside && (document.activeElement.id === "switch" ? "switch" : "node");
  byId("node-name").textContent = fields.response && fields.selected ? fields.selected : "";
  byId("node").replaceChildren(...details(fields, hooks).filter(Boolean));
  if (focused) (byId(focused) ?? byId("node")).focus();
});

store.on(["response"], (fields) => {
  if (!fields.response) {
    for (const id of ["count", "health", "table"]) byId(id).replaceChildren();
    return;
  }
  byId("table").replaceChildren(...nodeTable(fields, select));
  const count = plural(fields.response.nodes.length, "node");
  byId("count").textContent = `${count}, PyTorch ${fields.response.torch_version}, ${Math.round(fields.milliseconds)} ms`;
  byId("health").replaceChildren(...healthPanel(fields, select));
});
store.on(["selected"], ({ selected }) => {
  for (const row of document.querySelectorAll("[data-row]")) {
    row.classList.toggle("selected", row.dataset.row === selected);
  }
});

// Ways out: link, curl, Python, JSON.

const COPIES = {
  async link() {
    const fragment = await toFragment({ view: store.get("view"), text: store.get("text") });
    history.replaceState(null, "", fragment);
    return location.href;
  },
  curl: () => curl(store.get("request")),
  python: () => session.script(),
  json: () => pretty(store.get("request")) + "\n",
};

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await readTyped();
    const { copy: what } = button.dataset;
    const problem = store.get("problem");
    try {
      if (what !== "link" && (!store.get("request") || (problem && !problem.clicked))) {
        byId("copied").textContent = "Not copied: the text cannot be traced";
        return;
      }
      await copy(await COPIES[what]());
      byId("copied").textContent = `${button.textContent} copied`;
    } catch (error) {
      byId("copied").textContent = error.problem?.detail ?? "The browser did not allow it";
    } finally {
      setTimeout(() => byId("copied").replaceChildren(), 4000);
    }
  });
}

// Where to begin: the graph of the link, else the first example.

const NO_EXAMPLES = { id: "", source: ["import torch", ""], about: "The examples could not be loaded. Write a graph, or load the page again." };

async function loaded() {
  try {
    return await (await fetch(new URL("examples.json", import.meta.url))).json();
  } catch {
    return [];
  }
}

const examples = await loaded();
chooser.append(
  h("option", { value: "", hidden: true }, "your own"),
  ...examples.map((example) => h("option", { value: example.id }, example.title)),
);

function showAbout(about) {
  byId("about").textContent = about;
  byId("about").hidden = !about;
}

async function open({ view, text }, about = "") {
  clearTimeout(typing);
  typing = 0;
  picture.reset();
  showAbout(about);
  store.set({ view, text, undo: null, problem: null, message: null, selected: null, response: null, picture: null, request: null });
  showTab(view);
  await session.read(text, view);
  if (!store.get("picture")) byId("picture").replaceChildren(placeholder("The picture comes as soon as the graph can be traced."));
}

function openExample(id, about) {
  const example = examples.find((item) => item.id === id) ?? examples[0] ?? NO_EXAMPLES;
  chooser.value = example.id;
  return open({ view: "python", text: example.source.join("\n") + "\n" }, about ?? example.about);
}

let linked = null;

/** Open the link's graph; return whether there is a link. */
async function openLink() {
  if (!isLink(location.hash)) return false;
  linked = await fromFragment(location.hash);
  if (linked) {
    chooser.value = "";
    await open(linked);
  } else {
    await openExample(examples[0]?.id, BROKEN_LINK);
  }
  return true;
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address may hold a graph
  byId("picture-panel").focus();
});

chooser.addEventListener("change", () => {
  history.replaceState(null, "", location.pathname + location.search);
  openExample(chooser.value);
});
window.addEventListener("hashchange", async () => {
  if (await openLink()) return;
  // Back from a link; what someone wrote meanwhile stays.
  if (!location.hash && linked && linked.text === store.get("text")) await openExample(examples[0]?.id);
});

if (!(await openLink())) await openExample(examples[0]?.id);
document.body.dataset.ready = "true";
