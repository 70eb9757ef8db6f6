// One question asked for each of several subjects (people, projects), and their answers side by side.
import { get } from "./api.js";
import { useEffect, useState } from "./view.js";

const AGAIN_MS = 15_000;

/** `subjects`: [{key, params}], or undefined while they are not known. `data`: a Map from each one's key to its answer. */
export function useEach(path, question, subjects) {
  const [state, setState] = useState({ data: undefined, error: null, busy: true });
  const [round, setRound] = useState(0);
  const again = () => setRound((count) => count + 1);
  useEffect(() => {
    if (!subjects) return undefined;
    const leave = new AbortController();
    const run = async () => {
      if (document.hidden) return;
      try {
        const answers = await Promise.all(subjects.map((one) => get(path, { ...question.params(), ...one.params }, leave.signal)));
        setState({ data: new Map(subjects.map((one, place) => [one.key, answers[place]])), error: null, busy: false });
      } catch (error) {
        if (!leave.signal.aborted) setState((before) => ({ ...before, error, busy: false }));
      }
    };
    setState((before) => ({ ...before, busy: true }));
    run();
    const timer = setInterval(run, AGAIN_MS);
    return () => {
      leave.abort();
      clearInterval(timer);
    };
  }, [path, question.key, subjects && JSON.stringify(subjects), round]);
  return { ...state, again };
}
