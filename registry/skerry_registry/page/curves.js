// Small curves of power: history fetched for the rows in view, two at a time, kept, and continued by live values.

import { history } from "./api.js";
import { draw } from "./map.js";

/** What the choice of the view means: how far back, and the width of one point, as the API writes them and in ms. */
export const WINDOWS = {
  "10m": { span: "10m", step: "10s", ms: 600_000, stepMs: 10_000, words: "10 minutes" },
  "1h": { span: "1h", step: "1m", ms: 3_600_000, stepMs: 60_000, words: "hour" },
  "24h": { span: "24h", step: "20m", ms: 86_400_000, stepMs: 1_200_000, words: "24 hours" },
};
const AT_ONCE = 2;
const FRESH = 180_000;
const RETRY = 30_000;
const WIDTH = 150;
const HEIGHT = 30;

/** The histories of all turbines; `want(things)` asks for those in view. */
export class Histories {
  #kept = new Map();
  #busy = 0;
  #wanted = [];
  choice = WINDOWS["10m"];

  choose(name) {
    this.choice = WINDOWS[name] ?? WINDOWS["10m"];
    this.#kept.clear();
  }

  want(things) {
    this.#wanted = things;
    while (this.#busy < AT_ONCE && this.#fetchOne());
  }

  #fetchOne() {
    const now = performance.now();
    const thing = this.#wanted.find((candidate) => candidate.feature && (this.#kept.get(candidate.id)?.until ?? 0) < now);
    if (!thing) return false;
    const { choice } = this;
    const entry = this.#kept.get(thing.id) ?? { points: [] };
    entry.until = now + RETRY;
    this.#kept.set(thing.id, entry);
    this.#busy += 1;
    history(thing.id, thing.feature, choice.span, choice.step)
      .then((points) => {
        if (choice !== this.choice) return;
        entry.points = points;
        entry.until = performance.now() + FRESH * (0.8 + 0.4 * Math.random());
      })
      .catch(() => undefined) // no history (yet): the live values still make a curve; asked again after RETRY
      .finally(() => {
        this.#busy -= 1;
        if (this.#busy < AT_ONCE) this.#fetchOne();
      });
    return true;
  }

  /** [ms, kW] pairs of the window that ends `now`: history, then what was seen live since. */
  points(thing, now) {
    const { ms, stepMs } = this.choice;
    const from = now - ms;
    const stored = (this.#kept.get(thing.id)?.points ?? []).filter(([time]) => time >= from - stepMs);
    const edge = stored.length ? stored[stored.length - 1][0] + stepMs : from;
    const live = [];
    let bucket = null;
    for (const [time, value] of thing.live) {
      if (time < edge || time < from) continue;
      const start = Math.floor(time / stepMs);
      if (start === bucket) live[live.length - 1] = [time, value];
      else live.push([time, value]);
      bucket = start;
    }
    return [...stored, ...live];
  }
}

/** One curve: an SVG that `show(points, now, window, top)` draws; gaps wider than three steps stay gaps. */
export class Curve {
  constructor() {
    this.area = draw("path", { class: "area" });
    this.line = draw("path", { class: "line" });
    this.end = draw("circle", { class: "end", r: 2.2, visibility: "hidden" });
    this.svg = draw("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line, this.end);
  }

  show(points, now, { ms, stepMs }, top) {
    const highest = top ?? Math.max(1, ...points.map(([, value]) => value));
    const x = (time) => Math.min(WIDTH - 3, Math.max(0, (1 - (now - time) / ms) * (WIDTH - 3)));
    const y = (value) => HEIGHT - 2 - (Math.max(0, Math.min(highest, value)) / highest) * (HEIGHT - 5);
    const runs = [];
    let before = -Infinity;
    for (const [time, value] of points) {
      if (time - before > 3 * stepMs) runs.push([]);
      runs[runs.length - 1].push(`${x(time).toFixed(1)},${y(value).toFixed(1)}`);
      before = time;
    }
    this.line.setAttribute("d", runs.map((run) => (run.length > 1 ? `M${run.join("L")}` : `M${run[0]}h0.5`)).join(""));
    this.area.setAttribute("d", runs.filter((run) => run.length > 1).map((run) => `M${run[0].split(",")[0]},${HEIGHT}L${run.join("L")}V${HEIGHT}Z`).join(""));
    const last = points[points.length - 1];
    this.end.setAttribute("visibility", last && now - last[0] < 3 * stepMs ? "visible" : "hidden");
    if (last) {
      this.end.setAttribute("cx", x(last[0]).toFixed(1));
      this.end.setAttribute("cy", y(last[1]).toFixed(1));
    }
  }
}
