/* From text to graph to trace and back: what happens when someone types, clicks or switches. */

import { ProblemError } from "./api.js";
import { declaration } from "./chain.js";
import { isOn, switchOf } from "./details.js";
import { read, Written, write } from "./exact.js";
import { lineOf, pretty, syntaxLine } from "./jsontext.js";
import { assignedOn, shortened, withRequiresGrad, withRetainGrad } from "./script.js";

const EVERYTHING = ["value", "grad", "stats", "notes", "edges", "health"];
const LARGE = ["value", "grad", "stats", "notes"];
const LARGE_FROM = 2_000;

export class Session {
  #api;
  #store;
  #turn = null;
  #age = 0; // how often something began that makes what came before it out of date
  #last = Promise.resolve(); // what is under way, for clicks to wait for
  #parsed = null; // what the text was read as, traced or not

  constructor(api, store) {
    this.#api = api;
    this.#store = store;
  }

  /** Read the text of the editor as a graph, and trace it. */
  read(text, view = this.#store.get("view")) {
    this.#age += 1;
    return this.#under(this.#read(text, view));
  }

  /** Give up what is under way: someone types, and it must not write over that. */
  stop() {
    this.#age += 1;
    this.#turn?.abort();
    this.#store.set({ busy: false });
  }

  /** Switch the editor to Python or JSON: the same graph in other words. */
  switchTo(view) {
    return this.#after(async () => {
      if (view === this.#store.get("view")) return;
      const request = this.#isAnswered() ? this.#store.get("request") : this.#parsed;
      if (!request) {
        await this.#take(view);
        return;
      }
      const signal = this.#begin();
      this.#store.set({ busy: true });
      try {
        const text = view === "json" ? pretty(withoutDefaults(request)) : await this.#python(request, signal);
        await this.#read(text, view);
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  /** Read the text as `view` where it looks like that; what someone wrote is never thrown away. */
  async #take(view) {
    const { text, problem } = this.#fields();
    const fits = !text.trim() || text.trimStart().startsWith("{") === (view === "json");
    if (fits || !problem) {
      await this.#read(text, view);
    } else {
      const name = view === "json" ? "JSON" : "Python";
      this.#store.set({ problem: { ...problem, hint: `It can be shown as ${name} as soon as it can be read.` } });
    }
  }

  /** Flip a leaf's requires_grad or an op's retain_grad, trace again, and say what came of it. */
  toggle(id) {
    return this.#after(() => this.#toggle(id));
  }

  async #toggle(id) {
    // The picture is of an earlier graph, and the text someone's own: a click would write over it.
    if (!this.#isAnswered()) return;
    const { request, response, view, text } = this.#fields();
    const which = request && switchOf(request, response, id);
    if (!which) return;
    const on = !isOn(request, response, id);
    const changed = read(write(request));
    declaration(changed, id).item[which] = on;
    const signal = this.#begin();
    this.#store.set({ busy: true, undo: { text, view }, selected: id });
    try {
      const rewritten =
        view === "json"
          ? pretty(withoutDefaults(changed))
          : await this.#rewritten(changed, { id: declaration(changed, id).item.id, which, on }, signal);
      // The click stands even where the graph then cannot be traced: the next one takes it back.
      this.#store.set({ text: rewritten, request: changed });
      await this.#trace(changed, signal);
      this.#say(id, which, on);
    } catch (error) {
      this.#fail(error, id);
    }
  }

  /** Take the last click back. */
  async undo() {
    const undo = this.#store.get("undo");
    if (!undo) return;
    this.#store.set({ undo: null });
    await this.read(undo.text, undo.view);
  }

  /** Draw again, with contributions or without. */
  redraw(contributions) {
    this.#store.set({ contributions });
    return this.#after(async () => {
      const request = this.#store.get("request");
      if (!request || !this.#isAnswered()) return;
      const signal = this.#begin();
      this.#store.set({ busy: true });
      try {
        this.#store.set({ picture: await this.#draw(request, signal), busy: false });
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  /** Return the graph as a script that runs by itself. */
  script() {
    return this.#api.exportPython(this.#store.get("request"));
  }

  #fields() {
    const names = ["request", "response", "view", "text", "problem"];
    return Object.fromEntries(names.map((name) => [name, this.#store.get(name)]));
  }

  /** Return whether the text is what was traced last: what a click led to counts, and can be undone. */
  #isAnswered() {
    const { problem } = this.#fields();
    return !problem || problem.clicked !== null;
  }

  /** Remember what is under way, for the next click to wait for. */
  #under(work) {
    this.#last = work.catch(() => {});
    return work;
  }

  /** Do `task` after what is under way; not at all where that was given up for something else. */
  #after(task) {
    const [before, age] = [this.#last, this.#age];
    return this.#under(before.then(() => (age === this.#age ? task() : undefined)));
  }

  async #read(text, view) {
    const signal = this.#begin();
    this.#parsed = null;
    this.#store.set({ text, view, busy: true });
    try {
      this.#parsed = await this.#parse(text, view, signal);
      await this.#trace(this.#parsed, signal);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Stop what is under way; what comes next has this signal. */
  #begin() {
    this.#turn?.abort();
    this.#turn = new AbortController();
    return this.#turn.signal;
  }

  async #parse(text, view, signal) {
    if (view === "python") return this.#api.importPython(text, signal);
    let request = null;
    let wrong = null;
    try {
      request = read(text);
    } catch (error) {
      wrong = error.message;
    }
    const line = syntaxLine(text);
    if (line) throw unread("This is not valid JSON", wrong ?? "A key is given twice in one object.", line);
    if (wrong !== null) throw unread("The page cannot read this", `It is JSON, but the browser says: ${wrong}`, 0);
    if (request && typeof request === "object" && !Array.isArray(request)) return request;
    throw unread("The request does not have the right form", 'A graph is a JSON object with "leaves" and "ops".', 1);
  }

  async #trace(request, signal) {
    const include = isLarge(request) ? LARGE : EVERYTHING;
    const start = performance.now();
    const response = await this.#api.trace(asking(request, include), signal);
    const milliseconds = performance.now() - start;
    const picture = await this.#draw(request, signal);
    const known = response.nodes.some((node) => node.id === this.#store.get("selected"));
    this.#store.set({
      request,
      response,
      picture,
      milliseconds,
      busy: false,
      problem: null,
      message: null,
      selected: known ? this.#store.get("selected") : response.nodes.at(-1)?.id,
    });
  }

  #draw(request, signal) {
    // A summary shows no contributions, and for them the graph is run a second time.
    const include = this.#store.get("contributions") && !isLarge(request) ? ["edges"] : [];
    return this.#api.picture(asking(request, include), signal);
  }

  /** Return a graph as a short script, if that reads back as the same graph; else as a long one. */
  async #python(request, signal) {
    const whole = await this.#api.exportPython(request, signal);
    const short = shortened(whole);
    try {
      const read = await this.#api.importPython(short, signal);
      return same(read, await this.#api.importPython(whole, signal)) ? short : whole;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return whole;
    }
  }

  /** Return the script with one switch flipped: a small change where that means the same. */
  async #rewritten(changed, { id, which, on }, signal) {
    const text = this.#store.get("text");
    const small = (which === "retain_grad" ? withRetainGrad : withRequiresGrad)(text, id, on);
    if (small !== null) {
      try {
        if (same(await this.#api.importPython(small, signal), changed)) return small;
      } catch (error) {
        if (error.name === "AbortError") throw error;
      }
    }
    return this.#python(changed, signal);
  }

  #say(id, which, on) {
    const node = this.#store.get("response").nodes.find((item) => item.id === id);
    this.#store.set({ message: { id, which, on, note: node?.note ?? "", has: node?.grad != null } });
  }

  #fail(error, clicked = null) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ProblemError)) {
      const problem = { code: "page", title: "The page cannot show this", detail: error.message, errors: [] };
      this.#store.set({ busy: false, message: null, problem: { ...problem, line: 0, clicked } });
      throw error;
    }
    const { problem } = error;
    const { text, view } = this.#fields();
    const hint = misplaced(text, view);
    this.#store.set({ busy: false, message: null, problem: { ...problem, line: place(problem, text, view), clicked, hint } });
  }
}

/** Return the problem of a text that does not even reach the service. */
const unread = (title, detail, line) => new ProblemError({ code: "unread", title, detail, line, errors: [] });

/** Return the request as the page asks it; what its own fields say wrongly is the service's to refuse. */
function asking(request, include) {
  const { encoding = null, include: given = null } = request;
  const known = given === null || (Array.isArray(given) && given.every((part) => EVERYTHING.includes(part)));
  return {
    ...request,
    encoding: [null, "json", "base64"].includes(encoding) ? "json" : encoding,
    include: known ? include : given,
  };
}

/** Return what to say of a text that cannot be read and looks written for the other tab. */
function misplaced(text, view) {
  if (view === "python") return text.trimStart().startsWith("{") ? "This looks like JSON: choose JSON above." : null;
  return /^\s*(import|from|#|\w+\s*=)/.test(text) ? "This looks like Python: choose Python above." : null;
}

const isLarge = (request) => (request.leaves?.length ?? 0) + (request.ops?.length ?? 0) > LARGE_FROM;

/** Return the line (from 1) of the editor's text that a problem speaks of, 0 where there is none. */
function place(problem, text, view) {
  if (problem.line) return problem.line;
  const [first] = problem.errors;
  if (!first) return 0;
  if (view === "json") return first.pointer ? lineOf(text, first.pointer) : 0;
  const said = /^line (\d+), column \d+/.exec(first.message);
  if (said) return Number(said[1]);
  return first.node ? assignedOn(text, first.node.split(":")[0].split(".")[0]) : 0;
}

/** Return whether two requests say the same, fields that say nothing aside. */
function same(one, other) {
  return write(ordered(withoutDefaults(one))) === write(ordered(withoutDefaults(other)));
}

function ordered(value) {
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== "object" || value instanceof Written) return value;
  return Object.fromEntries(Object.keys(value).sort().map((name) => [name, ordered(value[name])]));
}

/** Return a request without what is the default anyway. */
function withoutDefaults(request) {
  const { seed, ...rest } = request;
  const clean = seed ? { seed, ...rest } : rest;
  const tidy = (item) =>
    Object.fromEntries(
      Object.entries(item).filter(
        ([name, value]) =>
          value !== null &&
          !(["requires_grad", "retain_grad"].includes(name) && value === false && !request.retain_grad),
      ),
    );
  for (const list of ["leaves", "ops"]) {
    if (clean[list]?.length) clean[list] = clean[list].map(tidy);
    else delete clean[list];
  }
  return clean;
}
