// A component's questions to the API: what was known stays until the new answer is there, so that nothing jumps.
// Live ones are asked again when requests happen: about once a second, less often where answers are slow to come.
import { get, reachable } from "./api.js";
import { pulse } from "./live.js";
import { entries } from "./session.js";
import { useEffect, useReducer, useRef } from "./view.js";

const PAUSE_MS = 800;
const SLOW_MS = 400;
const KEPT = 60;
const kept = new Map();

function keep(key, data) {
  kept.delete(key);
  kept.set(key, data);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

class Asking {
  constructor(redraw) {
    this.redraw = redraw;
    this.data = undefined;
    this.error = null;
    this.busy = false;
    this.key = null;
    this.lost = false;
    this.again = () => this.run();
  }

  start(path, question) {
    const key = `${path} ${question.key}`;
    if (key === this.key) return;
    this.stop();
    Object.assign(this, { path, question, key, error: null, busy: true, fresh: kept.has(key) });
    if (this.fresh) this.data = kept.get(key);
    this.redraw();
    this.run();
  }

  async run() {
    if (!this.path) return;
    clearTimeout(this.timer);
    this.controller?.abort();
    const controller = (this.controller = new AbortController());
    const began = performance.now();
    this.waiting = true;
    try {
      const data = await get(this.path, this.question.params(), controller.signal);
      if (controller.signal.aborted) return;
      keep(this.key, data);
      Object.assign(this, { data, error: null, fresh: true, lost: false });
    } catch (error) {
      if (controller.signal.aborted) return;
      // The banner says that nothing can be reached, once; what is known stays as it is.
      this.lost = error.status === 0;
      this.error = this.lost && this.data !== undefined ? null : error;
    }
    this.busy = this.waiting = false;
    this.took = performance.now() - began;
    this.answered = performance.now();
    this.redraw();
  }

  soon() {
    if (!reachable.get()) {
      this.lost = true;
      return;
    }
    if (document.hidden) {
      this.late = true;
      return;
    }
    clearTimeout(this.timer);
    const pause = this.took > SLOW_MS ? Math.max(PAUSE_MS, this.took * 4) : PAUSE_MS;
    const wait = Math.max(0, (this.answered ?? 0) + pause - performance.now());
    this.timer = setTimeout(() => (this.waiting ? this.soon() : this.run()), this.waiting ? pause : wait);
  }

  stop() {
    clearTimeout(this.timer);
    this.controller?.abort();
    this.key = null;
    this.path = null;
  }
}

/**
 * {data, error, busy, again}: `data` undefined until there is some; with a new question, the old one's answer stays
 * (`busy` says so). `path` null asks nothing.
 */
export function useAsk(path, question, { live = false } = {}) {
  const [, redraw] = useReducer((count) => count + 1, 0);
  const held = useRef(null);
  held.current ??= new Asking(redraw);
  const asking = held.current;
  useEffect(() => {
    if (path) asking.start(path, question);
    else {
      asking.stop();
      if (asking.data !== undefined) {
        asking.data = undefined;
        redraw();
      }
    }
  }, [path, question?.key]);
  useEffect(() => () => asking.stop(), []);
  useEffect(() => entries.on(() => asking.path && asking.run()), []);
  useEffect(() => reachable.on((yes) => yes && (asking.error || asking.lost) && asking.path && asking.run()), []);
  useEffect(() => {
    if (!live) return undefined;
    const shown = () => {
      if (document.hidden || !asking.late) return;
      asking.late = false;
      asking.soon();
    };
    document.addEventListener("visibilitychange", shown);
    const off = pulse.on(() => asking.path && asking.soon());
    return () => {
      off();
      document.removeEventListener("visibilitychange", shown);
    };
  }, [live]);
  return asking;
}
