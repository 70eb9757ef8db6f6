// A form that is sent: busy meanwhile; its error stays beside it.
import { useState } from "../core/view.js";
import { say } from "./toasts.js";

/** Runs `act` when the form is sent and says what it returns, if anything; then `done`, unless it failed. */
export function useSubmit(act, done = () => {}) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const said = await act();
      if (said) say(said);
      done();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return { submit, busy, error };
}
