// Routes, the maps of blocks, the theme and the keyboard.

const LARGEST_MAP = 4096; // units; larger sites are left to the gallery

function drawMap(index) {
  const site = data.sites[index];
  const members = [];
  for (let u = 0; u < total; u++) if (units.site[u] === index && units.win[u] !== null) members.push(u);
  if (!site.competitors || !members.length || members.length > LARGEST_MAP) return null;
  const most = Math.max(...members.map((u) => units.win[u]), 1e-9);
  // The narrowest full rectangle that is at least as wide as it is high.
  let across = Math.ceil(Math.sqrt(site.competitors));
  while (site.competitors % across) across++;
  const down = site.competitors / across;
  const cell = members.length <= 288 ? 24 : members.length <= 1200 ? 15 : 10;
  const inner = cell - 2 - cell / 12;
  const never = members.filter((u) => units.win[u] === 0).length;
  const blocks = new Map();
  for (const u of members) {
    if (!blocks.has(units.block[u])) blocks.set(units.block[u], []);
    blocks.get(units.block[u]).push(u);
  }
  const tell = h("p", { class: "tell", "aria-hidden": "true" }, "Point at a square to see its unit.");
  const map = h(
    "div",
    {
      class: "map",
      role: "img",
      "aria-label":
        "Map of " + blocks.size + " blocks of " + site.competitors + " units of " + site.name + "; " + never + " units never won. The gallery lists them all.",
    },
    [...blocks.values()].map((block) =>
      s(
        "svg",
        { width: cell * across, height: cell * down },
        block.map((u, place) =>
          s("rect", {
            class: units.win[u] > 0 ? "won" : "never",
            x: cell * (place % across) + 1,
            y: cell * Math.floor(place / across) + 1,
            width: inner,
            height: inner,
            rx: cell / 6,
            // The square root keeps rare winners visible.
            "fill-opacity": units.win[u] > 0 ? (0.1 + 0.9 * Math.sqrt(units.win[u] / most)).toFixed(3) : 1,
            "data-unit": u,
          })
        )
      )
    )
  );
  const at = (event) => event.target.closest?.("[data-unit]")?.dataset.unit;
  map.addEventListener("pointerover", (event) => {
    const u = at(event);
    if (u === undefined) return;
    tell.replaceChildren(
      h("strong", null, named(nameOf(u) ?? "no name")),
      " · unit " + units.unit[u] + " · block " + units.block[u] + " · wins " + percent(units.win[u])
    );
  });
  map.addEventListener("click", (event) => {
    const u = at(event);
    if (u !== undefined) location.hash = linkOf(u);
  });
  return h("div", { class: "site-map" }, h("h3", null, site.name), map, tell);
}

function drawMaps() {
  const maps = data.sites.map((_, index) => drawMap(index)).filter(Boolean);
  document.getElementById("map-list").append(...maps);
  document.getElementById("maps").hidden = !maps.length;
}

function keepAddress(hash) {
  try {
    history.replaceState(null, "", hash);
    last.hash = hash.slice(1);
  } catch (error) {
    // Some browsers forbid this for pages from disk: the view still works, it is not kept.
  }
}

const pageTitle = document.title;
let first = true;

function show(name, title) {
  for (const section of document.querySelectorAll(".view")) {
    section.classList.toggle("current", section.id === "view-" + name);
  }
  const tab = name === "unit" ? "neurons" : name;
  for (const link of document.querySelectorAll("[data-tab]")) {
    if (link.dataset.tab === tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = title ? title + " · " + pageTitle : pageTitle;
}

function decoded(value) {
  try {
    return decodeURIComponent(value);
  } catch (error) {
    return value;
  }
}

// Coming back from a neuron leads to where one was in the list.
const kept = new Map();
let last = { hash: "", unit: false };

function route() {
  const hash = location.hash.slice(1);
  kept.set(last.hash, scrollY);
  const back = last.unit ? kept.get(hash) ?? 0 : 0;
  last = { hash, unit: hash.startsWith("unit=") };
  let target = null;
  if (hash.startsWith("unit=")) {
    show("unit", drawUnit(decoded(hash.slice(5))));
    target = document.getElementById("title-unit");
  } else if (hash === "neurons" || hash.startsWith("neurons?")) {
    readGallery(hash.slice(8));
    drawGallery();
    show("neurons", "Neurons");
    target = document.getElementById("title-neurons");
  } else if (/^explained(=\d+)?$/.test(hash) && document.getElementById("view-explained")) {
    show("explained", "Explained images");
    const which = hash.split("=")[1];
    const article = which && document.getElementById("explained-" + which);
    if (article) {
      article.scrollIntoView();
      if (!first) document.getElementById("e-" + which).focus({ preventScroll: true });
      first = false;
      return;
    }
    target = document.getElementById("title-explained");
  } else {
    show("overview", "");
    target = document.getElementById("title-overview");
  }
  if (!first) {
    scrollTo(0, last.unit ? 0 : back);
    target.focus({ preventScroll: true });
  }
  first = false;
}

function startTheme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const tell = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("neuronym-theme", root.dataset.theme);
    } catch (error) {
      // Without storage the choice lasts as long as the page.
    }
    tell();
  });
  system.addEventListener("change", tell);
  tell();
}

function startKeyboard() {
  document.querySelector("[data-skip]").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && event.target === form.q && form.q.value) {
      form.q.value = "";
      changed({ q: "" });
    } else if (event.key === "/" && !typing) {
      event.preventDefault();
      if (!document.getElementById("view-neurons").classList.contains("current")) {
        location.hash = galleryHash();
        addEventListener("hashchange", () => form.q.focus(), { once: true });
      } else {
        form.q.focus();
        form.q.select();
      }
    } else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !typing) {
      if (event.target.closest("pre, .scroll")) return;
      if (!document.getElementById("view-unit").classList.contains("current")) return;
      document.getElementById(event.key === "ArrowLeft" ? "u-prev" : "u-next")?.click();
    }
  });
}

try {
  history.scrollRestoration = "manual";
} catch (error) {
  // Then the browser's own guess is as good.
}
startGallery();
startTheme();
startKeyboard();
drawMaps();
addEventListener("hashchange", route);
try {
  route();
} finally {
  document.documentElement.classList.remove("starting");
}
