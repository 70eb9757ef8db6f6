// Runs before the first paint, so that a theme chosen by hand does not flash: sets data-theme on <html>.
(() => {
  try {
    const chosen = localStorage.getItem("gemmapy.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // storage is forbidden: the system's theme it is
  }
})();
