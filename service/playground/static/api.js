/* The service, seen from the page. Every error is a problem object, as the service says it. */

import { h } from "./dom.js";

/** Where the service is: one above this file's folder, so that a path prefix is kept. */
export const BASE = new URL("../", import.meta.url);

const KEY = "gradtrace-key";
const JSON_TYPE = "application/json";

/** A problem of the service (RFC 9457), or of reaching it. */
export class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

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
        body: JSON.stringify(document_),
        signal,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ProblemError({
        code: "unreachable",
        title: "The service does not answer",
        detail: "The service could not be reached. Try again in a moment.",
        errors: [],
      });
    }
  }

  async function post(path, document_, accept, signal) {
    let answer = await send(path, document_, accept, signal);
    while (answer.status === 401 && (await askForKey(Boolean(key.get())))) {
      answer = await send(path, document_, accept, signal);
    }
    if (!answer.ok) throw new ProblemError(await problemOf(answer));
    return answer;
  }

  return {
    trace: async (request, signal) => (await post("v1/trace", request, JSON_TYPE, signal)).json(),
    picture: async (request, signal) =>
      (await post("v1/trace", request, "image/svg+xml", signal)).text(),
    importPython: async (source, signal) =>
      (await post("v1/import/python", { source }, JSON_TYPE, signal)).json(),
    exportPython: async (request, signal) =>
      (await post("v1/export/python", request, "text/x-python", signal)).text(),
  };
}

async function problemOf(answer) {
  try {
    const problem = await answer.json();
    if (typeof problem.detail === "string") return { errors: [], ...problem };
  } catch {
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
  let waiting = null;
  forget.addEventListener("click", () => {
    key.forget();
    show();
  });
  show();
  return (wasWrong) => {
    waiting ??= new Promise((resolve) => {
      wrong.replaceChildren(...(wasWrong ? [h("span", {}, "This key is not one of those in force.")] : []));
      input.value = "";
      dialog.returnValue = "";
      dialog.showModal();
      dialog.addEventListener(
        "close",
        () => {
          const given = dialog.returnValue === "use" && input.value;
          if (given) key.set(input.value);
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
