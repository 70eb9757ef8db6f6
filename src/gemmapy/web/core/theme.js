// Light or dark: the system's, or one chosen by hand and remembered.
import { observable } from "./observable.js";

const KEY = "gemmapy.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** "system", "light" or "dark". */
export const choice = observable(document.documentElement.dataset.theme ?? "system");
/** Whether it is dark now, whoever said so; charts read their colours again when it changes. */
export const dark = observable(isDark());

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : system.matches;
}

export function choose(theme) {
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem(KEY);
  } else {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(KEY, theme);
  }
  choice.set(theme);
  dark.set(isDark());
}

system.addEventListener("change", () => dark.set(isDark()));

/** The value of a custom property now, for what is painted on a canvas. */
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
