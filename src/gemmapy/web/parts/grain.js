// How fine a chart over time is: by hour, day or week, as far as the window makes sense of it.
import { intervals } from "../core/range.js";
import { change } from "../core/route.js";
import { html } from "../core/view.js";
import { Choice } from "./choice.js";

export function Grain({ question }) {
  const grains = intervals(question.window);
  if (grains.length < 2) return null;
  return html`<${Choice} label="Grain" value=${question.interval} choose=${(by) => change({ by: by === grains[0] ? null : by }, { replace: true })}
    options=${["hour", "day", "week"].filter((one) => grains.includes(one)).map((one) => [one, `By ${one}`])} />`;
}
