// One neuron: its images, name and runners-up, rates, measured truth, and its block's rivals.

function fact(label, value, ...more) {
  return h("div", null, h("dt", null, label), h("dd", null, value, ...more));
}

function unitFacts(u) {
  const site = data.sites[units.site[u]];
  const list = [];
  if (units.score[u] !== null) list.push(fact("Score", number(units.score[u])));
  if (units.p[u] !== null) list.push(fact("p-value", units.p[u] < 0.001 ? "<0.001" : number(units.p[u], 2)));
  if (units.q[u] !== null) {
    const shown = units.q[u] < 0.001 ? "<0.001" : number(units.q[u], 2);
    list.push(fact("q-value", shown, h("small", null, " false-discovery rate")));
  }
  if (units.fire[u] !== null) {
    list.push(fact("Fires on", percent(units.fire[u]), h("small", null, " of the images"), meter(units.fire[u])));
  }
  if (units.win[u] !== null) {
    const where = site.positions > 1 ? " of the positions" : " of the images";
    list.push(fact("Wins", percent(units.win[u]), h("small", null, where), meter(units.win[u], "strong")));
  }
  const truth = data.truth;
  if (truth && truth.attribute[u] !== null) {
    list.push(
      fact(
        "Separates best",
        named(truth.attribute[u].replaceAll(":", ": ").replaceAll("  ", " "), { class: "text" }),
        h("small", null, " AUROC " + number(truth.auroc[u])),
        verdict(u)
      )
    );
  }
  return h("dl", { class: "stats" }, list);
}

function topImages(u) {
  const top = units.top[u];
  if (!top.length) return h("p", { class: "note" }, "No image made this unit fire.");
  const most = Math.max(...units.activation[u].map((value) => value ?? 0), 0);
  const columns = top.length <= 6 ? top.length : Math.min(Math.ceil(top.length / 2), 6);
  return h(
    "ol",
    { class: "tops c" + Math.max(columns, 4) },
    top.map((index, place) => {
      const label = data.images[index][1];
      const value = units.activation[u][place];
      const alt = "Image " + (place + 1) + " of the " + top.length + " that excite it most";
      return h(
        "li",
        null,
        h("div", { class: "frame", title: data.images[index][2] }, picture(index, label ? alt + ": " + label : alt, 200)),
        h("div", { class: "under" }, h("span", { class: "n" }, number(value)), label && h("bdi", null, label)),
        most > 0 && value !== null && value !== undefined && meter(value / most)
      );
    })
  );
}

// Why a unit has no name, as a sentence.
function reason(u) {
  const why = units.unnamed[u];
  if (why === "constant") return h("p", { class: "note" }, "Unnamed: its activation is the same on every image.");
  if (why === "never above zero") return h("p", { class: "note" }, "Unnamed: it is never above zero.");
  if (why !== "not significant") return null;
  const best = units.others[u].length ? word(units.others[u][0]) : null;
  return h(
    "p",
    { class: "note" },
    "Unnamed (not significant",
    best !== null && ["; best candidate ", named(best)],
    "): as good a name may be chance."
  );
}

function longerNames(u) {
  const linear = units.linear[u];
  const formula = units.formula[u];
  if (!linear && !formula) return null;
  return h(
    "section",
    { class: "part", "aria-labelledby": "u-longer" },
    h("h2", { id: "u-longer" }, "In more than one word"),
    h("p", { class: "about" }, "Measured on images that were not used to find them."),
    h(
      "dl",
      { class: "stats" },
      formula &&
        fact(
          "Formula",
          named(formula.text),
          h("small", null, " AUROC " + number(formula.auroc) + "; "),
          h("small", null, named(formula.single), " alone " + number(formula.singleAuroc))
        ),
      linear &&
        fact(
          "Weighted sum",
          linear.terms.map(([name, weight], i) => [i > 0 && " + ", number(weight, 2) + SPACE, named(name)]),
          h("small", null, " correlation " + number(linear.r) + "; "),
          h("small", null, named(linear.single), " alone " + number(linear.singleR))
        )
    )
  );
}

function nameBars(u) {
  const rows = nameOf(u) === null ? [] : [[nameOf(u), units.score[u], true]];
  units.others[u].forEach((w, i) => rows.push([word(w), units.otherScores[u][i] ?? null, false]));
  const values = rows.map((row) => row[1]).filter((value) => value !== null);
  // Scores may be negative: bars then start at the lowest score of the list.
  const base = Math.min(0, ...values);
  const span = Math.max(...values, base) - base || 1;
  return h(
    "section",
    { class: "part", "aria-labelledby": "u-names" },
    h("h2", { id: "u-names" }, nameOf(u) === null ? "Candidates" : "Name and runners-up"),
    base < 0 && h("p", { class: "about" }, "Scores are negative here; bars start at the lowest shown."),
    h(
      "table",
      { class: "bars names" },
      h("caption", { class: "unseen" }, "Scores of the name and its runners-up"),
      h(
        "tbody",
        null,
        rows.map(([name, score, first]) =>
          h(
            "tr",
            { class: first ? "strong" : null },
            h("th", { scope: "row" }, named(name)),
            h("td", { class: "plot" }, score !== null && meter((score - base) / span, first ? "strong" : "")),
            h("td", { class: "num" }, number(score))
          )
        )
      )
    )
  );
}

function rivals(u) {
  const block = units.block[u];
  const site = data.sites[units.site[u]];
  if (block < 0) return h("p", { class: "note" }, siteName(u) + " is dense: its units do not compete.");
  const members = [];
  for (let v = 0; v < total; v++) if (units.site[v] === units.site[u] && units.block[v] === block) members.push(v);
  members.sort((a, b) => (units.win[b] ?? 0) - (units.win[a] ?? 0) || a - b);
  const most = Math.max(...members.map((v) => units.win[v] ?? 0), 1e-9);
  const places = site.positions > 1 ? "At each position" : "On each image";
  return h(
    "section",
    { class: "part", "aria-labelledby": "u-rivals" },
    h("h2", { id: "u-rivals" }, "Its rivals in block " + block),
    h(
      "p",
      { class: "about" },
      places + " one of these " + members.length + " units wins and the others stay silent. " +
        "The bars say how often each wins on the probe set."
    ),
    h(
      "ol",
      { class: "rivals c" + Math.min(Math.max(members.length, 4), 8) },
      members.map((v) =>
        h(
          "li",
          null,
          h(
            "a",
            { class: "card" + (nameOf(v) === null ? " unnamed" : ""), href: linkOf(v), "aria-current": v === u ? "true" : null },
            h("span", { class: "strip" }, [0, 1, 2].map((i) => picture(units.top[v][i], "", 72))),
            h("span", { class: "caption" }, h("strong", null, named(nameOf(v) ?? "no name"))),
            h("span", { class: "where" }, "unit " + units.unit[v], v === u && " (this one)"),
            units.win[v] !== null &&
              h(
                "span",
                { class: "wins" },
                meter(units.win[v] / most, v === u ? "strong" : ""),
                h("span", { class: "n" }, percent(units.win[v]))
              )
          )
        )
      )
    )
  );
}

function neighbour(u, by) {
  // Along the gallery as it was last shown, else in the order of the atlas.
  const order = shown.includes(u) ? shown : null;
  const next = order ? order[order.indexOf(u) + by] : u + by;
  return next !== undefined && next >= 0 && next < total ? next : null;
}

function step(u, by, label) {
  const next = neighbour(u, by);
  const said = h("span", { class: "wide" }, label);
  const sign = by < 0 ? [icon("left"), said] : [said, icon("right")];
  if (next === null) return h("span", { class: "button", "aria-disabled": "true" }, sign);
  const id = by < 0 ? "u-prev" : "u-next";
  return h("a", { class: "button", href: linkOf(next), id, "aria-label": label + " neuron" }, sign);
}

function drawUnit(key) {
  const place = document.getElementById("view-unit");
  const u = byKey.get(key);
  if (u === undefined) {
    place.replaceChildren(
      h("h1", { id: "title-unit", tabindex: "-1" }, "No such neuron"),
      h("p", { class: "lede" }, "This atlas has no unit ", h("bdi", null, key), "."),
      h("p", null, h("a", { class: "button", href: "#neurons" }, icon("left"), "All neurons"))
    );
    return "No such neuron";
  }
  const site = data.sites[units.site[u]];
  const block = units.block[u] < 0 ? "dense" : "block " + units.block[u] + " of " + site.competitors + " competitors";
  place.replaceChildren(
    h(
      "nav",
      { class: "steps", "aria-label": "Neurons" },
      h("a", { class: "button", href: galleryHash(), id: "u-back" }, icon("left"), "All neurons"),
      h("span", { class: "pair" }, step(u, -1, "Previous"), step(u, 1, "Next"))
    ),
    h(
      "header",
      { class: "hero" },
      h("h1", { id: "title-unit", tabindex: "-1", class: nameOf(u) === null ? "unnamed" : null }, named(nameOf(u) ?? "no name")),
      h("p", { class: "lede" }, siteName(u) + ", unit " + units.unit[u] + ", " + block)
    ),
    reason(u),
    unitFacts(u),
    h(
      "section",
      { class: "part", "aria-labelledby": "u-top" },
      h("h2", { id: "u-top" }, "Images that excite it most"),
      units.top[u].length > 0 && h("p", { class: "about" }, "Its activation stands under each image."),
      topImages(u)
    ),
    (nameOf(u) !== null || units.others[u].length > 0) && nameBars(u),
    longerNames(u),
    rivals(u)
  );
  return titleOf(u);
}
