// The page's heart: reads all things once, follows their changes, sorts them into farms and lets the parts show themselves every second.

import { Changes, Trouble, allThings, thingUrl } from "./api.js";
import { Histories, WINDOWS } from "./curves.js";
import { Happenings } from "./happenings.js";
import { FarmMap } from "./map.js";
import { FarmTable, badge } from "./table.js";
import { Farm, STATUSES, Thing, aged, compass, decimal, kilowatts, metres, sum } from "./turbines.js";

const EVERY = 1000;
const SLOWEST = 10_000;
/** Rights may have changed, of which no event tells. */
const READ_AGAIN = 300_000;
const READ_SOON = 2000;
/** A page that nobody looks at leaves its connection to others. */
const HIDDEN = 30_000;
const $ = (id) => document.getElementById(id);

const things = new Map();
const farms = new Map();
const panels = new Map();
const changes = new Changes();
const histories = new Histories();
const happenings = new Happenings($("happenings"), $("without-values"));
let made = 0;
const view = { sort: "name", down: false, hidden: new Set(), find: "" };
let skew = 0;
let complete = false;
let readDue = 0;
let reading = { seen: new Set(), gone: new Map() };
let turn = null;
let connected = false;
let answeredAt = 0;
let failures = 0;
let leaving = 0;
let wake = () => undefined;

const now = () => Date.now() + skew;

/** Reads all things; those that are not there any more are taken away at the end. */
async function readAll() {
  const mine = { seen: new Set(), gone: new Map() };
  reading = mine;
  await allThings((page, { last, skew: ahead }) => {
    if (reading !== mine) return;
    skew = ahead;
    for (const document of page) {
      const id = document.thingId;
      if (document._revision <= (mine.gone.get(id) ?? -1)) continue;
      mine.seen.add(id);
      note(known(id), known(id).take(document));
    }
    if (!last) return;
    for (const id of things.keys()) if (!mine.seen.has(id)) things.delete(id);
    complete = true;
    readDue = performance.now() + READ_AGAIN;
  });
}

function known(id) {
  if (!things.has(id)) things.set(id, new Thing(id));
  return things.get(id);
}

function note(thing, gap) {
  if (gap) farms.get(thing.farm)?.saw(gap);
}

function take(event) {
  const id = event.thingId;
  const { topic, path } = event._context;
  if (path === "/" && topic.endsWith("/deleted")) {
    things.delete(id);
    reading.gone.set(id, event._revision);
  } else {
    reading.seen.add(id);
    note(known(id), known(id).change(event));
    if (!known(id).whole && complete) readSoon();
  }
  happenings.add(event, things.get(id));
}

/** Somebody lets us see a thing that we have not read: read it. */
function readSoon() {
  if (readDue < performance.now() + READ_SOON) return;
  readDue = performance.now() + READ_SOON;
  wake();
}

/** Follows until the connection is lost, or the page is hidden for a while. */
async function follow() {
  const again = await changes.open(complete && changes.near);
  const following = changes.read(take);
  const mine = {};
  turn = mine;
  try {
    if (!again) await Promise.race([readAll(), following]);
    connected = true;
    if (failures) say("The server answers again.");
    failures = 0;
    beat();
    await Promise.race([following, readAgain(mine)]);
  } finally {
    turn = null;
    connected = false;
    changes.close();
    following.catch(() => undefined);
  }
}

/** Reads all things now and then, while this is the turn. */
async function readAgain(mine) {
  while (turn === mine) {
    await pause(Math.max(0, readDue - performance.now()));
    if (turn === mine && performance.now() >= readDue) await readAll();
  }
}

/** Waits; less when somebody has a reason to hurry. */
function pause(milliseconds) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    wake = () => {
      clearTimeout(timer);
      done();
    };
  });
}

async function live() {
  for (;;) {
    try {
      await follow();
    } catch (trouble) {
      if (!(trouble instanceof Trouble)) throw trouble;
      if (!failures) say(trouble.message);
      failures += 1;
      $("alert").textContent = trouble.away
        ? `${trouble.message} ${things.size ? "You see the last known values. " : ""}This page keeps trying and goes on by itself.`
        : trouble.message;
      show();
      await pause(Math.min(SLOWEST, EVERY * 2 ** Math.min(failures - 1, 4)));
    }
    while (document.hidden) await pause(SLOWEST);
  }
}

function beat() {
  if (connected) answeredAt = Date.now();
  show();
}

const say = (text) => {
  $("spoken").textContent = text;
};

function gather() {
  for (const farm of farms.values()) Object.assign(farm, { turbines: [], masts: [] });
  const others = [];
  for (const thing of things.values()) {
    const { kind } = thing;
    if (kind === "other") {
      others.push(thing);
      continue;
    }
    if (!farms.has(thing.farm)) farms.set(thing.farm, new Farm(thing.farm));
    farms.get(thing.farm)[kind === "turbine" ? "turbines" : "masts"].push(thing);
  }
  for (const [name, farm] of farms) if (!farm.turbines.length && !farm.masts.length) farms.delete(name);
  return others;
}

function megawatts(power) {
  return Math.abs(power) >= 1000 ? [decimal(power / 1000), "MW"] : [kilowatts(power), "kW"];
}

function panel(farm) {
  const element = Object.assign(document.createElement("section"), { className: "farm" });
  const title = Object.assign(document.createElement("h2"), { textContent: farm.name, id: `farm-${(made += 1)}` });
  element.setAttribute("aria-labelledby", title.id);
  const facts = Object.assign(document.createElement("p"), { className: "facts" });
  const masts = Object.assign(document.createElement("ul"), { className: "masts" });
  masts.setAttribute("aria-label", `Met masts of ${farm.name}`);
  const table = new FarmTable(farm, view, (key) => {
    view.down = view.sort === key ? !view.down : key !== "name";
    view.sort = key;
    show();
  });
  const map = new FarmMap($("tip"), (id) => table.point(id));
  const head = Object.assign(document.createElement("header"), {});
  head.append(title, facts);
  const left = Object.assign(document.createElement("div"), { className: "left" });
  left.append(map.element, masts);
  const columns = Object.assign(document.createElement("div"), { className: "columns" });
  columns.append(left, table.element);
  element.append(head, columns);
  $("farms").append(element);
  return { element, facts, masts, table, map };
}

function showMasts(list, farm, at) {
  list.hidden = !farm.masts.length;
  while (list.children.length < farm.masts.length) {
    const item = document.createElement("li");
    item.append(badge("metmast"), document.createElement("a"), document.createElement("span"));
    list.append(item);
  }
  while (list.children.length > farm.masts.length) list.lastChild.remove();
  farm.masts.forEach((mast, index) => {
    const [, link, text] = list.children[index].children;
    link.textContent = mast.name;
    link.href = thingUrl(mast.id);
    const from = mast.direction === null ? "" : ` from ${compass(mast.direction)} (${Math.round(mast.direction)}°)`;
    text.textContent = `Met mast: ${metres(mast.wind)} m/s${from}, ${aged(mast.age(at))} ago`;
  });
}

function showTotals(total) {
  const [power, unit] = megawatts(total.power);
  $("total-power").textContent = power;
  $("total-power-unit").textContent = unit;
  const share = total.rated ? total.power / total.rated : null;
  $("total-level").style.transform = `scaleX(${Math.max(0, Math.min(1, share ?? 0))})`;
  $("total-share").textContent = share === null ? "" : `${Math.round(100 * share)} % of ${megawatts(total.rated).join(" ")} rated`;
  $("total-wind").textContent = metres(total.wind);
  $("total-direction").textContent = total.direction === null ? "" : `from ${compass(total.direction)}, ${Math.round(total.direction)}°`;
  $("total-operating").textContent = total.by.operating ?? 0;
  $("total-count").textContent = `of ${total.count}`;
  const rest = STATUSES.filter(([name]) => !["operating", "fault", "silent"].includes(name) && total.by[name]).map(([name, words]) => `${total.by[name]} ${words.toLowerCase()}`);
  $("total-rest").textContent = rest.join(", ") || (total.by.operating === total.count ? "every turbine" : "");
  const names = total.attention.slice(0, 4).map((turbine) => (farms.size > 1 ? `${turbine.farm} ${turbine.name}` : turbine.name));
  $("total-attention").textContent = total.attention.length;
  $("total-attention-unit").textContent = total.attention.length ? "faulty or silent" : "";
  $("total-attention-names").textContent = names.length ? names.join(", ") + (total.attention.length > 4 ? ` and ${total.attention.length - 4} more` : "") : "no fault, nobody silent";
  $("total-attention-card").classList.toggle("alarming", total.attention.length > 0);
  for (const button of $("legend").children) button.querySelector("b").textContent = total.by[button.dataset.status] ?? 0;
}

function showLink() {
  const away = failures > 0;
  $("link").className = `link ${away ? "away" : answeredAt ? "live" : "waiting"}`;
  const text = away ? (answeredAt ? `Away since ${new Date(answeredAt).toLocaleTimeString("en-GB")}` : "No answer") : answeredAt ? "Live" : "Connecting";
  if ($("link-text").textContent !== text) $("link-text").textContent = text;
  $("alert").hidden = !away;
}

function show() {
  showLink();
  if (!answeredAt) return;
  const at = failures ? answeredAt + skew : now();
  const others = gather();
  const known = [...farms.values()].sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  const any = known.length > 0;
  $("totals").hidden = $("controls").hidden = !any;
  $("units").hidden = !any;
  $("empty").hidden = any || !complete;
  for (const [name, { element, table, map }] of panels) {
    if (farms.has(name)) continue;
    table.stop();
    map.stop();
    element.remove();
    panels.delete(name);
  }
  for (const farm of known) {
    if (!panels.has(farm.name)) panels.set(farm.name, panel(farm));
    const { facts, masts, table, map } = panels.get(farm.name);
    const total = sum([farm], at);
    facts.textContent = `${total.count} turbine${total.count === 1 ? "" : "s"}${farm.masts.length ? `, ${farm.masts.length} met mast${farm.masts.length === 1 ? "" : "s"}` : ""} · ${megawatts(total.power).join(" ")}${total.wind === null ? "" : ` · ${metres(total.wind)} m/s`}`;
    map.show(farm, at, total);
    table.show(farm, at, histories);
    showMasts(masts, farm, at);
  }
  if (any) showTotals(sum(known, at));
  happenings.show();
  if (!failures) histories.want([...panels.values()].flatMap(({ table }) => table.inView()));
  $("others").hidden = !others.length;
  if (others.length) {
    $("others-text").textContent = `${others.length} thing${others.length === 1 ? " is" : "s are"} neither turbine nor met mast (attributes/kind).`;
    const shown = others.slice(0, 50);
    if ($("others-list").dataset.ids !== shown.map((thing) => thing.id).join(" ")) {
      $("others-list").dataset.ids = shown.map((thing) => thing.id).join(" ");
      $("others-list").replaceChildren(
        ...shown.map((thing) => {
          const item = document.createElement("li");
          item.append(Object.assign(document.createElement("a"), { href: thingUrl(thing.id), textContent: thing.id }));
          return item;
        }),
      );
    }
  }
}

function setUp() {
  for (const [name, words, meaning] of STATUSES) {
    const button = Object.assign(document.createElement("button"), { type: "button", title: `${words}: ${meaning}` });
    button.dataset.status = name;
    button.setAttribute("aria-pressed", "true");
    button.append(badge(name), ` ${words} `, Object.assign(document.createElement("b"), { textContent: "0" }));
    button.addEventListener("click", () => {
      if (!view.hidden.delete(name)) view.hidden.add(name);
      button.setAttribute("aria-pressed", String(!view.hidden.has(name)));
      show();
    });
    $("legend").append(button);
  }
  $("find").addEventListener("input", (event) => {
    view.find = event.target.value;
    show();
  });
  const remembered = localStorage.getItem("skerry.window");
  if (remembered in WINDOWS) $("window").value = remembered;
  histories.choose($("window").value);
  $("window").addEventListener("change", (event) => {
    localStorage.setItem("skerry.window", event.target.value);
    histories.choose(event.target.value);
    show();
  });
  const { origin, hostname } = location;
  $("how-simulate").textContent = ".venv/bin/skerry simulate --user USER --password PASSWORD";
  $("how-thing").textContent = `curl -u USER -X PUT ${origin}/api/2/things/demo:T01 \\\n  -H 'Content-Type: application/json' \\\n  -d '{"attributes": {"kind": "turbine", "farm": "My farm", "ratedPower": 3370}}'`;
  $("how-device").textContent = `mosquitto_pub -h ${hostname} -u USER -P PASSWORD -q 1 \\\n  -t telemetry/demo/T01/scada \\\n  -m '{"power": 2150.3, "wind": 9.8, "status": "operating"}'`;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(() => changes.close(), HIDDEN);
    else wake();
  });
  addEventListener("online", () => wake());
  setInterval(beat, EVERY);
}

setUp();
live();
