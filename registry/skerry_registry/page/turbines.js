// From things to turbines, met masts and farms: plain data, no document, no network.

/** Status names in the order of the legend, with their words. "silent" is ours: no message for longer than usual. */
export const STATUSES = [
  ["operating", "Operating", "producing, or ready to with the rotor turning"],
  ["idle", "Idle", "ready, too little wind"],
  ["maintenance", "Maintenance", "people are at work on it"],
  ["stopped", "Stopped", "held by an operator"],
  ["fault", "Fault", "stopped by itself, needs a look"],
  ["silent", "Silent", "sends nothing for longer than usual"],
];
const KNOWN = new Set(STATUSES.map(([name]) => name));
const SYNONYMS = { running: "operating", producing: "operating", run: "operating", standby: "idle", ready: "idle", error: "fault", failure: "fault", stop: "stopped", off: "stopped", service: "maintenance" };
const UNKNOWN_SILENCE = 20 * 60_000;
const LEAST_SILENCE = 30_000;

const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** A value with a JSON merge patch in it. */
function merged(value, patch) {
  if (!isObject(patch)) return patch;
  const found = isObject(value) ? { ...value } : {};
  for (const [key, part] of Object.entries(patch)) {
    if (part === null) delete found[key];
    else found[key] = merged(found[key], part);
  }
  return found;
}

/** A document with what `change` makes of the value at a path; undefined is no value. */
function put(document, [key, ...path], change) {
  if (key === undefined) return change(document);
  const found = isObject(document) ? { ...document } : {};
  const value = put(found[key], path, change);
  if (value === undefined) delete found[key];
  else found[key] = value;
  return found;
}

/** The segments of a JSON pointer. */
export const segments = (path) => path.split("/").filter(Boolean).map((segment) => segment.replaceAll("~1", "/").replaceAll("~0", "~"));

/** One turbine, mast or other thing as the page knows it; `take` brings an answer of the API into it, `change` an event. */
export class Thing {
  constructor(id) {
    this.id = id;
    this.document = {};
    this.whole = false;
    this.feature = null;
    this.revision = 0;
    this.modified = 0;
    this.values = {};
    this.live = [];
  }

  /** The thing as it is, or was before events that are known; answers the time since the last message. */
  take(thing) {
    const read = { attributes: thing.attributes, features: thing.features };
    const first = !this.whole;
    this.whole = true;
    if (thing._revision >= this.revision) return this.#become(thing, read);
    if (first) this.document = merged(read, this.document);
    return 0;
  }

  /** What has changed; answers the time since the last message. */
  change(event) {
    if (event._revision <= this.revision) return 0;
    const { topic, path, value } = event._context;
    const action = topic.slice(topic.lastIndexOf("/") + 1);
    const patched = (known) => (value === null ? undefined : merged(known, value));
    const change = { merged: patched, migrated: patched, deleted: () => undefined }[action] ?? (() => value);
    this.whole ||= path === "/" && action === "created";
    return this.#become(event, put(this.document, segments(path), change));
  }

  get attributes() {
    return this.document?.attributes ?? {};
  }

  #become(told, document) {
    this.document = document;
    this.revision = told._revision;
    const features = Object.entries(document?.features ?? {});
    const found = features.find(([, feature]) => number(feature?.properties?.power) !== null) || features.find(([, feature]) => number(feature?.properties?.wind) !== null);
    if (found) {
      this.feature = found[0];
      this.values = found[1].properties;
    }
    const modified = Date.parse(told._modified || "") || this.modified;
    const gap = this.modified && modified > this.modified ? modified - this.modified : 0;
    if (gap && this.power !== null) this.live.push([modified, this.power]);
    if (this.live.length > 4000) this.live.splice(0, 1000);
    this.modified = modified;
    return gap;
  }

  get kind() {
    const kind = this.attributes.kind;
    if (kind === "metmast" || kind === "turbine") return kind;
    return kind === undefined && number(this.values.power) !== null ? "turbine" : "other";
  }
  get name() {
    return String(this.attributes.name ?? this.id.slice(this.id.indexOf(":") + 1));
  }
  get farm() {
    return String(this.attributes.farm ?? (this.id.slice(0, this.id.indexOf(":")) || "Farm"));
  }
  get power() {
    return number(this.values.power);
  }
  get wind() {
    return number(this.values.wind);
  }
  get direction() {
    return number(this.values.windDirection);
  }
  get rated() {
    const rated = number(this.attributes.ratedPower);
    return rated !== null && rated > 0 ? rated : null;
  }
  get share() {
    return this.rated && this.power !== null ? Math.min(1, Math.max(0, this.power / this.rated)) : null;
  }
  /** [east, north] in metres or null. */
  get place() {
    const at = this.attributes.position ?? this.attributes.location ?? {};
    if (number(at.x) !== null && number(at.y) !== null) return [at.x, at.y];
    const longitude = number(at.lon) ?? number(at.longitude);
    const latitude = number(at.lat) ?? number(at.latitude);
    if (latitude === null || longitude === null) return null;
    return [longitude * 111_320 * Math.cos((latitude * Math.PI) / 180), latitude * 110_574];
  }

  age(now) {
    return this.modified ? Math.max(0, now - this.modified) : null;
  }

  status(now, silence) {
    const age = this.age(now);
    if (age === null || this.power === null || age > silence) return "silent";
    const said = String(this.values.status ?? "").toLowerCase();
    if (KNOWN.has(said)) return said;
    if (SYNONYMS[said]) return SYNONYMS[said];
    return this.power > 0 ? "operating" : "idle";
  }
}

/** The things of one name in `attributes.farm`, and how often they usually send. */
export class Farm {
  constructor(name) {
    this.name = name;
    this.turbines = [];
    this.masts = [];
    this.gaps = [];
  }

  saw(gap) {
    this.gaps.push(gap);
    if (this.gaps.length > 99) this.gaps.shift();
  }

  /** After how many ms without a message a turbine counts as silent: five usual gaps, never under half a minute. */
  get silence() {
    if (this.gaps.length < 9) return UNKNOWN_SILENCE;
    const sorted = [...this.gaps].sort((one, other) => one - other);
    return Math.max(LEAST_SILENCE, 5 * sorted[sorted.length >> 1]);
  }
}

/** Power, wind and how many of which status: what the head of the page and of each farm says. */
export function sum(farms, now) {
  const total = { count: 0, power: 0, rated: 0, wind: null, direction: null, by: {}, attention: [] };
  let winds = 0;
  let wind = 0;
  let east = 0;
  let north = 0;
  for (const farm of farms) {
    for (const turbine of farm.turbines) {
      const status = turbine.status(now, farm.silence);
      total.count += 1;
      total.by[status] = (total.by[status] || 0) + 1;
      total.rated += turbine.rated ?? 0;
      if (status === "fault" || status === "silent") total.attention.push(turbine);
      if (status === "silent") continue;
      total.power += turbine.power ?? 0;
      if (turbine.wind === null) continue;
      winds += 1;
      wind += turbine.wind;
      if (turbine.direction !== null) {
        east += Math.sin((turbine.direction * Math.PI) / 180);
        north += Math.cos((turbine.direction * Math.PI) / 180);
      }
    }
  }
  if (winds) total.wind = wind / winds;
  if (east || north) total.direction = ((Math.atan2(east, north) * 180) / Math.PI + 360) % 360;
  return total;
}

const POINTS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];
export const compass = (degrees) => POINTS[Math.round(degrees / 45) % 8];
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const kilowatts = (value) => (value === null ? "–" : whole.format(Math.abs(value) < 0.5 ? 0 : value));
export const metres = (value) => (value === null ? "–" : tenth.format(value));
export const decimal = (value) => tenth.format(value);

/** An age in ms as people say it: 4 s, 12 min, 3 h, 2 d. */
export function aged(age) {
  if (age === null) return "never";
  const seconds = age / 1000;
  if (seconds < 1.5) return "1 s";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h`;
  return `${whole.format(Math.round(seconds / 86_400))} d`;
}
