// Habits: when it is used in the week, how long requests take, and how they fail.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { useQuestion } from "../core/question.js";
import { change, href, useRoute } from "../core/route.js";
import { html } from "../core/view.js";
import { Bars } from "../parts/bars.js";
import { Choice } from "../parts/choice.js";
import { Distribution, PercentileTable } from "../parts/distribution.js";
import { FirstRequest } from "../parts/first.js";
import { Heat } from "../parts/heat.js";
import { Card, Page } from "../parts/page.js";
import { Answer } from "../parts/states.js";

const WHATS = {
  requests: { label: "Requests", value: (h) => h.requests, exact: format.exactCount },
  tokens: { label: "Tokens", value: (h) => h.total_tokens, exact: format.exactCount },
  errors: { label: "Error rate", value: (h) => (h.requests ? h.errors / h.requests : null), exact: format.exactPercent },
};

const KINDS = {
  upstream: ["The upstream failed", "It answered with an error, broke off or could not be reached."],
  timeout: ["The upstream took too long", "Raise the time limit, or look at its load."],
  refused: ["Refused by the gateway", "An unknown model, or a key that may not."],
  interrupted: ["Interrupted", "The gateway ended while they ran."],
  other: ["Something else", "The request's own story says what."],
};

/** [kind, how many], and what is of no kind, so that they add up to all that failed. */
function kinds(data) {
  const named = Object.entries(data.errors_by_kind).filter(([, count]) => count > 0);
  const rest = data.errors - named.reduce((all, [, count]) => all + count, 0);
  return rest > 0 ? [...named, ["other", rest]] : named;
}

export default function Patterns() {
  const question = useQuestion();
  const { query } = useRoute();
  const what = WHATS[query.show] ? query.show : "requests";
  const { current, zone } = question;
  const patterns = useAsk("/api/metrics/patterns", current.with({ tz: zone }), { live: true });
  const dashboard = useAsk("/api/metrics/dashboard", current, { live: true });
  const empty = dashboard.data && !dashboard.data.total_requests;
  return html`<${Page} title="Patterns" question=${question} filters=${true}>
    ${empty && !Object.values(question.filters).some(Boolean) ? html`<${FirstRequest} />` : html`
    <${Card} title="Hours of the week"
      actions=${html`<${Choice} label="Show" value=${what} options=${Object.entries(WHATS).map(([id, one]) => [id, one.label])} choose=${(id) => change({ show: id === "requests" ? null : id }, { replace: true })} />`}>
      <${Answer} asking=${patterns} height=${266}>${(data) => html`<${Heat} hours=${data.hours} value=${WHATS[what].value} exact=${WHATS[what].exact} name=${WHATS[what].label} note=${`In ${zone}. The larger the dot, the more.`} />`}</${Answer}>
    </${Card}>
    <${Distribution} question=${question} />
    <${PercentileTable} dashboard=${dashboard} />
    <${Card} title="How requests fail" actions=${html`<a class="btn small" href=${href("requests", { errors: "true" })}>Failed requests</a>`}>
      <${Answer} asking=${dashboard} height=${150}>${(data) => {
        const left = data.left ? html`<p class="hint spaced">${format.exactCount(data.left)} more ended because their client left, which is no failure.</p>` : null;
        if (!data.errors) return html`<p class="quiet">None of ${format.exactCount(data.total_requests)} requests failed.</p>${left}`;
        return html`<${Bars} bad=${true} show=${format.count} exact=${format.exactCount}
          rows=${kinds(data).map(([kind, count]) => ({ key: kind, name: KINDS[kind]?.[0] ?? kind, title: KINDS[kind]?.[1], value: count }))} />
          <p class="hint spaced">${format.percent(data.error_rate)} of ${format.exactCount(data.total_requests)} requests.</p>${left}`;
      }}</${Answer}>
    </${Card}>`}
  </${Page}>`;
}
