// What a reader does with a figure: point, zoom, choose, take it along.

// The parts around a drawing: title, buttons, legend, and what a hover says.
function toolsOf(figure) {
  const { data } = figure;
  const button = (text, label, act) => {
    const found = made("button", { type: "button", textContent: text, title: label, onclick: act });
    found.setAttribute("aria-label", `${label}: ${data.title}`);
    return found;
  };
  const bar = made("div", { className: "bar" });
  if (data.panels.length > 1) {
    const options = data.panels.map(([label], k) => made("option", { value: k, textContent: label }));
    const choice = made("select", { onchange: () => { figure.panel = Number(choice.value); figure.zoom = null; figure.again(); } }, ...options);
    choice.setAttribute("aria-label", `shown: ${data.title}`);
    bar.append(choice);
  }
  if (figure.rows.seeds?.length) {
    const seeds = button("Seeds", "Show each seed", () => {
      figure.seeds = !figure.seeds;
      seeds.setAttribute("aria-pressed", figure.seeds);
      figure.again();
    });
    seeds.setAttribute("aria-pressed", false);
    bar.append(seeds);
  }
  if (data.whole.length) {
    const whole = button("0–1", "Show the whole scale, or fit it to the data", () => {
      figure.wide = !figure.wide;
      whole.setAttribute("aria-pressed", figure.wide);
      zoomed(figure, figure.wide ? { ...figure.ends(), y0: data.whole[0], y1: data.whole[1] } : null);
    });
    whole.setAttribute("aria-pressed", false);
    figure.whole = whole;
    bar.append(whole);
  }
  if (data.log_too) {
    const log = button("log", "Logarithmic scale", () => {
      figure.log = !figure.log;
      figure.zoom = null;
      log.setAttribute("aria-pressed", figure.log);
      figure.again();
    });
    log.setAttribute("aria-pressed", false);
    bar.append(log);
  }
  if (data.fitted.x) {
    figure.reset = button("Reset", "Undo the zoom (double click, or key 0)", () => zoomed(figure, null));
    bar.append(button("+", "Zoom in (key +)", () => scaled(figure, 0.6)), button("−", "Zoom out (key −)", () => scaled(figure, 1 / 0.6)), figure.reset);
  }
  const files = made("span", { className: "files" });
  for (const [kind, about] of [["CSV", "Download its data as CSV"], ["SVG", "Download it as SVG"], ["PNG", "Download it as PNG"]]) files.append(button(kind, about, () => taken(figure, kind)));
  const large = button("Enlarge", "Enlarge", () => {
    enlarged(figure.live, data.title, () => { figure.element.querySelector("figcaption").before(figure.live); figure.again(); });
    figure.again();
  });
  large.className = "enlarge-live";
  files.append(large);
  bar.append(files);
  figure.canvas = made("div", { className: "canvas" });
  figure.spot = made("i", { className: "spot", hidden: true });
  figure.box = made("i", { className: "box", hidden: true });
  figure.tip = made("div", { className: "tip", hidden: true });
  figure.tip.setAttribute("role", "status");
  figure.plot = made("div", { className: "plot", tabIndex: 0 }, figure.canvas, figure.box, figure.spot, figure.tip);
  figure.plot.setAttribute("role", "application");
  figure.plot.setAttribute("aria-label", `${data.title}. Arrows go from value to value; plus, minus and 0 zoom.`);
  figure.legend = made("div", { className: "legend" });
  figure.legend.setAttribute("role", "group");
  figure.legend.setAttribute("aria-label", `legend: ${data.title}`);
  pointed(figure);
  return made("div", { className: "live" }, made("p", { className: "title", textContent: data.title }), figure.plot, figure.legend, bar);
}

// After a drawing: the legend, and which buttons do something.
function refreshed(figure) {
  const hide = figure.own ? figure.off : hidden.get(figure.group) ?? new Set();
  const runs = groups.get(figure.group);
  const dark = light.matches ? "light" : "dark";
  const entries = figure.names.filter((name) => figure.own || matches(runs?.get(name)?.words ?? name));
  const focused = document.activeElement?.dataset?.entry;
  const within = figure.legend.contains(document.activeElement);
  const changed = () => (figure.own ? figure.again() : figures.forEach((other) => other.group === figure.group && other.again()));
  const alone = (name) => entries.every((other) => (other === name) !== hide.has(other));
  const maps = "x0" in figure.data.ends;
  figure.legend.replaceChildren();
  for (const [k, name] of (maps && figure.own ? [] : entries).entries()) {
    const look = figure.own ? { light: figure.data.shades[figure.data.series.indexOf(name)], dash: [] } : runs?.get(name) ?? {};
    const colour = figure.own && dark === "dark" ? LIKE[look.light] ?? look.light : look[dark] ?? look.light ?? "#7F7F7F";
    const sample = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    sample.setAttribute("viewBox", "0 0 26 10");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [key, value] of Object.entries({ x1: 1, x2: 25, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": (look.dash ?? []).join(" ") })) line.setAttribute(key, value);
    sample.append(line);
    const entry = made("button", { type: "button", title: `${name}\nclick: hide or show; double click, or Shift: this one alone` }, ...(maps ? [] : [sample]), made("span", { textContent: name }));
    entry.dataset.entry = k;
    entry.setAttribute("aria-pressed", !hide.has(name));
    const only = () => {
      const undo = alone(name);
      hide.clear();
      if (!undo) entries.filter((other) => other !== name).forEach((other) => hide.add(other));
      changed();
    };
    entry.addEventListener("click", (event) => {
      if (!figure.own) hidden.set(figure.group, hide);
      if (event.shiftKey) return only();
      if (!hide.delete(name)) hide.add(name);
      return changed();
    });
    entry.addEventListener("dblclick", () => { if (!figure.own) hidden.set(figure.group, hide); only(); });
    for (const [kind, lit] of [["pointerenter", name], ["focus", name], ["pointerleave", null], ["blur", null]]) entry.addEventListener(kind, () => lighten(figure, lit));
    figure.legend.append(entry);
  }
  if (hide.size) figure.legend.append(made("button", { type: "button", className: "all", textContent: "show all", onclick: () => { hide.clear(); changed(); } }));
  if (within && focused !== undefined) figure.legend.querySelector(`[data-entry="${focused}"]`)?.focus();
  if (figure.reset) figure.reset.disabled = !figure.zoom;
  figure.canvas.classList.toggle("empty", figure.shown.main.length === 0);
  figure.at = null;
  told(figure, null);
}

function lighten(figure, name) {
  if (!figure.data.spec.params.some((param) => param.name === "lit")) return;
  figure.view?.signal("lit", name).runAsync();
}

// Ends of the axes, or null: such that all fits.
function zoomed(figure, ends) {
  figure.zoom = ends;
  if (!ends && figure.wide) {
    figure.wide = false;
    figure.whole.setAttribute("aria-pressed", false);
  }
  for (const [name, value] of Object.entries(figure.ends())) figure.view.signal(name, value);
  figure.reset.disabled = !ends;
  told(figure, null);
  return figure.view.runAsync();
}

function scaled(figure, by, at = { x: 0.5, y: 0.5 }) {
  const ends = { ...figure.ends() };
  for (const axis of ["x", "y"]) {
    let [low, high] = [ends[axis + "0"], ends[axis + "1"]];
    if (low === undefined) continue;
    if (isLogarithmic(figure, axis)) [low, high] = [Math.log(low), Math.log(high)];
    const middle = low + at[axis] * (high - low);
    const found = [middle - (middle - low) * by, middle + (high - middle) * by];
    [ends[axis + "0"], ends[axis + "1"]] = isLogarithmic(figure, axis) ? found.map(Math.exp) : found;
  }
  zoomed(figure, ends);
}

// The upper left of the plot: where it begins in the drawing, and the drawing's own padding.
function cornerOf(view) {
  const { left, top } = view.padding();
  return view.origin().map((at, k) => at + [left, top][k]);
}

// Where a pointer is: in pixels of the figure, and as shares of the plot's width and height from its lower left.
function placeOf(figure, event) {
  const box = figure.canvas.getBoundingClientRect();
  const [left, top] = cornerOf(figure.view);
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  return { x, y, across: (x - left) / figure.view.width(), up: 1 - (y - top) / figure.view.height() };
}

function pixelsOf(figure, row) {
  const [left, top] = cornerOf(figure.view);
  const y = row[figure.data.near[1]] ?? row[figure.data.near[2]];
  return typeof y === "number" && typeof row.x === "number" ? [left + figure.view.scale("x")(row.x), top + figure.view.scale("y")(y)] : null;
}

function pointed(figure) {
  const plot = figure.plot;
  let from = null;
  const canZoom = () => figure.data.fitted.x && !figure.data.spec.facet;
  figure.near = figure.data.near.length ? true : null;
  plot.addEventListener("pointermove", (event) => {
    if (!figure.view) return;
    const at = placeOf(figure, event);
    if (from) return shade(figure, from, at);
    if (!figure.near) return;
    let [best, distance] = [null, 40 ** 2];
    for (const row of [...figure.shown.main, ...figure.shown.seeds]) {
      const found = pixelsOf(figure, row);
      const away = found ? (found[0] - at.x) ** 2 + (found[1] - at.y) ** 2 : Infinity;
      if (away < distance) [best, distance] = [row, away];
    }
    told(figure, best);
  });
  plot.addEventListener("pointerleave", () => { if (!from) told(figure, null); });
  plot.addEventListener("pointerdown", (event) => {
    if (!canZoom() || event.pointerType !== "mouse" || event.button !== 0 || !figure.view) return;
    from = placeOf(figure, event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointerup", (event) => {
    if (!from) return;
    const to = placeOf(figure, event);
    const ends = { ...figure.ends() };
    const moved = { x: Math.abs(to.x - from.x), y: Math.abs(to.y - from.y) };
    for (const [axis, share] of [["x", "across"], ["y", "up"]]) {
      if (moved[axis] < 12) continue; // a drag along one axis zooms into that alone
      let [low, high] = [ends[axis + "0"], ends[axis + "1"]];
      if (isLogarithmic(figure, axis)) [low, high] = [Math.log(low), Math.log(high)];
      const turned = axis === "y" && "x0" in figure.data.ends; // rows are counted from above
      const at = [from[share], to[share]].map((part) => Math.min(1, Math.max(0, part))).map((part) => low + (turned ? 1 - part : part) * (high - low)).sort((a, b) => a - b);
      [ends[axis + "0"], ends[axis + "1"]] = isLogarithmic(figure, axis) ? at.map(Math.exp) : at;
    }
    from = null;
    figure.box.hidden = true;
    if (Math.max(moved.x, moved.y) >= 12) zoomed(figure, ends);
  });
  plot.addEventListener("pointercancel", () => { from = null; figure.box.hidden = true; });
  plot.addEventListener("dblclick", () => { if (figure.reset) zoomed(figure, null); });
  plot.addEventListener("wheel", (event) => {
    if (!canZoom() || !(event.ctrlKey || event.metaKey)) return; // the wheel alone scrolls the page
    event.preventDefault();
    const { across, up } = placeOf(figure, event);
    scaled(figure, event.deltaY > 0 ? 1.25 : 0.8, { x: across, y: up });
  }, { passive: false });
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) walked(figure, ...step);
    else if (event.key === "Escape" && !figure.tip.hidden) told(figure, null);
    else if (figure.reset && "+=".includes(event.key)) scaled(figure, 0.6);
    else if (figure.reset && event.key === "-") scaled(figure, 1 / 0.6);
    else if (figure.reset && event.key === "0") zoomed(figure, null);
    else return;
    event.preventDefault();
  });
  plot.addEventListener("blur", () => told(figure, null));
}

function shade(figure, from, to) {
  const [x, y] = [Math.min(from.x, to.x), Math.min(from.y, to.y)];
  Object.assign(figure.box.style, { left: `${x}px`, top: `${y}px`, width: `${Math.abs(to.x - from.x)}px`, height: `${Math.abs(to.y - from.y)}px` });
  figure.box.hidden = false;
  told(figure, null);
}

function overMark(figure, event, item) {
  const row = item?.datum;
  const fits = row && figure.data.tips.every(([field]) => field in row);
  told(figure, fits ? row : null, fits ? placeOf(figure, event) : null);
}

// With arrows from value to value: along a line, and from line to line at the same x.
function walked(figure, along, across) {
  const rows = figure.shown.main;
  if (!rows.length) return;
  const name = (row) => row.series ?? row.run ?? "";
  const order = [...new Set(rows.map(name))];
  let row = figure.at ?? rows[0];
  if (figure.at && across) {
    const others = rows.filter((each) => name(each) === order[(order.indexOf(name(row)) + across + order.length) % order.length]);
    if (others[0]?.x === undefined) row = others[0];
    else row = others.reduce((best, each) => (Math.abs(each.x - figure.at.x) < Math.abs(best.x - figure.at.x) ? each : best));
  } else if (figure.at) {
    const own = rows.filter((each) => name(each) === name(row));
    row = own[Math.min(own.length - 1, Math.max(0, own.indexOf(row) + along))];
  }
  told(figure, row, figure.near ? null : { x: 8, y: 8 });
  figure.at = row;
}

// What a hover says of a row, beside it; null: nothing.
function told(figure, row, where = null) {
  figure.tip.hidden = figure.spot.hidden = !row;
  if (!row) return;
  const at = where ? [where.x, where.y] : pixelsOf(figure, row);
  if (!at) return;
  figure.at = row;
  const tips = "seed" in row && figure.data.seed_tips.length ? figure.data.seed_tips : figure.data.tips;
  const head = row.series ?? row.run;
  const lines = tips.filter(([field]) => row[field] !== null && row[field] !== undefined && !(field === "series")).map(([field, title]) => made("div", {}, made("span", { textContent: `${title} ` }), made("b", { textContent: typeof row[field] === "number" ? written(row[field]) : row[field] })));
  const called = row.run !== undefined && row.run !== head ? [row.run, head].filter(Boolean).join(", ") : head;
  figure.tip.replaceChildren(...(called === undefined ? [] : [made("strong", { textContent: called })]), ...lines);
  const room = figure.plot.clientWidth;
  const wide = figure.tip.offsetWidth;
  figure.tip.style.left = `${Math.max(0, Math.min(room - wide, at[0] + 14 + wide > room ? at[0] - wide - 14 : at[0] + 14))}px`;
  figure.tip.style.top = `${Math.max(0, at[1] - figure.tip.offsetHeight - 10)}px`;
  figure.spot.hidden = Boolean(where);
  Object.assign(figure.spot.style, { left: `${at[0]}px`, top: `${at[1]}px` });
}

function written(value) {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}
