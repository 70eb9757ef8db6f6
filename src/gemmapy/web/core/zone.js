// Calendars in a chosen time zone: which day a moment belongs to, and when that day begins there.

const known = new Map();

function formatter(zone) {
  if (!known.has(zone)) {
    known.set(zone, new Intl.DateTimeFormat("en-US", {
      timeZone: zone, hourCycle: "h23", era: "short",
      year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
    }));
  }
  return known.get(zone);
}

/** The zone of this browser. */
export const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

export function isZone(name) {
  try {
    formatter(name);
    return true;
  } catch {
    return false;
  }
}

/** Every zone that this browser knows, UTC first. */
export function zones() {
  const all = Intl.supportedValuesOf ? Intl.supportedValuesOf("timeZone") : [HERE];
  return ["UTC", ...all.filter((name) => name !== "UTC")];
}

/** {year, month, day, hour, minute, second} on the clocks of a zone. */
export function clock(ms, zone) {
  const found = {};
  for (const { type, value } of formatter(zone).formatToParts(ms)) found[type] = Number(value);
  return found;
}

const asIfUtc = ({ year, month, day, hour, minute, second }) => Date.UTC(year, month - 1, day, hour, minute, second);

/** The moment at which the clocks of a zone show this. Days and months may run over, as in Date.UTC. */
export function moment(zone, year, month, day, hour = 0, minute = 0) {
  const wanted = Date.UTC(year, month - 1, day, hour, minute);
  let at = wanted;
  // Twice, since the first offset may be that of the other side of a change of clocks.
  for (let round = 0; round < 2; round += 1) at = wanted - (asIfUtc(clock(at, zone)) - Math.floor(at / 1000) * 1000);
  return at;
}

export function startOfDay(ms, zone, days = 0) {
  const { year, month, day } = clock(ms, zone);
  return moment(zone, year, month, day + days);
}

export function startOfMonth(ms, zone, months = 0) {
  const { year, month } = clock(ms, zone);
  return moment(zone, year, month + months, 1);
}

/** The same time of day, so many days later or earlier. */
export function shiftDays(ms, zone, days) {
  const { year, month, day, hour, minute, second } = clock(ms, zone);
  return moment(zone, year, month, day + days, hour, minute) + second * 1000 + (ms % 1000);
}
