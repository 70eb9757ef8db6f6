// Numbers, money and times as people read them, in the browser's language. Each short form has an exact one beside it,
// for titles and tooltips: money is shortened, never rounded away.

const LOCALE = navigator.languages?.[0] ?? navigator.language;
const made = new Map();

function numbers(options) {
  const key = JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Intl.NumberFormat(LOCALE, options));
  return made.get(key);
}

/** What stands where nothing was measured. */
export const NOTHING = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

// In a column, digits stand under digits: the short forms have as many behind the point whatever the last of them is.
// `.tick` is for an axis, where a round number is shorter than that.
const fixed = (digits) => ({ minimumFractionDigits: digits, maximumFractionDigits: digits });

/** 1,234 and 12.3K; `exactCount` says all of it. */
export function count(value) {
  if (!known(value)) return NOTHING;
  if (Math.abs(value) < 10_000) return numbers({ maximumFractionDigits: 0 }).format(value);
  return numbers({ notation: "compact", minimumSignificantDigits: 3, maximumSignificantDigits: 3 }).format(value);
}
count.tick = (value) => (Math.abs(value) < 10_000 ? exactCount(value) : numbers({ notation: "compact", maximumSignificantDigits: 3 }).format(value));
export const exactCount = (value) => (known(value) ? numbers({ maximumFractionDigits: 3 }).format(value) : NOTHING);

/** Dollars with as many digits as they need to be told apart from nothing: $41.21, $0.042, $0.0000123. */
export function money(value, currency = "USD") {
  if (!known(value)) return NOTHING;
  const size = Math.abs(value);
  const style = { style: "currency", currency, currencyDisplay: "narrowSymbol" };
  if (size >= 100_000) return numbers({ ...style, notation: "compact", maximumSignificantDigits: 4 }).format(value);
  if (size >= 1 || size === 0) return numbers({ ...style, ...fixed(2) }).format(value);
  return numbers({ ...style, ...fixed(Math.min(9, size >= 0.1 ? 3 : 1 - Math.floor(Math.log10(size)))) }).format(value);
}
/** To the nano-dollar, which is what the books hold. */
export const exactMoney = (value, currency = "USD") =>
  known(value)
    ? numbers({ style: "currency", currency, minimumFractionDigits: 2, maximumFractionDigits: 9 }).format(value)
    : NOTHING;

money.tick = exactMoney;

/** 2.4 %, and never 0 % or 100 % of what is only almost so. */
export function percent(share) {
  if (!known(share)) return NOTHING;
  const style = { style: "percent", ...fixed(share === 0 || share === 1 ? 0 : 1) };
  if (share > 0 && share < 0.001) return `<${numbers(style).format(0.001)}`;
  if (share < 1 && share > 0.999) return `>${numbers(style).format(0.999)}`;
  return numbers(style).format(share);
}
export const exactPercent = (share) =>
  known(share) ? numbers({ style: "percent", maximumFractionDigits: 4 }).format(share) : NOTHING;

percent.tick = exactPercent;

const decimals = (value, digits) => numbers({ maximumFractionDigits: digits }).format(value);

/** Milliseconds: 240 ms, 1.24 s, 3 min 20 s. */
export function duration(ms) {
  if (!known(ms)) return NOTHING;
  if (ms < 999.5) return `${decimals(ms, ms < 10 ? 1 : 0)} ms`;
  if (ms < 59_950) return `${numbers(fixed(ms < 9_995 ? 2 : 1)).format(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${decimals(Math.floor(seconds / 3600), 0)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
duration.tick = (ms) => (ms >= 1000 && ms <= 1_000_000 ? `${decimals(ms / 1000, 2)} s` : duration(ms));
export const exactDuration = (ms) => (known(ms) ? `${decimals(ms, 3)} ms` : NOTHING);

/** Tokens per second. */
export const speed = (value) =>
  known(value) ? `${numbers({ maximumFractionDigits: value < 10 ? 1 : 0 }).format(value)} tok/s` : NOTHING;
export const exactSpeed = (value) =>
  known(value) ? `${numbers({ maximumFractionDigits: 3 }).format(value)} tok/s` : NOTHING;

/** Bytes in powers of 1000: 24.1 GB. */
export function bytes(value) {
  if (!known(value)) return NOTHING;
  const names = ["B", "kB", "MB", "GB", "TB"];
  const step = value < 1 ? 0 : Math.min(4, Math.floor(Math.log10(value) / 3));
  return `${decimals(value / 1000 ** step, step ? 1 : 0)} ${names[step]}`;
}

/** How far `now` is from `before`: {text, direction}; null where there is nothing to compare with. */
export function change(now, before) {
  if (!known(now) || !known(before) || (before === 0 && now === 0)) return null;
  if (before === 0) return { text: "new", direction: 1 };
  const share = (now - before) / Math.abs(before);
  const direction = Math.abs(share) < 0.0005 ? 0 : Math.sign(share);
  const digits = Math.abs(share) < 0.1 ? 1 : 0;
  const text = share >= 9.995
    ? `×${numbers({ maximumFractionDigits: 0 }).format(now / before)}`
    : numbers({ style: "percent", maximumFractionDigits: digits }).format(Math.abs(share));
  return { text, direction };
}

const dates = new Map();
function dateFormat(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!dates.has(key)) dates.set(key, new Intl.DateTimeFormat(LOCALE, { timeZone: zone, ...options }));
  return dates.get(key);
}
const moment = (value) => (typeof value === "number" ? value : Date.parse(value));

const PARTS = {
  time: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  hour: { weekday: "short", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
  day: { weekday: "short", month: "short", day: "numeric" },
  date: { year: "numeric", month: "short", day: "numeric" },
  short: { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
  month: { year: "numeric", month: "long" },
  log: { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" },
  full: {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
    timeZoneName: "short",
  },
};

/** A moment (milliseconds or ISO text) in a zone: "time", "hour", "day", "date", "short", "log" or "full". */
export function at(value, zone, form = "full") {
  const ms = moment(value);
  return Number.isFinite(ms) ? dateFormat(zone, PARTS[form]).format(ms) : NOTHING;
}

/** The name of a bucket of a series. */
export function bucket(value, zone, interval) {
  if (interval === "hour") return at(value, zone, "hour");
  return interval === "week" ? `Week of ${at(value, zone, "day")}` : at(value, zone, "day");
}

const relative = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto", style: "short" });
/** 5 min. ago, in 3 days. */
export function ago(value, now = Date.now()) {
  const seconds = (moment(value) - now) / 1000;
  if (!Number.isFinite(seconds)) return NOTHING;
  for (const [name, size] of [["day", 86_400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), name);
  }
  return relative.format(Math.trunc(seconds), "second");
}

/** "Monday", and its like, with 0 for Monday as ISO counts. */
export const weekday = (number, form = "short") =>
  dateFormat("UTC", { weekday: form }).format(Date.UTC(2024, 0, 1 + number));
