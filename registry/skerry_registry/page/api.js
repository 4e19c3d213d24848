// The only file that talks to the server: pages of things, their changes as they happen, and the history of one property.

const VALUES = ["power", "wind", "windDirection", "rotorSpeed", "status"].map((name) => `features/*/properties/${name}`);
const ABOUT = ["kind", "name", "farm", "position", "location", "ratedPower", "model", "units"].map((name) => `attributes/${name}`);
const CHANGE = "thingId,_revision,_modified,_context/topic,_context/path,_context/value";
const PAGE = 200;
/** Of what was missed so much is asked for; beyond that everything is read anew. */
const MISSED_SECONDS = 600;
const MISSED_EVENTS = 30_000;
/** The server beats every second or two. */
const SILENCE = 10_000;

/** What went wrong, in words for the person who looks at the page; `away`: no answer at all. */
export class Trouble extends Error {
  constructor(message, { away = false, status = 0 } = {}) {
    super(message);
    this.away = away;
    this.status = status;
  }
}

/** Throws what an answer that is no success says. */
function refuse(response, body) {
  const said = body && typeof body.message === "string" ? body.message : `The server answered ${response.status}.`;
  throw new Trouble(response.status === 401 ? "The server asks for a login: reload the page." : said, { status: response.status, away: response.status >= 500 });
}

async function get(url) {
  let response;
  try {
    response = await fetch(url, { headers: { accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(10_000) });
  } catch {
    throw new Trouble("The server does not answer.", { away: true });
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    if (response.ok) throw new Trouble("The answer broke off.", { away: true });
  }
  if (!response.ok) refuse(response, body);
  return { body, response };
}

/** The query of the next page, from the header Link; null on the last page. */
function next(response) {
  for (const part of (response.headers.get("link") || "").split(/,\s*(?=<)/)) {
    const found = /^<([^>]*)>\s*;\s*rel="?next"?/.exec(part.trim());
    if (found) return new URL(found[1], location.href).search;
  }
  return null;
}

/** All things, page by page: hands each page to `take(things, { last, skew })`. */
export async function allThings(take) {
  let query = `?fields=thingId,_revision,_modified,${[...VALUES, ...ABOUT].join(",")}&option=size(${PAGE})`;
  while (query !== null) {
    const { body, response } = await get(`/api/2/things${query}`);
    query = next(response);
    take(body, { last: query === null, skew: skew(response) });
  }
}

/** The changes of all things, as the server sends them; knows how far it has come, so that it can go on from there. */
export class Changes {
  #place = "";
  #abort = null;
  #reader = null;
  #since = 0;
  #count = 0;
  #heard = 0;

  /** Whether it is worth while to ask for what was missed: not for more events than are quickly read. */
  get near() {
    const away = (performance.now() - this.#heard) / 1000;
    const followed = Math.max(10, (this.#heard - this.#since) / 1000);
    return this.#place !== "" && away < MISSED_SECONDS && (away * this.#count) / followed < MISSED_EVENTS;
  }

  /** Begins, if it can (`again`) with what was missed since the last time; answers whether it does. No later change is missed. */
  async open(again) {
    this.close();
    if (!again) this.#place = "";
    const abort = new AbortController();
    const headers = { accept: "text/event-stream", ...(this.#place === "" ? {} : { "last-event-id": this.#place }) };
    const late = setTimeout(() => abort.abort(), 10_000);
    let response;
    try {
      response = await fetch(`/api/2/things?fields=${CHANGE}`, { headers, cache: "no-store", signal: abort.signal });
    } catch {
      throw new Trouble("The server does not answer.", { away: true });
    } finally {
      clearTimeout(late);
    }
    if (response.status === 410 && again) return this.open(false);
    if (!response.ok) refuse(response, await response.json().catch(() => null));
    this.#abort = abort;
    this.#reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    this.#since = this.#heard = performance.now();
    this.#count = 0;
    return again;
  }

  /** Hands every change to `take` until the stream breaks off; throws Trouble then, and returns when it was closed. */
  async read(take) {
    const abort = this.#abort;
    const reader = this.#reader;
    let rest = "";
    const watch = setInterval(() => {
      if (performance.now() - this.#heard > SILENCE) abort.abort("silent");
    }, 1000);
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        this.#heard = performance.now();
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) this.#take(block, take);
      }
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof DOMException || abort.signal.aborted)) throw error;
    } finally {
      clearInterval(watch);
    }
    if (abort === this.#abort) throw new Trouble("The server does not answer.", { away: true });
  }

  #take(block, take) {
    const data = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("data:")) data.push(line.slice(5));
      else if (line.startsWith("id:")) this.#place = line.slice(3);
    }
    const text = data.join("\n");
    if (!text) return;
    this.#count += 1;
    take(JSON.parse(text));
  }

  /** Ends what is open; the place is kept. */
  close() {
    const abort = this.#abort;
    this.#abort = null;
    abort?.abort();
  }
}

/** How far the server's clock is ahead of ours, in ms; 0 where it is too close to tell. */
function skew(response) {
  const said = Date.parse(response.headers.get("date") || "");
  if (Number.isNaN(said)) return 0;
  const ahead = said + 500 - Date.now();
  return Math.abs(ahead) > 3000 ? ahead : 0;
}

export const thingUrl = (id) => `/api/2/things/${encodeURIComponent(id).replaceAll("%3A", ":")}`;

export function historyUrl(id, feature, span, step) {
  const thing = encodeURIComponent(id).replaceAll("%3A", ":");
  return `/api/2/timeseries/things/${thing}/features/${encodeURIComponent(feature)}/properties/power?from=now-${span}&to=now&step=${step}&agg=avg`;
}

/** The history of a turbine's power as [ms, kW] pairs, oldest first. */
export async function history(id, feature, span, step) {
  const { body } = await get(historyUrl(id, feature, span, step));
  const rows = Array.isArray(body) && body[0] && Array.isArray(body[0].data) ? body[0].data : [];
  return rows.filter((row) => typeof row.v === "number").map((row) => [typeof row.t === "number" ? row.t : Date.parse(row.t), row.v]);
}
