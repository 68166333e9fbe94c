// Runs before the page is drawn, so that nothing flashes: the chosen theme, and that scripts run.
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");
  if (location.hash) root.classList.add("starting"); // another part than the first is wanted
  try {
    var theme = localStorage.getItem("neuronym-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch (error) {
    // A browser may forbid storage for pages from disk: the system's theme is used.
  }
})();
