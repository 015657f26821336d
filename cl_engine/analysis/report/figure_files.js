// Figures taken along: their data, and the figure as a file; and one box that filters runs in figures, tables and contents.
async function taken(figure, kind) {
  const name = [figure.group, figure.element.closest("article")?.id, figure.element.dataset.name].filter((part, k, all) => part && !(k === 0 && all[1])).join("-");
  if (kind === "CSV") return saved(`${name}.csv`, new Blob([csvOf(figure)], { type: "text/csv" }));
  const many = figure.names.filter((entry) => figure.shown.main.some((row) => (row.series ?? row.run) === entry)).length;
  const legend = { title: null, orient: "bottom", columns: Math.max(1, Math.min(many, Math.floor((figure.width || 600) / 150))), labelLimit: 260, values: figure.names.filter((entry) => figure.shown.main.some((row) => (row.series ?? row.run) === entry)) };
  const found = await figure.embed(document.createElement("div"), 0, legend);
  try {
    if (kind === "SVG") saved(`${name}.svg`, new Blob([await found.view.toSVG()], { type: "image/svg+xml" }));
    else (await found.view.toCanvas(2)).toBlob((blob) => saved(`${name}.png`, blob), "image/png");
  } finally {
    found.finalize();
  }
}

// The rows that are shown, those of single seeds below the others.
function csvOf(figure) {
  const rows = [...figure.shown.main, ...figure.shown.seeds];
  const skip = new Set(["wide", "place", "left", "right", "top", "bottom", ...(figure.own ? [] : ["series"])]);
  const titles = Object.fromEntries(figure.data.tips.filter(([field]) => field === "x"));
  const fields = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((field) => !skip.has(field) && !(field === "panel" && figure.data.panels.length < 2));
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [fields.map((field) => titles[field] ?? field), ...rows.map((row) => fields.map((field) => row[field]))].map((line) => line.map(cell).join(",")).join("\n") + "\n";
}

function saved(name, blob) {
  const link = made("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Pictures that are no figures: the page's colours and letters are put into the file.
async function pictureTaken(drawn, name, kind) {
  const svg = drawn.querySelector("svg").cloneNode(true);
  const style = getComputedStyle(document.documentElement);
  const letters = new Set([...svg.querySelectorAll("use")].map((use) => use.getAttribute("href").slice(1)));
  const defs = document.createElementNS("http://www.w3.org/2000/svg", "defs");
  for (const letter of letters) {
    if (!svg.querySelector(`[id="${letter}"]`)) defs.append(document.getElementById(letter).cloneNode(true));
  }
  svg.prepend(defs);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const text = new XMLSerializer().serializeToString(svg).replace(/var\((--p[0-9a-f]{6})\)/g, (whole, variable) => style.getPropertyValue(variable).trim());
  if (kind === "SVG") return saved(`${name}.svg`, new Blob([text], { type: "image/svg+xml" }));
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = made("canvas", { width: width * 2, height: height * 2 });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toBlob((blob) => saved(`${name}.png`, blob), "image/png");
}
for (const figure of document.querySelectorAll("figure")) {
  const drawn = figure.querySelector(".drawn");
  if (!drawn || figure.querySelector("script.chart")) continue;
  const name = [figure.closest("[data-group]")?.dataset.group, figure.closest("article")?.id, figure.dataset.name].filter(Boolean).join("-");
  const files = made("span", { className: "files" });
  for (const kind of ["SVG", "PNG"]) {
    const button = made("button", { type: "button", textContent: kind, title: `Download it as ${kind}`, onclick: () => pictureTaken(drawn, name, kind) });
    button.setAttribute("aria-label", `Download as ${kind}: ${drawn.getAttribute("aria-label")}`);
    files.append(button);
  }
  figure.querySelector("button.enlarge")?.before(files);
}

// Words that all must be there; a comma stands for “or”; a word after a minus must be nowhere, whatever else holds.
function asked(text) {
  const ways = text.toLowerCase().split(",").map((way) => way.split(/\s+/).filter(Boolean));
  const not = ways.flat().filter((word) => word.startsWith("-") && word.length > 1).map((word) => word.slice(1));
  const wanted = ways.map((way) => way.filter((word) => !word.startsWith("-"))).filter((way) => way.length);
  return (words) => {
    const found = words.toLowerCase();
    return !not.some((word) => found.includes(word)) && (!wanted.length || wanted.some((way) => way.every((word) => found.includes(word))));
  };
}

function filters() {
  const box = document.getElementById("filter");
  const all = [...groups].flatMap(([id, runs]) => [...runs.values()].map((run) => ({ id, ...run })));
  if (!box || all.length < 2) return;
  const input = box.querySelector("input");
  const count = box.querySelector("output");
  box.hidden = false;
  const wordsOf = (group, name) => (groups.get(group)?.get(name)?.words ?? all.filter((run) => run.name === name).map((run) => run.words).join(" ")) || name;
  const apply = () => {
    matches = asked(input.value);
    for (const row of document.querySelectorAll("main tbody tr[data-name]")) row.hidden = !matches(wordsOf(row.closest("[data-group]")?.dataset.group, row.dataset.name));
    for (const article of document.querySelectorAll("article[data-name]")) {
      article.hidden = !matches(wordsOf(article.closest("[data-group]").dataset.group, article.dataset.name));
      const entry = document.querySelector(`nav a[href="#${article.getAttribute("aria-labelledby")}"]`);
      if (entry) entry.parentElement.hidden = article.hidden;
    }
    const left = all.filter((run) => matches(run.words)).length;
    count.textContent = input.value.trim() ? `${left} of ${all.length} runs` : `${all.length} runs`;
    for (const figure of figures) figure.again();
  };
  let waiting = 0;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 120);
  });
  apply();
}

if (figures.length && window.DecompressionStream) start();
