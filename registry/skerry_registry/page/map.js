// A farm's layout as SVG: one marker per turbine and mast, placed as built, north up.

import { aged, compass, kilowatts, metres } from "./turbines.js";

const SVG = "http://www.w3.org/2000/svg";
const BLADE = "M0.08,-0.1 C0.26,-0.3 0.22,-0.55 0.05,-1 Q0,-1.06 -0.05,-1 L-0.1,-0.1 Z";
const ROTOR = [0, 120, 240].map((turn) => ({ d: BLADE, turn }));
const SHAPES = {
  idle: "M0,-0.62 A0.62,0.62 0 1 1 -0.001,-0.62 Z M0,-0.3 A0.3,0.3 0 1 0 0.001,-0.3 Z",
  maintenance: "M0,-0.85 L0.85,0 L0,0.85 L-0.85,0 Z",
  stopped: "M-0.6,-0.6 H0.6 V0.6 H-0.6 Z",
  fault: "M0,-0.95 L0.92,0.68 H-0.92 Z M-0.11,-0.4 L-0.07,0.2 H0.07 L0.11,-0.4 Z M-0.11,0.33 V0.53 H0.11 V0.33 Z",
  silent: "M0,-0.8 A0.8,0.8 0 1 1 -0.001,-0.8 Z M-0.48,-0.3 A0.57,0.57 0 0 0 0.3,0.48 Z M-0.3,-0.48 L0.48,0.3 A0.57,0.57 0 0 0 -0.3,-0.48 Z",
  dot: "M0,-0.7 A0.7,0.7 0 1 1 -0.001,-0.7 Z",
  metmast: "M-0.1,-0.85 H0.1 V0.85 H-0.1 Z M-0.55,-0.85 H0.55 V-0.62 H-0.55 Z M-0.4,0.62 H0.4 V0.85 H-0.4 Z",
};
const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const MOST_TURNING = 40;
const FRAME = 100;

export function draw(name, attributes = {}, ...inside) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

/** The symbol of a status, as the map, the legend and the tables show it; `size` is its half width. */
export function symbol(status, size, small = false) {
  if (status === "operating" && !small) {
    const blades = ROTOR.map(({ d, turn }) => draw("path", { d, transform: `rotate(${turn})` }));
    return draw("g", { class: `symbol ${status}`, transform: `scale(${size})` }, draw("g", { class: "rotor" }, ...blades, draw("circle", { r: 0.18 })));
  }
  const path = draw("path", { d: SHAPES[status] || SHAPES.dot, "fill-rule": "evenodd" });
  return draw("g", { class: `symbol ${status}`, transform: `scale(${size})` }, path);
}

/** Where everybody goes in a box of `width` × `height` px: [[x, y] ...], px per metre (null on a grid), marker radius. */
function arrange(things, width, height) {
  const margin = 34;
  const places = things.map((thing) => thing.place);
  let scale = null;
  let spots;
  if (things.length > 1 && places.every((place) => place)) {
    const [xs, ys] = [places.map((place) => place[0]), places.map((place) => place[1])];
    const [west, east, south, north] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    scale = Math.min((width - 2 * margin) / Math.max(east - west, 1), (height - 2 * margin - 26) / Math.max(north - south, 1));
    const [left, top] = [(width - (east - west) * scale) / 2, (height - 26 - (north - south) * scale) / 2];
    spots = places.map(([x, y]) => [left + (x - west) * scale, top + (north - y) * scale]);
  } else {
    const columns = Math.max(1, Math.min(things.length, Math.ceil(Math.sqrt((things.length * width) / height))));
    const rows = Math.ceil(things.length / columns);
    spots = things.map((_, index) => [((index % columns) + 0.5) * (width / columns), (Math.floor(index / columns) + 0.5) * ((height - 26) / rows)]);
  }
  return { spots, scale, radius: Math.min(17, Math.max(3, nearest(spots) * 0.36)) };
}

/** The distance that nine of ten neighbours keep from each other at least, px. */
function nearest(spots) {
  if (spots.length < 2) return 60;
  const distances = spots.map(([x, y], me) => {
    let least = Infinity;
    for (let other = 0; other < spots.length; other += 1) {
      if (other !== me) least = Math.min(least, Math.hypot(spots[other][0] - x, spots[other][1] - y));
    }
    return least;
  });
  return distances.sort((one, other) => one - other)[Math.floor(distances.length / 10)];
}

/** The longest round length in metres that is at most `most` px. */
function ruler(scale, most) {
  const longest = most / scale;
  const power = 10 ** Math.floor(Math.log10(longest));
  const length = [5, 2, 1].map((times) => times * power).find((candidate) => candidate <= longest) ?? power;
  return { length, pixels: length * scale, text: length >= 1000 ? `${length / 1000} km` : `${length} m` };
}

/** The map of one farm. `choose(id)` is called when a marker is clicked. */
export class FarmMap {
  #markers = new Map();
  #layout = "";
  #box = [0, 0];

  constructor(tip, choose) {
    this.svg = draw("svg", { class: "map", role: "img" });
    this.element = document.createElement("div");
    this.element.className = "mapbox";
    this.element.append(this.svg);
    this.tip = tip;
    this.svg.addEventListener("pointermove", (event) => this.#hover(event));
    this.svg.addEventListener("pointerleave", () => this.#leave());
    this.svg.addEventListener("click", (event) => {
      const id = event.target.closest(".marker")?.dataset.id;
      if (id) choose(id);
    });
    this.timer = setInterval(() => this.#turn(), FRAME);
    this.eye = new ResizeObserver(([entry]) => {
      this.#box = [Math.round(entry.contentRect.width), Math.round(entry.contentRect.height)];
      if (this.farm) this.show(this.farm, this.now, this.total);
    });
    this.eye.observe(this.element);
  }

  /** The farm is gone. */
  stop() {
    clearInterval(this.timer);
    this.eye.disconnect();
  }

  show(farm, now, total) {
    Object.assign(this, { farm, now, total });
    this.element.className = `mapbox ${total.count <= 4 ? "tiny" : total.count <= 12 ? "low" : ""}`;
    const [width, height] = this.#box;
    if (width < 50 || height < 50) return;
    const things = [...farm.turbines, ...farm.masts];
    const layout = `${width}x${height} ${things.map((thing) => `${thing.id}@${thing.place}`).join(" ")}`;
    if (layout !== this.#layout) {
      this.#layout = layout;
      this.#build(things, width, height);
    }
    for (const thing of things) this.#update(this.#markers.get(thing.id), thing, farm, now);
    if (total.direction !== null) {
      this.wind.setAttribute("transform", `translate(${width - 30},30) rotate(${total.direction})`);
    }
    for (const part of [this.wind, this.windWord]) part.setAttribute("visibility", total.direction === null ? "hidden" : "visible");
    const parts = Object.entries(total.by).map(([status, count]) => `${count} ${status}`);
    this.svg.setAttribute("aria-label", `Layout of ${farm.name}: ${total.count} turbines, ${parts.join(", ")}. The table tells the same in words.`);
  }

  #build(things, width, height) {
    const { spots, scale, radius } = arrange(things, width, height);
    this.#markers.clear();
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (scale) {
      const { pixels, text } = ruler(scale, Math.min(130, width / 3));
      const label = draw("text", { x: 14 + pixels / 2, y: height - 20, "text-anchor": "middle" });
      label.textContent = text;
      this.svg.append(draw("g", { class: "ruler" }, draw("path", { d: `M14,${height - 16} v6 h${pixels} v-6` }), label));
    }
    this.wind = draw("g", { class: "vane" }, draw("circle", { r: 17 }), draw("path", { d: "M0,11 L5.5,-1 H1.6 V-11 H-1.6 V-1 H-5.5 Z" }));
    const large = radius >= 8;
    const windWord = draw("text", { x: width - 30, y: 60, "text-anchor": "middle" });
    windWord.textContent = "wind";
    const key = draw("text", { x: width - 14, y: height - 13, "text-anchor": "end" });
    key.textContent = large ? "ring: share of rated power" : "darker: more power";
    this.svg.append(this.wind, windWord, key);
    this.windWord = windWord;
    const turning = large && things.length <= MOST_TURNING && !STILL.matches;
    things.forEach((thing, index) => {
      const [x, y] = spots[index];
      const body = draw("g", { class: "body" });
      const marker = draw("g", { class: "marker", transform: `translate(${x.toFixed(1)},${y.toFixed(1)})` }, draw("circle", { class: "reach", r: Math.max(radius * 1.25, 7) }));
      marker.dataset.id = thing.id;
      const entry = { marker, body, x, y, radius, large, turning, status: null, spin: null, level: null, speed: 0, angle: (index * 47) % 360 };
      if (large) {
        entry.level = draw("circle", { class: "level", r: radius, pathLength: 100, transform: "rotate(-90)", "stroke-dasharray": "0 100" });
        marker.append(draw("circle", { class: "track", r: radius }), entry.level);
        if (radius >= 11 || things.length <= 30) {
          const label = draw("text", { y: radius + 13, "text-anchor": "middle" });
          label.textContent = thing.name.length > 12 ? `${thing.name.slice(0, 11)}…` : thing.name;
          marker.append(label);
        }
      }
      marker.append(body);
      this.#markers.set(thing.id, entry);
      this.svg.append(marker);
    });
  }

  #update(entry, thing, farm, now) {
    const status = thing.kind === "metmast" ? "metmast" : thing.status(now, farm.silence);
    if (status !== entry.status) {
      entry.status = status;
      entry.marker.setAttribute("class", `marker ${status}${entry.large ? "" : " small"}`);
      entry.body.replaceChildren(symbol(status, entry.large ? entry.radius * 0.68 : entry.radius * 1.3, !entry.large));
      entry.spin = null;
      if (status === "operating" && entry.turning) entry.spin = entry.body.querySelector(".rotor");
    }
    const turns = thing.values.rotorSpeed;
    entry.speed = typeof turns === "number" ? Math.max(0, Math.min(30, turns)) : 8;
    const share = thing.share ?? 0;
    if (entry.level) entry.level.setAttribute("stroke-dasharray", `${status === "silent" ? 0 : (100 * share).toFixed(1)} 100`);
    else if (status === "operating") entry.body.style.opacity = (0.35 + 0.65 * share).toFixed(2);
    else entry.body.style.opacity = "";
  }

  /** One frame of the rotors: a few a second, since smooth ones would cost a laptop a third of a core. */
  #turn() {
    if (document.hidden || !this.element.isConnected) return;
    for (const entry of this.#markers.values()) {
      if (!entry.spin) continue;
      entry.angle = (entry.angle + (entry.speed * 360 * FRAME) / 60_000) % 360;
      entry.spin.setAttribute("transform", `rotate(${entry.angle.toFixed(0)})`);
    }
  }

  #hover(event) {
    const marker = event.target.closest(".marker");
    if (!marker) return this.#leave();
    const thing = [...this.farm.turbines, ...this.farm.masts].find((candidate) => candidate.id === marker.dataset.id);
    if (!thing) return undefined;
    const mast = thing.kind === "metmast";
    const title = document.createElement("b");
    title.textContent = thing.name;
    const lines = [mast ? "Met mast" : thing.status(this.now, this.farm.silence), mast ? null : `${kilowatts(thing.power)} kW`, `${metres(thing.wind)} m/s${thing.direction === null ? "" : ` from ${compass(thing.direction)}`}`, `${aged(thing.age(this.now))} ago`];
    this.tip.replaceChildren(title, ...lines.filter(Boolean).map((line) => Object.assign(document.createElement("span"), { textContent: line })));
    this.tip.hidden = false;
    const box = marker.getBoundingClientRect();
    const left = Math.min(innerWidth - this.tip.offsetWidth - 8, Math.max(8, box.left + box.width / 2 - this.tip.offsetWidth / 2));
    const above = box.top - this.tip.offsetHeight - 8;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(above > 4 ? above : box.bottom + 8)}px)`;
    return undefined;
  }

  #leave() {
    this.tip.hidden = true;
  }
}
