// What a page can show: each measure's words, its format, which way is better, and where an answer of the API holds it.
import * as format from "./format.js";

const share = (part, whole) => (whole ? part / whole : null);
/** Null where nothing is known but that there was no price: unknown is not zero. */
export const spent = (costs) => (costs.unpriced_requests && !costs.total_cost ? null : costs.total_cost);
const rated = (b) => (b.positive ?? 0) + (b.negative ?? 0);

/**
 * `bucket(b)`: of a bucket of the series; `total(d, c)`: of a window's dashboard and cost summary; `model(m, c)`: of a
 * model in the dashboard, with its line in the cost summary. `high(b)`: the 95th percentile beside a median; `average`:
 * the words where a bucket has no percentiles.
 */
export const MEASURES = {
  requests: {
    label: "Requests", show: format.count, exact: format.exactCount,
    bucket: (b) => b.requests, total: (d) => d.total_requests, model: (m) => m.requests,
  },
  cost: {
    label: "Cost", show: format.money, exact: format.exactMoney,
    bucket: (b) => b.cost, total: (_d, c) => (c ? spent(c) : undefined), model: (_m, c) => (c ? spent(c) : null),
  },
  tokens: {
    label: "Tokens", show: format.count, exact: format.exactCount,
    bucket: (b) => b.total_tokens, total: (d) => d.total_tokens, model: (m) => m.total_tokens,
  },
  errors: {
    label: "Error rate", show: format.percent, exact: format.exactPercent, better: "down",
    bucket: (b) => share(b.errors, b.requests), total: (d) => d.error_rate, model: (m) => share(m.errors, m.requests),
  },
  duration: {
    label: "Duration, p50", average: "Duration, average", show: format.duration, exact: format.exactDuration, better: "down",
    bucket: (b) => (b.percentiles ? b.percentiles.duration.p50 : b.avg_duration || null), high: (b) => b.percentiles?.duration.p95 ?? null, total: (d) => d.percentiles.duration.p50, model: (m) => m.percentiles.duration.p50,
  },
  ttft: {
    label: "First token, p50", average: "First token, average", show: format.duration, exact: format.exactDuration, better: "down",
    bucket: (b) => (b.percentiles ? b.percentiles.ttft.p50 : b.avg_ttft || null), high: (b) => b.percentiles?.ttft.p95 ?? null, total: (d) => d.percentiles.ttft.p50, model: (m) => m.percentiles.ttft.p50,
  },
  speed: {
    label: "Speed, p50", average: "Speed, average", show: format.speed, exact: format.exactSpeed, better: "up",
    bucket: (b) => (b.percentiles ? b.percentiles.tokens_per_sec.p50 : b.avg_tokens_per_sec || null), total: (d) => d.percentiles.tokens_per_sec.p50,
    model: (m) => m.percentiles.tokens_per_sec.p50,
  },
  cache: {
    label: "Cache hits", show: format.percent, exact: format.exactPercent, better: "up",
    bucket: (b) => share(b.cache_hits, b.requests), total: (d) => d.cache_hit_rate,
    model: (m) => (m.cache_hits === undefined ? null : share(m.cache_hits, m.requests)),
  },
  ratings: {
    label: "Satisfaction", show: format.percent, exact: format.exactPercent, better: "up",
    bucket: (b) => share(b.positive, rated(b)),
    total: (d) => (d.ratings.total_rated ? d.ratings.satisfaction_rate : null),
    model: (m) => (m.ratings?.total_rated ? m.ratings.satisfaction_rate : null),
  },
};

/** The name of a measure's course over time; of very many buckets, the API gives averages in place of percentiles. */
export const courseName = (measure, buckets) => (measure.average && buckets?.length && !buckets[0].percentiles ? measure.average : measure.label);
