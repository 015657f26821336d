// Figures that can be worked in. A figure is made when it is scrolled to; what stands there until then, and on paper, is its picture.
const light = matchMedia("(prefers-color-scheme: light)");
const unpacked = async (text) => {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
};
const made = (name, from = {}, ...inside) => {
  const element = Object.assign(document.createElement(name), from);
  element.append(...inside);
  return element;
};

// The drawing scripts run when the first figure is needed; the page's policy knows them by their hash.
let drawing = null;
const vega = () => {
  drawing ??= unpacked(document.getElementById("vega").textContent).then((text) => {
    document.head.append(made("script", { textContent: text }));
    return window.vegaEmbed;
  });
  return drawing;
};

// Runs by scenario, with all that a filter looks at; and what is hidden of them.
const groups = new Map();
const hidden = new Map();
let matches = () => true;
const isShown = (group, run) => !hidden.get(group)?.has(run) && matches(groups.get(group)?.get(run)?.words ?? run);

// Colours of the page's scheme; a file is always light.
const PAPER = [{ ink: "#222222", soft: "#5f6670", grid: "#E4E4E4", page: "#FFFFFF", blank: "#EDEDED" }, { ink: "#E3E6EA", soft: "#a3abb5", grid: "#343B43", page: "#1F2429", blank: "#2C333B" }];
const LIKE = { "#0072B2": "#3B8EDB", "#D55E00": "#E8731A", "#009E73": "#1DB98A", "#CC79A7": "#DE92BC", "#E69F00": "#F0B030", "#56B4E9": "#93D2F6", "#6A3D9A": "#A982DC", "#7F7F7F": "#A3A3A3", "#B8B8B8": "#5A626C" };
const FONT = 'system-ui, "Segoe UI", Roboto, sans-serif';

class Figure {
  constructor(element) {
    this.element = element;
    this.group = element.closest("[data-group]")?.dataset.group;
    this.off = new Set(); // entries of a legend of its own
    this.zoom = null; // ends of the axes, where a reader has chosen them
    this.panel = 0;
    this.seeds = false;
    this.stale = true;
    this.drawn = Promise.resolve();
  }

  async start() {
    this.data = JSON.parse(await unpacked(this.element.querySelector("script.chart").textContent));
    this.rows = Object.fromEntries(Object.entries(this.data.tables).map(([name, table]) => [name, rowsOf(table)]));
    this.own = this.data.series.length > 0; // a legend of its own, not the runs
    const there = new Set(this.rows.main.map((row) => (this.own ? row.series : row.run)));
    this.names = this.own ? this.data.series : [...(groups.get(this.group)?.keys() ?? there)].filter((name) => there.has(name));
    this.live = toolsOf(this);
    this.element.querySelector("figcaption").before(this.live);
    this.element.classList.add("works");
    new ResizeObserver(() => {
      if (Math.abs(this.plot.clientWidth - this.width) > 8) this.again();
    }).observe(this.plot);
  }

  shows(row) {
    if (row.run !== undefined && !isShown(this.group, row.run)) return false;
    if (this.own && this.off.has(row.series)) return false;
    return row.panel === undefined || row.panel === this.data.panels[this.panel]?.[0];
  }

  // What is to be seen has changed: drawn at once if it is in the window, otherwise when it comes to be.
  again() {
    this.stale = true;
    if (this.seen && this.live) this.drawn = this.drawn.then(() => this.draw()).catch((error) => this.failed(error));
    return this.drawn;
  }

  failed(error) {
    console.error(error);
    this.element.classList.remove("works");
    this.live?.remove();
    this.live = null;
  }

  async draw() {
    if (!this.stale || !this.live) return;
    this.stale = false;
    this.shown = { main: [], seeds: [], ticks: [], front: [] };
    for (const [name, rows] of Object.entries(this.rows)) {
      if (name !== "seeds" || this.seeds) this.shown[name] = rows.filter((row) => this.shows(row));
    }
    if (this.data.front) this.shown.front = frontOf(this.shown.main, this.data.front);
    this.width = this.plot.clientWidth;
    const found = await this.embed(this.canvas, light.matches ? 0 : 1, null);
    this.result?.finalize();
    this.result = found;
    this.view = found.view;
    this.view.addEventListener("pointermove", (event, item) => this.near ?? overMark(this, event, item));
    refreshed(this);
  }

  height() {
    if (this.live.closest("dialog")) return Math.max(220, innerHeight * 0.94 - 190 - this.legend.offsetHeight);
    if (this.data.spec.mark?.type === "bar") return 60 + 22 * new Set(this.shown.main.map((row) => row.run)).size;
    return "x0" in this.data.ends ? Math.min(430, this.width * 0.85) : 270;
  }

  async embed(place, scheme, legend) {
    const paper = PAPER[scheme];
    const runs = groups.get(this.group);
    const looks = this.names.map((name) => (this.own ? null : runs?.get(name)));
    const shade = (colour) => (scheme ? LIKE[colour] ?? colour : colour);
    const width = this.width || 600;
    const columns = Math.max(1, Math.min(new Set(this.shown.main.map((row) => row.run)).size, Math.floor((width - 30) / (width < 560 ? 140 : 165))));
    const put = {
      "@names": this.names,
      "@runs": [...(runs?.keys() ?? [])].filter((run) => isShown(this.group, run)),
      "@colours": looks.map((look, k) => (look ? look[scheme ? "dark" : "light"] : shade(this.data.shades[k] ?? "#7F7F7F"))),
      "@dashes": looks.map((look) => look?.dash ?? []),
      "@ink": paper.ink,
      "@blank": paper.blank,
      "@title": this.data.panels[this.panel]?.[1] ?? "",
      "@columns": columns,
      "@side": Math.floor((width - 90) / columns - 18),
      "@legend": legend,
      "@scale": isLogarithmic(this, "y") ? "log" : "linear",
    };
    const spec = JSON.parse(JSON.stringify(this.data.spec), (key, value) => {
      if (value?.type === "log") delete value.zero; // of no meaning there
      return typeof value === "string" && Object.hasOwn(put, value) ? put[value] : value;
    });
    const ends = this.ends();
    for (const param of spec.params) if (param.name in ends) param.value = ends[param.name];
    spec.datasets = { main: this.shown.main, seeds: this.shown.seeds, ticks: this.shown.ticks, front: this.shown.front };
    if (!spec.facet) Object.assign(spec, { width, height: this.height(), autosize: { type: "fit", contains: "padding" } });
    if (legend) Object.assign(spec, { title: { text: this.data.title, anchor: "start" }, background: paper.page, padding: 12 });
    const words = { labelColor: paper.ink, titleColor: paper.ink, labelFont: FONT, titleFont: FONT };
    const config = {
      background: "transparent",
      font: FONT,
      view: { stroke: null },
      axis: { ...words, gridColor: paper.grid, domainColor: paper.soft, tickColor: paper.soft, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 12, labelOverlap: "greedy", labelSeparation: 8 },
      legend: { ...words, titleFontWeight: "normal", titleFontSize: 11 },
      header: { ...words, labelFontSize: 11 },
      title: { color: paper.ink, font: FONT, fontSize: 14 },
    };
    const marks = this.shown.main.length + this.shown.seeds.length;
    const embed = await vega();
    return embed(place, spec, { mode: "vega-lite", ast: true, actions: false, tooltip: false, defaultStyle: false, logLevel: 1, renderer: marks > 1500 ? "canvas" : "svg", config });
  }

  // The ends of the axes: those that a reader has chosen, or such that all that is shown fits.
  ends() {
    if (this.zoom) return this.zoom;
    if (Object.keys(this.data.ends).length) return this.data.ends;
    const found = {};
    const rows = [...this.shown.main, ...this.shown.seeds];
    for (const axis of ["x", "y"]) {
      let [low, high] = spanOf(rows, this.data.fitted[axis] ?? []);
      if (low > high) continue;
      if (axis === "y" && this.data.band.length) { // a band may be cut off: what lies far beyond all means tells little
        const [least, most] = spanOf(rows, this.data.band);
        const far = 0.5 * (high - low) || Infinity;
        [low, high] = [Math.min(low, Math.max(least, low >= 0 ? 0 : -Infinity, low - far)), Math.max(high, Math.min(most, high + far))];
      }
      if (isLogarithmic(this, axis)) {
        [low, high] = [low / 1.25, high * 1.25];
      } else {
        const room = (high - low || Math.abs(high) || 1) * (axis === "y" ? 0.06 : 0.02);
        [low, high] = [low >= 0 && low - room < 0 ? Math.min(0, low) : low - room, high + room];
      }
      found[axis + "0"] = low;
      found[axis + "1"] = high;
    }
    return found;
  }
}

// Columns as rows; of texts the page holds each once.
function rowsOf(table) {
  const columns = Object.entries(table).map(([key, values]) => [key, values.at && values.names ? values.at.map((k) => values.names[k]) : values]);
  const count = columns.length ? columns[0][1].length : 0;
  return Array.from({ length: count }, (_, k) => Object.fromEntries(columns.map(([key, values]) => [key, values[k]])));
}

// The least and the most of these fields.
function spanOf(rows, fields) {
  let [low, high] = [Infinity, -Infinity];
  for (const row of rows) {
    for (const field of fields) {
      const value = row[field];
      if (typeof value !== "number") continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return [low, high];
}

function isLogarithmic(figure, axis) {
  return axis === "x" ? figure.data.logarithmic : Boolean(figure.log);
}

// The runs that no other beats in both: `way` is 1 where more of y is better.
function frontOf(rows, way) {
  const sorted = rows.filter((row) => row.mean !== null).sort((a, b) => a.x - b.x || way * (b.mean - a.mean));
  let best = -Infinity;
  return sorted.filter((row) => way * row.mean > best && ((best = way * row.mean), true));
}

// All figures, those in the window first.
const figures = [...document.querySelectorAll("figure")].filter((figure) => figure.querySelector("script.chart")).map((element) => new Figure(element));
async function start() {
  document.documentElement.classList.add("scripted");
  const told = JSON.parse(await unpacked(document.getElementById("runs").textContent));
  for (const { id, runs } of told) groups.set(id, new Map(runs.map((run) => [run.name, run])));
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const figure = figures.find((each) => each.element === target);
        figure.seen = isIntersecting;
        if (!isIntersecting) continue;
        figure.begun ??= figure.start();
        figure.begun.then(() => figure.again()).catch((error) => figure.failed(error));
      }
    },
    { rootMargin: "300px" },
  );
  for (const figure of figures) watch.observe(figure.element);
  light.addEventListener("change", () => figures.forEach((figure) => figure.again()));
  filters();
}
