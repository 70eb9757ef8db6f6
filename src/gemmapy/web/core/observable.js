// A value that can be watched: what several parts of the page share, such as the session or the running requests.
import { useEffect, useState } from "./view.js";

/** Holds a value; `on(f)` calls f with each new one and returns how to stop. */
export function observable(value) {
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const watcher of [...watchers]) watcher(next);
    },
    on(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

/** The value of an observable in a component, which is drawn again when it changes. */
export function useObservable(source) {
  const [value, setValue] = useState(source.get());
  useEffect(() => {
    setValue(source.get());
    return source.on(setValue);
  }, [source]);
  return value;
}
