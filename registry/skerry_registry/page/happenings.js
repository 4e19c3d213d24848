// The last events, newest first: what happened to which thing, in words.

import { thingUrl } from "./api.js";
import { segments } from "./turbines.js";

const KEPT = 50;
const SHOWN = 12;
const LONGEST = 110;
const WORDS = { created: "created", modified: "changed", merged: "changed", migrated: "migrated", deleted: "deleted" };
const PATCHES = new Set(["merged", "migrated"]);
const isValue = ([first, , third]) => first === "features" && third === "properties";

/** A value in few words; numbers to three places. */
const plain = (value) => JSON.stringify(typeof value === "number" ? Math.round(value * 1000) / 1000 : value);

/** Which value was told of, as `path: value`; objects are told by their leaves. */
function leaves(path, value, found = []) {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    for (const [key, part] of Object.entries(value)) leaves([...path, key], part, found);
  } else {
    found.push(`${path.join("/")} ${typeof value === "string" ? value : plain(value)}`);
  }
  return found;
}

/** What of a thing a change is about, without the words that are always there. */
function about(path, value, action) {
  const [, feature] = path;
  const name = isValue(path) ? [feature, ...path.slice(3)] : path;
  if (!path.length) return PATCHES.has(action) ? leaves([], value).slice(0, 3).join(", ") : "";
  if (action === "deleted" || value === null || value === undefined) return name.join("/");
  const inner = typeof value === "object" ? leaves([], value).slice(0, 4).join(", ") : plain(value);
  return `${name.join("/")}: ${inner}`;
}

export class Happenings {
  #list;
  #without;
  #all = [];
  #others = [];
  #shown = "";

  /** `without`: the box that leaves measurements out. */
  constructor(list, without) {
    this.#list = list;
    this.#without = without;
    without.addEventListener("change", () => this.show());
  }

  add(event, thing) {
    const { topic, path: text, value } = event._context;
    const path = segments(text);
    const action = topic.slice(topic.lastIndexOf("/") + 1);
    const one = { id: event.thingId, name: thing?.name ?? event.thingId, key: `${event.thingId} ${event._revision}`, at: event._modified, action, path, value };
    this.#keep(this.#all, one);
    if (!isValue(path)) this.#keep(this.#others, one);
  }

  #keep(kept, one) {
    kept.unshift(one);
    if (kept.length > KEPT) kept.length = KEPT;
  }

  show() {
    const shown = (this.#without.checked ? this.#others : this.#all).slice(0, SHOWN);
    const keys = shown.map(({ key }) => key).join("\n");
    if (keys === this.#shown) return;
    this.#shown = keys;
    this.#list.closest("section").hidden = false;
    while (this.#list.children.length > shown.length) this.#list.lastChild.remove();
    while (this.#list.children.length < shown.length) {
      const item = document.createElement("li");
      item.append(...["time", "a", "span", "code"].map((name) => document.createElement(name)));
      this.#list.append(item);
    }
    shown.forEach(({ id, name, at, action, path, value }, index) => {
      const [time, link, word, what] = this.#list.children[index].children;
      time.dateTime = at;
      time.textContent = new Date(at).toLocaleTimeString("en-GB");
      link.textContent = name;
      link.href = thingUrl(id);
      word.textContent = WORDS[action] ?? action;
      const text = about(path, value, action);
      what.textContent = text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
    });
  }
}
