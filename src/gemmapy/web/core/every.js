// What has no event to wait for is asked again now and then, while somebody looks at it.
import { useEffect } from "./view.js";

/** Calls `again` every so many milliseconds while the page is visible. */
export function useEvery(ms, again) {
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && again(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}
