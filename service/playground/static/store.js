/* What the page knows. Parts of the page listen for the fields that they show. */

export class Store {
  #listeners = [];
  #fields;

  constructor(fields) {
    this.#fields = fields;
  }

  /** Return one field. */
  get(name) {
    return this.#fields[name];
  }

  /** Change fields, then call everyone who listens to one of them, once. */
  set(changes) {
    const changed = Object.keys(changes).filter((name) => this.#fields[name] !== changes[name]);
    Object.assign(this.#fields, changes);
    for (const { names, call } of this.#listeners) {
      if (names.some((name) => changed.includes(name))) call(this.#fields);
    }
  }

  /** Call `call` with all fields whenever one of `names` changes. */
  on(names, call) {
    this.#listeners.push({ names, call });
  }
}
