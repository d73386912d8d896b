/* The service, seen from the page. Every error is a problem object, as the service says it. */

import { h } from "./dom.js";
import { read, write } from "./exact.js";

/** Where the service is: one above this file's folder, so that a path prefix is kept. */
export const BASE = new URL("../", import.meta.url);

const KEY = "gradtrace-key";
const JSON_TYPE = "application/json";
const SENDABLE = /^[\x20-\x7e]+$/;

/** A problem of the service (RFC 9457), or of reaching it. */
export class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

let unstored = null; // the key, where the browser keeps nothing for this page

export const key = {
  get: () => stored((storage) => storage.getItem(KEY)) ?? unstored,
  set(value) {
    unstored = value;
    stored((storage) => storage.setItem(KEY, value));
  },
  forget() {
    unstored = null;
    stored((storage) => storage.removeItem(KEY));
  },
};

/** Return what `use` makes of the tab's storage, null where the browser has none for this page. */
function stored(use) {
  try {
    return use(window.sessionStorage);
  } catch {
    return null;
  }
}

/** Return an absolute address of the service. */
export const address = (path) => new URL(path, BASE).href;

/**
 * Return a function that posts JSON and returns the answer, asking for a key where one is needed.
 * `askForKey(wrong)` returns whether a key was given.
 */
export function connect(askForKey) {
  async function send(path, document_, accept, signal) {
    const headers = { "content-type": JSON_TYPE, accept };
    if (key.get()) headers.authorization = `Bearer ${key.get()}`;
    try {
      return await fetch(address(path), {
        method: "POST",
        headers,
        body: write(document_),
        signal,
      });
    } catch (error) {
      throw unreachable(error);
    }
  }

  async function post(path, document_, accept, signal) {
    let answer = await send(path, document_, accept, signal);
    while (answer.status === 401 && (await askForKey(Boolean(key.get())))) {
      answer = await send(path, document_, accept, signal);
    }
    if (!answer.ok) throw new ProblemError(await problemOf(answer));
    try {
      return await answer.text();
    } catch (error) {
      // It began to answer, then it was gone.
      throw unreachable(error);
    }
  }

  return {
    trace: async (request, signal) => understood(await post("v1/trace", request, JSON_TYPE, signal), JSON.parse),
    picture: (request, signal) => post("v1/trace", request, "image/svg+xml", signal),
    importPython: async (source, signal) =>
      understood(await post("v1/import/python", { source }, JSON_TYPE, signal), read),
    exportPython: (request, signal) => post("v1/export/python", request, "text/x-python", signal),
  };
}

/** Return the text of an answer as what it says; where it is no JSON, it is not the service's. */
function understood(text, reader) {
  try {
    return reader(text);
  } catch {
    throw new ProblemError({
      code: "unknown",
      title: "The answer cannot be read",
      detail: "Something between this page and the service gave another answer. Load the page again; perhaps you have to sign in.",
      errors: [],
    });
  }
}

/** Return the problem of not reaching the service; where the page itself gave up, that error. */
function unreachable(error) {
  if (error.name === "AbortError") return error;
  return new ProblemError({
    code: "unreachable",
    title: "The service does not answer",
    detail: "The service could not be reached. Try again in a moment.",
    errors: [],
  });
}

async function problemOf(answer) {
  try {
    const problem = await answer.json();
    if (typeof problem.detail === "string") {
      const errors = Array.isArray(problem.errors) ? problem.errors : []; // a proxy has its own form
      const told = errors.filter((item) => typeof item?.message === "string");
      return { title: `The answer was ${answer.status}`, ...problem, errors: told };
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // Not JSON: a proxy answered, not the service.
  }
  return {
    code: "unknown",
    title: `The answer was ${answer.status}`,
    detail: `Something between this page and the service answered ${answer.status}.`,
    errors: [],
  };
}

/** Wire the dialog that asks for a key; return `askForKey`. */
export function keyDialog(dialog, forget) {
  const input = dialog.querySelector("input");
  const wrong = dialog.querySelector("[role=alert]");
  const show = () => {
    forget.hidden = !key.get();
  };
  const say = (words) => wrong.replaceChildren(...(words ? [h("span", {}, words)] : []));
  let waiting = null;
  dialog.querySelector("form").addEventListener("submit", (event) => {
    // Other signs cannot be sent in a header at all.
    if (event.submitter?.value !== "use" || SENDABLE.test(input.value.trim())) return;
    event.preventDefault();
    say("A key has letters, digits and signs of plain English text only. Is this all of it, and nothing else?");
  });
  forget.addEventListener("click", () => {
    key.forget();
    show();
  });
  show();
  return (wasWrong) => {
    waiting ??= new Promise((resolve) => {
      say(wasWrong ? "This key is not one of those in force." : "");
      input.value = "";
      dialog.returnValue = "";
      dialog.showModal();
      dialog.addEventListener(
        "close",
        () => {
          const given = dialog.returnValue === "use" && input.value.trim();
          if (given) key.set(given);
          input.value = "";
          waiting = null;
          show();
          resolve(Boolean(given));
        },
        { once: true },
      );
    });
    return waiting;
  };
}
