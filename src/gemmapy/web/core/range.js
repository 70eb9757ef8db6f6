// The time range: presets and custom spans, what they mean at this moment, and the period that they are compared with.
import { shiftDays, startOfDay, startOfMonth } from "./zone.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

export const PRESETS = [
  ["today", "Today"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["90d", "Last 90 days"],
  ["month", "This month"],
  ["last-month", "Last month"],
];
export const DEFAULT = "7d";
const DAYS = { "7d": 7, "30d": 30, "90d": 90 };

/** What a range means now: {from, to, open}; `open`: it ends now, and goes on with time. */
export function windowOf({ range, from, to }, zone, now) {
  if (range === "custom" && from < to) return { from, to, open: to > now };
  if (range === "today") return { from: startOfDay(now, zone), to: now, open: true };
  if (range === "24h") return { from: Math.floor(now / HOUR) * HOUR - 23 * HOUR, to: now, open: true };
  if (range === "month") return { from: startOfMonth(now, zone), to: now, open: true };
  if (range === "last-month") return { from: startOfMonth(now, zone, -1), to: startOfMonth(now, zone), open: false };
  return { from: startOfDay(now, zone, 1 - (DAYS[range] ?? DAYS[DEFAULT])), to: now, open: true };
}

/** The period before it, as long as it is so far. */
export function previousOf(asked, zone, now) {
  const { from, to } = windowOf(asked, zone, now);
  if (asked.range === "month" || asked.range === "last-month") {
    const start = startOfMonth(from, zone, -1);
    return { from: start, to: Math.min(from, start + (to - from)) };
  }
  const days = asked.range === "today" ? 1 : asked.range === "24h" ? 1 : DAYS[asked.range];
  if (days) return { from: shiftDays(from, zone, -days), to: shiftDays(to, zone, -days) };
  return { from: from - (to - from), to: from };
}

/** The grains that such a window can be shown in, the best one first. */
export function intervals({ from, to }) {
  const days = (to - from) / DAY;
  if (days <= 3) return ["hour", "day"];
  if (days <= 14) return ["day", "hour"];
  if (days <= 32) return ["day", "hour", "week"];
  return days <= 120 ? ["day", "week"] : ["week", "day"];
}

export const LENGTH = { hour: HOUR, day: DAY, week: 7 * DAY };
