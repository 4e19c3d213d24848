// A farm's turbines as a table: rows are made once and then only their changed cells are touched.

import { historyUrl, thingUrl } from "./api.js";
import { Curve } from "./curves.js";
import { draw, symbol } from "./map.js";
import { STATUSES, aged, compass, kilowatts, metres } from "./turbines.js";

const WORDS = Object.fromEntries(STATUSES.map(([name, words]) => [name, words]));
const ORDER = Object.fromEntries(STATUSES.map(([name], index) => [name, -index]));
const byName = new Intl.Collator("en", { numeric: true }).compare;
const COLUMNS = [
  ["name", "Turbine", "text"],
  ["status", "Status", "text"],
  ["power", "Power", "number", "kW"],
  ["wind", "Wind", "number", "m/s"],
  ["curve", "Power over time", "curve"],
  ["age", "Age", "number"],
];

const make = (name, attributes = {}, ...inside) => {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...inside);
  return element;
};
const write = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

/** A symbol in a small SVG of its own, for tables and the legend. */
export function badge(status) {
  return draw("svg", { class: `badge ${status}`, viewBox: "-10 -10 20 20", width: 16, height: 16, "aria-hidden": "true" }, symbol(status, 9));
}

class Row {
  constructor(thing) {
    this.thing = thing;
    this.link = make("a", { href: thingUrl(thing.id), textContent: thing.name, title: `The thing ${thing.id}, as JSON` });
    this.word = make("span");
    this.icon = make("span", { className: "icon" });
    this.kilowatts = make("span", { className: "value" });
    this.level = make("i");
    this.wind = make("span");
    this.arrow = draw("svg", { class: "arrow", viewBox: "-8 -8 16 16", width: 14, height: 14, "aria-hidden": "true" }, draw("path", { d: "M0,7 L4,-2 H1 V-7 H-1 V-2 H-4 Z" }));
    this.from = make("span", { className: "unseen" });
    this.curve = new Curve();
    this.history = make("a", { className: "history", title: `The history of ${thing.name}, as JSON` }, this.curve.svg, make("span", { className: "unseen", textContent: `History of power of ${thing.name}` }));
    this.age = make("span");
    const cell = (name, ...inside) => make("td", { className: name }, ...inside);
    const head = make("th", { className: "name", scope: "row" }, this.link);
    this.element = make("tr", {}, head, cell("status", this.icon, this.word), cell("power", this.kilowatts, make("span", { className: "bar", ariaHidden: "true" }, this.level)), cell("wind", this.wind, this.arrow, this.from), cell("curve", this.history), cell("age", this.age));
    this.element.dataset.id = thing.id;
    this.inView = false;
  }

  show(now, silence) {
    const { thing } = this;
    const status = thing.status(now, silence);
    const age = thing.age(now);
    this.sort = { name: thing.name, status: ORDER[status], power: thing.power ?? -Infinity, wind: thing.wind ?? -Infinity, curve: thing.power ?? -Infinity, age: age ?? Infinity };
    this.status = status;
    this.shows = (this.shows ?? -1) + 1;
    if (!this.inView && this.shows % 10) return; // rows off the screen keep up more slowly
    if (this.shown !== status) {
      this.shown = status;
      this.element.className = status;
      this.icon.replaceChildren(badge(status));
      this.word.textContent = WORDS[status];
    }
    write(this.link, thing.name);
    write(this.kilowatts, kilowatts(thing.power));
    this.level.style.transform = `scaleX(${thing.share ?? 0})`;
    write(this.wind, metres(thing.wind));
    this.arrow.style.visibility = thing.direction === null ? "hidden" : "visible";
    if (thing.direction !== null) {
      this.arrow.style.transform = `rotate(${Math.round(thing.direction)}deg)`;
      write(this.from, ` from ${compass(thing.direction)}`);
    }
    write(this.age, aged(age));
  }

  draw(histories, now) {
    const { choice } = histories;
    this.curve.show(histories.points(this.thing, now), now, choice, this.thing.rated);
    const url = historyUrl(this.thing.id, this.thing.feature ?? "scada", choice.span, choice.step);
    if (this.history.getAttribute("href") !== url) this.history.href = url;
  }
}

/** The table of one farm; `view` = {sort, down, hidden: Set of statuses, find}, shared by all farms. */
export class FarmTable {
  #rows = new Map();
  #order = "";

  constructor(farm, view, sorted) {
    this.view = view;
    this.heads = COLUMNS.map(([key, title, kind, unit]) => {
      const button = make("button", { type: "button" }, title, ...(unit ? [" ", make("small", { textContent: unit })] : []), make("span", { className: "sorted", ariaHidden: "true" }));
      button.addEventListener("click", () => sorted(key));
      const head = make("th", { scope: "col", className: `${key} ${kind}` }, key === "curve" ? make("span", { textContent: title }) : button);
      head.dataset.key = key;
      return head;
    });
    this.body = make("tbody");
    this.none = make("p", { className: "none", hidden: true, textContent: "No turbine of this farm fits the choice above." });
    this.table = make("table", {}, make("caption", { className: "unseen", textContent: `Turbines of ${farm.name}` }), make("thead", {}, make("tr", {}, ...this.heads)), this.body);
    this.element = make("div", { className: "tablebox" }, this.table, this.none);
    this.eye = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          const row = this.#rows.get(entry.target.dataset.id);
          if (row) row.inView = entry.isIntersecting;
        }
        if (this.last) this.show(...this.last);
      },
      { rootMargin: "200px 0px" },
    );
  }

  show(farm, now, histories) {
    this.last = [farm, now, histories];
    const there = new Set();
    for (const thing of farm.turbines) {
      there.add(thing.id);
      let row = this.#rows.get(thing.id);
      if (!row) {
        row = new Row(thing);
        this.#rows.set(thing.id, row);
        this.eye.observe(row.element);
      }
      row.show(now, farm.silence);
      if (row.inView) row.draw(histories, now);
    }
    for (const [id, row] of this.#rows) {
      if (there.has(id)) continue;
      this.eye.unobserve(row.element);
      this.#rows.delete(id);
    }
    this.#arrange();
  }

  #arrange() {
    const { sort, down, hidden, find } = this.view;
    const wanted = find.trim().toLowerCase();
    const rows = [...this.#rows.values()].filter((row) => !hidden.has(row.status) && (!wanted || row.thing.name.toLowerCase().includes(wanted) || row.thing.id.toLowerCase().includes(wanted)));
    const compare = (one, other) => (sort === "name" ? byName(one.sort.name, other.sort.name) : one.sort[sort] - other.sort[sort]) || byName(one.sort.name, other.sort.name);
    rows.sort((one, other) => (down ? compare(other, one) : compare(one, other)));
    const order = rows.map((row) => row.thing.id).join(" ");
    if (order !== this.#order) {
      this.#order = order;
      const focused = document.activeElement;
      this.body.replaceChildren(...rows.map((row) => row.element));
      if (focused && this.body.contains(focused)) focused.focus({ preventScroll: true });
    }
    this.none.hidden = rows.length > 0;
    for (const head of this.heads) {
      if (head.dataset.key === sort) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  /** The farm is gone. */
  stop() {
    this.eye.disconnect();
  }

  /** The turbines whose rows are on the screen. */
  inView() {
    return [...this.#rows.values()].filter((row) => row.inView && row.element.isConnected).map((row) => row.thing);
  }

  point(id) {
    const row = this.#rows.get(id);
    if (!row?.element.isConnected) return;
    row.element.scrollIntoView({ block: "center", behavior: "smooth" });
    row.link.focus({ preventScroll: true });
    row.element.animate([{ background: "var(--pointed)" }, { background: "transparent" }], { duration: 1800, easing: "ease-out" });
  }
}
