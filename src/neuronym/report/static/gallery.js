// The gallery: filters as you type, sorting, pages of cards.

const PAGE = 48;
const STEPS = 100; // of a score slider
const scores = units.score.filter((value) => value !== null);
const lowest = scores.reduce((a, b) => Math.min(a, b), Infinity);
const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
const ids = ["q", "site", "show", "sort", "low", "high", "range", "span", "hist", "clear"];
const form = Object.fromEntries(ids.map((id) => [id, document.getElementById("f-" + id)]));
let view = { q: "", site: "", show: "", sort: "score", low: 0, high: STEPS, page: 1 };
const plain = { ...view };

const SHOW = {
  named: (u) => units.name[u] >= 0,
  chance: (u) => units.unnamed[u] === "not significant",
  silent: (u) => !isLive(u),
  right: (u) => data.truth?.right[u] === true,
  wrong: (u) => data.truth?.selective[u] === true && data.truth.right[u] === false,
};
const nothing = (value, otherwise) => (value === null ? otherwise : value);
const SORT = {
  score: (a, b) => nothing(units.score[b], -Infinity) - nothing(units.score[a], -Infinity),
  weak: (a, b) => nothing(units.score[a], Infinity) - nothing(units.score[b], Infinity),
  fire: (a, b) => units.fire[b] - units.fire[a],
  rare: (a, b) => units.fire[a] - units.fire[b],
  name: (a, b) => rankOf(a) - rankOf(b),
  site: () => 0,
};

let ranks = null; // place of each word in the alphabet: comparing numbers is fast
function rankOf(u) {
  if (!ranks) {
    const order = data.words.map((_, w) => w);
    const { compare } = new Intl.Collator("en", { numeric: true });
    order.sort((a, b) => compare(data.words[a], data.words[b]));
    ranks = [];
    order.forEach((w, place) => (ranks[w] = place));
  }
  return units.name[u] < 0 ? Infinity : ranks[units.name[u]];
}

const fold = (value) => value.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function haystack(u) {
  if (!text.has(u)) {
    const others = units.others[u].map((w) => fold(word(w) ?? ""));
    text.set(u, { name: fold(titleOf(u)), others, all: fold(titleOf(u)) + "\n" + others.join("\n") });
  }
  return text.get(u);
}

// A search is words that must all occur; in quotation marks it is a whole name.
function search() {
  const query = fold(view.q).trim();
  const exact = query.length > 2 && query.startsWith('"') && query.endsWith('"');
  return exact ? { exact: query.slice(1, -1), words: [] } : { exact: null, words: query.split(/\s+/).filter(Boolean) };
}

function scoreAt(step) {
  return lowest + ((highest - lowest) * step) / STEPS;
}

function matches() {
  const { exact, words } = search();
  const keep = SHOW[view.show];
  const ranged = view.low > 0 || view.high < STEPS;
  // The ends of the sliders stand for the ends of the scores, whatever rounding does.
  const low = view.low > 0 ? scoreAt(view.low) : -Infinity;
  const high = view.high < STEPS ? scoreAt(view.high) : Infinity;
  const found = [];
  for (let u = 0; u < total; u++) {
    if (view.site && siteName(u) !== view.site) continue;
    if (keep && !keep(u)) continue;
    if (ranged && (units.score[u] === null || units.score[u] < low || units.score[u] > high)) continue;
    if (exact !== null && haystack(u).name !== exact) continue;
    if (words.length && !words.every((piece) => haystack(u).all.includes(piece))) continue;
    found.push(u);
  }
  found.sort((a, b) => SORT[view.sort](a, b) || a - b);
  return found;
}

// Marks the searched words in a name; the name stays text.
function marked(name) {
  const wanted = search().words;
  const folded = fold(name);
  if (!wanted.length || folded.length !== name.length) return [name];
  const inside = new Uint8Array(name.length);
  for (const piece of wanted) {
    for (let at = folded.indexOf(piece); at >= 0; at = folded.indexOf(piece, at + 1)) {
      inside.fill(1, at, at + piece.length);
    }
  }
  const out = [];
  for (let start = 0, end; start < name.length; start = end) {
    for (end = start + 1; end < name.length && inside[end] === inside[start]; end++);
    const piece = name.slice(start, end);
    out.push(inside[start] ? h("mark", null, piece) : piece);
  }
  return out;
}

// The runner-up through which a unit was found, where its own name is not enough.
function throughRunnerUp(u) {
  const wanted = search().words;
  const hay = haystack(u);
  const missing = wanted.find((piece) => !hay.name.includes(piece));
  if (missing === undefined) return null;
  return word(units.others[u][hay.others.findIndex((other) => other.includes(missing))]);
}

function verdict(u) {
  if (!data.truth || data.truth.auroc[u] === null) return null;
  if (data.truth.right[u]) return h("span", { class: "badge good" }, "name right");
  if (data.truth.selective[u]) return h("span", { class: "badge bad" }, "name not right");
  return null;
}

function card(u) {
  const other = view.q ? throughRunnerUp(u) : null;
  return h(
    "a",
    { class: nameOf(u) === null ? "card unnamed" : "card", href: linkOf(u) },
    mosaic(u),
    h(
      "span",
      { class: "caption" },
      h("strong", null, h("bdi", null, nameOf(u) === null ? "no name" : marked(nameOf(u)))),
      h("span", { class: "score" }, h("span", { class: "unseen" }, "score "), number(units.score[u]))
    ),
    other && h("span", { class: "other" }, "runner-up: ", h("bdi", null, marked(other))),
    h("span", { class: "where" }, siteName(u), " · unit ", units.unit[u], verdict(u))
  );
}

let shown = [];
function drawGallery() {
  shown = matches();
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  view.page = Math.min(Math.max(1, view.page), pages);
  const first = (view.page - 1) * PAGE;
  const part = shown.slice(first, first + PAGE);
  document.getElementById("gallery").replaceChildren(...part.map(card));
  const some = shown.length === total ? "" : " of " + grouped(String(total));
  document.getElementById("count").textContent = shown.length
    ? grouped(String(shown.length)) + some + (total === 1 ? " neuron" : " neurons")
    : "No neuron fits. Take away a filter, or search for another word.";
  document.getElementById("pager").hidden = pages === 1;
  document.getElementById("p-prev").disabled = view.page === 1;
  document.getElementById("p-next").disabled = view.page === pages;
  document.getElementById("p-where").textContent = "Page " + view.page + " of " + grouped(String(pages));
  const filtered = ["q", "site", "show", "low", "high"].some((key) => view[key] !== plain[key]);
  form.clear.classList.toggle("idle", !filtered);
  drawRange();
}

function drawRange() {
  const { low, high } = view;
  form.range.style.setProperty("--low", low + "%");
  form.range.style.setProperty("--high", high + "%");
  form.span.textContent = scores.length ? number(scoreAt(low)) + " to " + number(scoreAt(high)) : "";
  form.low.setAttribute("aria-valuetext", number(scoreAt(low)));
  form.high.setAttribute("aria-valuetext", number(scoreAt(high)));
  for (const bar of form.hist.children) {
    const middle = Number(bar.dataset.middle);
    bar.classList.toggle("out", middle < low || middle > high);
  }
}

function drawHistogram() {
  const bins = 40;
  const counts = new Array(bins).fill(0);
  const span = highest - lowest || 1;
  for (const score of scores) counts[Math.min(bins - 1, Math.floor(((score - lowest) / span) * bins))]++;
  const most = Math.max(...counts, 1);
  counts.forEach((count, i) => {
    const height = count ? 1 + (27 * count) / most : 0;
    const at = { x: i * 3, y: 28 - height, width: 2.4, height, "data-middle": ((i + 0.5) * 100) / bins };
    form.hist.append(s("rect", at));
  });
}

// The filters live in the address, so that a view can be kept and shared.
function galleryHash() {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(view)) if (value !== plain[key]) query.set(key, value);
  const tail = query.toString();
  return "#neurons" + (tail ? "?" + tail : "");
}

function readGallery(query) {
  const given = new URLSearchParams(query);
  const step = (key) => {
    const value = given.has(key) ? Number(given.get(key)) : plain[key];
    return Number.isFinite(value) ? Math.min(Math.max(Math.round(value), 0), STEPS) : plain[key];
  };
  const among = (key, options) => (options.includes(given.get(key)) ? given.get(key) : plain[key]);
  view = {
    q: given.get("q") ?? "",
    site: among("site", data.sites.map((site) => site.name)),
    show: among("show", Object.keys(SHOW)),
    sort: among("sort", Object.keys(SORT)),
    low: step("low"),
    high: step("high"),
    page: Math.max(1, Math.round(Number(given.get("page"))) || 1),
  };
  for (const key of ["q", "site", "show", "sort", "low", "high"]) {
    if (form[key].value !== String(view[key])) form[key].value = view[key];
  }
}

function changed(update) {
  view = { ...view, page: 1, ...update };
  keepAddress(galleryHash());
  drawGallery();
}

function turn(by) {
  changed({ page: view.page + by });
  document.getElementById("title-neurons").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function startGallery() {
  for (const site of data.sites) form.site.append(h("option", { value: site.name }, site.name));
  if (units.unnamed.includes("not significant")) {
    form.show.append(h("option", { value: "chance" }, "Unnamed, not significant"));
  }
  if (data.truth) {
    form.show.append(h("option", { value: "right" }, "Name is right"));
    if (data.truth.selective.some((value) => value !== null)) {
      form.show.append(h("option", { value: "wrong" }, "Selective, name not right"));
    }
  }
  if (scores.length < 2 || lowest === highest) form.range.hidden = true;
  drawHistogram();
  form.q.addEventListener("input", () => changed({ q: form.q.value }));
  for (const key of ["site", "show", "sort"]) {
    form[key].addEventListener("change", () => changed({ [key]: form[key].value }));
  }
  form.low.addEventListener("input", () => {
    form.low.value = Math.min(Number(form.low.value), view.high);
    changed({ low: Number(form.low.value) });
  });
  form.high.addEventListener("input", () => {
    form.high.value = Math.max(Number(form.high.value), view.low);
    changed({ high: Number(form.high.value) });
  });
  const filters = document.getElementById("filters");
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", (event) => {
    event.preventDefault();
    changed({ ...plain });
    readGallery(galleryHash().split("?")[1] ?? "");
    form.q.focus();
  });
  document.getElementById("p-prev").addEventListener("click", () => turn(-1));
  document.getElementById("p-next").addEventListener("click", () => turn(1));
}
