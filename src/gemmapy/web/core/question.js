// What the page is asked to show: window, zone, comparison and filters, read from the address, as the API's parameters.
import { useMemo } from "./view.js";
import { DEFAULT, intervals, previousOf, windowOf } from "./range.js";
import { route, useRoute } from "./route.js";
import { HERE, isZone } from "./zone.js";

const REMEMBERED = "gemmapy.zone";

/** The zone of the address, else the one chosen last, else the browser's. */
export function zoneOf(query) {
  for (const name of [query.tz, localStorage.getItem(REMEMBERED), HERE]) if (name && isZone(name)) return name;
  return "UTC";
}

export function rememberZone(name) {
  localStorage.setItem(REMEMBERED, name);
}

/** A question with fixed parameters, for what has no window. */
export const fixed = (params = {}) => ({ key: JSON.stringify(params), params: () => params });

function build(query) {
  const zone = zoneOf(query);
  const asked = { range: query.range || DEFAULT, from: Date.parse(query.from), to: Date.parse(query.to) };
  const filters = { model: query.model, user_id: query.user, project: query.project, endpoint: query.endpoint };
  const window = windowOf(asked, zone, Date.now());
  const key = JSON.stringify([asked, zone, filters]);
  const iso = (ms) => new Date(ms).toISOString();
  const question = (name, windowNow, extra = {}) => ({
    key: `${name}${key}${JSON.stringify(extra)}`,
    params() {
      const { from, to, open } = windowNow();
      return { ...filters, from: iso(from), to: open ? undefined : iso(to), ...extra };
    },
    with: (more) => question(name, windowNow, { ...extra, ...more }),
  });
  return {
    zone, asked, filters, window,
    interval: intervals(window).includes(query.by) ? query.by : intervals(window)[0],
    compare: query.compare !== "0",
    current: question("now", () => windowOf(asked, zone, Date.now())),
    previous: question("before", () => previousOf(asked, zone, Date.now())),
    /** For what takes a user's filter by another name, or none. */
    unfiltered: { model: undefined, user_id: undefined, project: undefined, endpoint: undefined },
  };
}

/** The question in a component. Its window is of the moment it was drawn; what is asked follows the clock. */
export function useQuestion() {
  const { query } = useRoute();
  return useMemo(() => build(query), [JSON.stringify(query)]);
}

export const question = () => build(route.get().query);
