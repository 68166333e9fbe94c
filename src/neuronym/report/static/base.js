// Small helpers: building elements (text is always text, never HTML), numbers, and the data.

const SVG = "http://www.w3.org/2000/svg";
const MINUS = "\u2212";
const SPACE = "\u00a0";

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else {
      node.setAttribute(key, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function icon(name) {
  return s("svg", { "aria-hidden": "true", focusable: "false" }, s("use", { href: "#i-" + name }));
}

function meter(share, kind) {
  const width = 100 * Math.min(Math.max(share || 0, 0), 1);
  return s(
    "svg",
    { class: "meter " + (kind || ""), "aria-hidden": "true", focusable: "false" },
    s("rect", { class: "track", width: "100%", height: "100%", rx: 2 }),
    s("rect", { class: "fill", width: width.toFixed(2) + "%", height: "100%", rx: 2 })
  );
}

function grouped(text) {
  const [whole, rest] = text.split(".");
  const spaced = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return rest === undefined ? spaced : spaced + "." + rest;
}

function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "";
  if (value === 0) return "0";
  const exponent = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits)))));
  if (exponent < -4 || exponent > 8) {
    return value.toExponential(digits - 1).replace("+", "").replaceAll("-", MINUS);
  }
  return grouped(value.toFixed(Math.max(0, digits - 1 - exponent))).replace("-", MINUS);
}

function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return "";
  const value = 100 * share;
  if (value > 0 && value < 0.05) return "<0.1" + SPACE + "%";
  if (value >= 99.95 && value < 100) return ">99.9" + SPACE + "%";
  const text = value === 0 || value === 100 ? value.toFixed(0) : value.toFixed(1);
  return text.replace("-", MINUS) + SPACE + "%";
}

const data = JSON.parse(document.getElementById("data").textContent);
const units = data.units;
const total = units.unit.length;
const text = new Map(); // what a search looks through, by unit, made when first needed

const siteName = (u) => data.sites[units.site[u]].name;
const keyOf = (u) => siteName(u) + "/" + units.unit[u];
const word = (w) => (w < 0 ? null : data.words[w]);
const nameOf = (u) => word(units.name[u]);
const titleOf = (u) => nameOf(u) ?? "unit " + units.unit[u];
const linkOf = (u) => "#unit=" + encodeURIComponent(keyOf(u)).replaceAll("%2F", "/");
const isLive = (u) => (units.win[u] ?? units.fire[u] ?? 0) > 0;

const byKey = new Map();
for (let u = 0; u < total; u++) byKey.set(keyOf(u), u);

function named(name, attributes) {
  return h("bdi", attributes, name);
}

function picture(index, alt, size) {
  const [source, , , tiny] = index === undefined ? [null] : data.images[index];
  if (!source) {
    return h("span", {
      class: "blank",
      role: alt ? "img" : null,
      "aria-label": alt ? alt + " (no picture)" : null,
    });
  }
  return h("img", {
    src: source,
    alt: alt,
    width: size,
    height: size,
    loading: "lazy",
    decoding: "async",
    class: tiny ? "tiny" : null,
  });
}

function mosaic(u) {
  const top = units.top[u];
  return h(
    "span",
    { class: "mosaic" },
    [0, 1, 2, 3, 4].map((i) => picture(top[i], "", 96))
  );
}
