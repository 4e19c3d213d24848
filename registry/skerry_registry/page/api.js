// The only file that talks to the server: pages of things, and the history of one property.

const VALUES = ["power", "wind", "windDirection", "rotorSpeed", "status"].map((name) => `features/*/properties/${name}`);
const ABOUT = ["kind", "name", "farm", "position", "location", "ratedPower", "model", "units"].map((name) => `attributes/${name}`);
const PAGES_PER_REFRESH = 3;
const PAGE = 200;

/** What went wrong, in words for the person who looks at the page; `away`: no answer at all. */
export class Trouble extends Error {
  constructor(message, { away = false, status = 0 } = {}) {
    super(message);
    this.away = away;
    this.status = status;
  }
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
  if (!response.ok) {
    const said = body && typeof body.message === "string" ? body.message : `The server answered ${response.status}.`;
    throw new Trouble(response.status === 401 ? "The server asks for a login: reload the page." : said, { status: response.status, away: response.status >= 500 });
  }
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

/** Goes round all things, at most three pages a turn, however many there are. */
export class Round {
  #query = null;

  /** One turn: hands each page's things to `take(things, { first, last })`; `about`: with attributes, for a new round. */
  async turn(about, take) {
    for (let page = 0; page < PAGES_PER_REFRESH; page += 1) {
      const first = this.#query === null;
      const fields = ["thingId", "_modified", ...VALUES, ...(about ? ABOUT : [])].join(",");
      const query = this.#query ?? `?fields=${fields}&option=size(${PAGE})`;
      const { body, response } = await get(`/api/2/things${query}`);
      this.#query = next(response);
      take(body, { first, last: this.#query === null, skew: skew(response) });
      if (this.#query === null) return true;
    }
    return false;
  }

  /** Begin anew at the first page (after trouble). */
  restart() {
    this.#query = null;
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
