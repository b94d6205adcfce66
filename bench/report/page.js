// Draws the charts of the page from the JSON document inside it. Prose and tables are HTML already.
(() => {
"use strict";

const report = JSON.parse(document.getElementById("document").textContent);
const list = (value) => (Array.isArray(value) ? value : []);
const finite = (value) => typeof value === "number" && Number.isFinite(value);

// Colours that stay apart under the common colour deficiencies as far as this many can; the shape of the
// points and the dash of the line carry the same information again.
const palettes = {
  light: ["#0064ad", "#d1500b", "#00876a", "#a8327f", "#5a5f00", "#4596d8", "#7a3b10", "#5b3fb5",
          "#b78103", "#111111", "#d6477e", "#6d7b88", "#00707a", "#8f2a2a"],
  dark: ["#5aaef5", "#ff8a4a", "#2cc99f", "#ee82c8", "#c3c95a", "#a9d8ff", "#cf9468", "#ab97ff",
         "#f2bf3f", "#ffffff", "#ff93b5", "#96a5b3", "#3fbdc9", "#e57373"],
};
const shapes = ["circle", "square", "triangle", "diamond", "wedge"];
const dashes = { ours: [], baseline: [7, 4], peer: [2, 3] };
const widths = { ours: 2, baseline: 1.5, peer: 1.75 };

const darkQuery = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const isDark = () => darkQuery.matches && !printing;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fontFamily = getComputedStyle(document.body).fontFamily;

// ---------------------------------------------------------------------------------------------- numbers

const grouped = (value) => String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ",");

// Three significant digits: 0.00980, 1.23, 12.3, 1,230. The same rule as in the tables.
function number(value) {
  if (!finite(value)) return "-";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-6 || size >= 1e15) return value.toExponential(2);
  const rounded = Number(value.toPrecision(3));
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(rounded)) + 1e-12));
  return decimals === 0 ? grouped(rounded) : rounded.toFixed(decimals);
}

const quantity = (value) => (Number.isInteger(value) && Math.abs(value) < 1e15 ? grouped(value) : number(value));

// Ticks: 1, 64, 1k, 256k for powers of two; 0.5, 500, 1k, 20k, 1M, 1e9 else.
function tick(value) {
  const size = Math.abs(value);
  const binary = size >= 1024 && Number.isInteger(Math.log2(size));
  const kilo = binary ? 1024 : 1000;
  if (size >= 1e9 || (size < 1e-3 && size > 0)) return Number(value.toPrecision(3)).toExponential().replace("+", "");
  if (size >= kilo * kilo) return Number((value / kilo / kilo).toPrecision(6)) + "M";
  if (size >= kilo) return Number((value / kilo).toPrecision(6)) + "k";
  return String(Number(value.toPrecision(6)));
}

// ------------------------------------------------------------------------------------------------ scales

const isLog = (axis) => Boolean(axis) && axis.scale === "log";

// The range of the values with a little air around them.
function rangeOf(values, log) {
  let min = Math.min(...values);
  let max = Math.max(...values);
  if (log) {
    const air = Math.max(Math.log(max / min) * 0.03, 0.05);
    return [min * Math.exp(-air), max * Math.exp(air)];
  }
  // Zero belongs to a linear axis unless the values are far from it and close to each other.
  if (min > 0 && min < 0.5 * max) min = 0;
  const air = (max - min) * 0.04 || Math.abs(max) * 0.1 || 1;
  return [min === 0 ? 0 : min - air, max + air];
}

// Round values between min and max, of which `room` fit the axis. Logarithmic: powers of two when the data
// are (sizes), the values themselves when they are few, else 1-2-5 steps or whole decades.
function ticksOf(min, max, log, values, room) {
  const inside = (candidates) => candidates.filter((v) => v >= min * (1 - 1e-9) && v <= max * (1 + 1e-9));
  if (!log) {
    const raw = (max - min) / Math.max(room, 2);
    const magnitude = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * magnitude).find((s) => s >= raw);
    const ticks = [];
    for (let i = Math.ceil(min / step - 1e-9); i * step <= max + step * 1e-9; ++i) ticks.push(Number((i * step).toPrecision(12)));
    return ticks;
  }
  if (values) {
    const own = inside([...new Set(values)]);
    const binary = own.length > 2 && own.every((v) => Number.isInteger(Math.log2(v)));
    if (!binary && own.length > 1 && own.length <= Math.min(room, 8)) return own;
    const low = Math.ceil(Math.log2(min)), high = Math.floor(Math.log2(max));
    if (binary && high - low > 0) {
      const step = Math.ceil((high - low + 1) / room);
      const ticks = [];
      for (let e = Math.ceil(low / step) * step; e <= high; e += step) ticks.push(2 ** e);
      return ticks;
    }
  }
  const ticks = (multiples, every) => {
    const result = [];
    for (let e = Math.floor(Math.log10(min)); e <= Math.ceil(Math.log10(max)); ++e)
      if (e % every === 0) for (const m of multiples) result.push(Number((m * 10 ** e).toPrecision(12)));
    return inside(result);
  };
  const fine = [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]].map((m) => ticks(m, 1));
  const chosen = fine.find((t) => t.length <= room) || ticks([1], Math.ceil(fine[4].length / room));
  if (chosen.length >= 2) return chosen;
  return ticksOf(min, max, false, null, room).filter((v) => v > 0);
}

// ------------------------------------------------------------------------------------------------ shapes

// Draws one point of the given shape around (x, y).
function trace(ctx, shape, x, y, r) {
  ctx.beginPath();
  if (shape === "circle") ctx.arc(x, y, r, 0, 2 * Math.PI);
  if (shape === "square") ctx.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r);
  if (shape === "triangle") polygon(ctx, [[x, y - 1.2 * r], [x + 1.1 * r, y + 0.8 * r], [x - 1.1 * r, y + 0.8 * r]]);
  if (shape === "wedge") polygon(ctx, [[x, y + 1.2 * r], [x + 1.1 * r, y - 0.8 * r], [x - 1.1 * r, y - 0.8 * r]]);
  if (shape === "diamond") polygon(ctx, [[x, y - 1.3 * r], [x + 1.3 * r, y], [x, y + 1.3 * r], [x - 1.3 * r, y]]);
}

function polygon(ctx, corners) {
  corners.forEach(([x, y], i) => (i === 0 ? ctx.moveTo(x, y) : ctx.lineTo(x, y)));
  ctx.closePath();
}

// The same line and shape as a small picture for the legend and the tooltip.
function swatch(style, width) {
  const c = width / 2;
  const at = {
    circle: `<circle cx="${c}" cy="6" r="3.2"`,
    square: `<rect x="${c - 2.8}" y="3.2" width="5.6" height="5.6"`,
    triangle: `<path d="M${c} 2.2l3.5 6.4h-7z"`,
    wedge: `<path d="M${c} 9.8l3.5 -6.4h-7z"`,
    diamond: `<path d="M${c} 1.8l4.2 4.2l-4.2 4.2l-4.2 -4.2z"`,
  }[style.shape];
  const fill = style.hollow ? "var(--paper)" : style.colour();
  return `<svg width="${width}" height="12" aria-hidden="true"><path d="M0 6h${width}" fill="none" stroke="${style.colour()}" ` +
    `stroke-width="2" stroke-dasharray="${style.dash.join(" ")}"/>${at} fill="${fill}" stroke="${style.colour()}" stroke-width="1.4"/></svg>`;
}

// A name looks the same in all charts of a question.
function stylesOf(question) {
  const styles = new Map();
  for (const chart of list(question.charts)) {
    for (const series of list(chart.series)) {
      if (styles.has(series.name)) continue;
      const index = styles.size;
      const role = series.role in dashes ? series.role : "ours";
      const round = Math.floor(index / palettes.light.length);
      styles.set(series.name, {
        colour: () => shade(palettes[isDark() ? "dark" : "light"][index % palettes.light.length], round),
        shape: shapes[index % shapes.length],
        dash: dashes[role],
        width: widths[role],
        hollow: role !== "ours",
        role,
      });
    }
  }
  return styles;
}

// Past the end of the palette colours come again a little shifted, so that no two are equal.
function shade(colour, round) {
  if (round === 0) return colour;
  const parts = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const moved = parts.map((p) => (p + (p < 128 ? 1 : -1) * 37 * round) & 255);
  return "#" + moved.map((p) => p.toString(16).padStart(2, "0")).join("");
}

// ------------------------------------------------------------------------------------------------- chart

const text = (tag, content, className) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.textContent = content;
  return node;
};

function draw(host, chart, styles) {
  const logX = isLog(chart.x), logY = isLog(chart.y);
  const usable = (p) => p && finite(p.x) && finite(p.y) && !(logX && p.x <= 0) && !(logY && p.y <= 0);
  const all = list(chart.series)
    .map((s) => ({ name: String(s.name), style: styles.get(s.name), points: list(s.points).filter(usable) }))
    .filter((s) => s.points.length > 0);
  if (all.length === 0) {
    host.replaceWith(text("p", "No values.", "muted"));
    return null;
  }
  const xs = [...new Set(all.flatMap((s) => s.points.map((p) => p.x)))].sort((a, b) => a - b);
  const indexOf = new Map(xs.map((x, i) => [x, i]));
  for (const s of all) {
    s.at = new Array(xs.length).fill(null);
    for (const p of s.points) s.at[indexOf.get(p.x)] = p;
    s.last = s.at.findLastIndex((p) => p);
    s.bars = s.points.filter((p) => finite(p.lo) && finite(p.hi) && p.lo < p.hi && !(logY && p.lo <= 0));
  }
  const ys = all.flatMap((s) => s.points.map((p) => p.y));
  const fullX = rangeOf(xs, logX), fullY = rangeOf(ys, logY);
  // Numbered from left to right, as the list beside the plot is; those without x are last.
  const crossovers = list(chart.crossovers)
    .map((c) => ({ x: c && finite(c.x) ? c.x : Infinity, y: c && c.y }))
    .sort((a, b) => (a.x < b.x ? -1 : a.x > b.x ? 1 : 0))
    .map((c, i) => ({ ...c, label: String(i + 1) }))
    .filter((c) => finite(c.x) && !(logX && c.x <= 0));
  const xLabel = (chart.x && chart.x.label) || "", yLabel = (chart.y && chart.y.label) || "";

  const state = { zoomed: false, bare: false };  // bare: no labels and marks, for counting pixels
  const ratio = () => uPlot.pxRatio;
  const font = (size, weight) => `${weight || 400} ${size * ratio()}px ${fontFamily}`;
  const measure = document.createElement("canvas").getContext("2d");
  measure.font = `400 12px ${fontFamily}`;
  const nameWidth = Math.min(150, Math.max(...all.map((s) => measure.measureText(s.name).width)));
  const size = () => {
    const width = Math.max(200, Math.floor(host.clientWidth));
    return { width, height: Math.round(Math.min(440, Math.max(300, width * 0.6))) };
  };
  const labelled = () => size().width >= 520 && all.length <= 24;
  const names = () => (labelled() ? nameWidth + 34 : 10);

  const visible = (u) => all.filter((s, i) => u.series[i + 1].show);
  const posX = (u, v) => u.valToPos(v, "x", true);
  const posY = (u, v) => u.valToPos(v, "y", true);
  const within = (u, x, y) =>
    x >= u.bbox.left - 1 && x <= u.bbox.left + u.bbox.width + 1 && y >= u.bbox.top - 1 && y <= u.bbox.top + u.bbox.height + 1;

  // Points and spreads of one series, over its line.
  function drawPoints(u, index) {
    const s = all[index - 1], ctx = u.ctx, r = 3 * ratio();
    ctx.save();
    ctx.globalAlpha = u.series[index].alpha ?? 1;
    ctx.strokeStyle = s.style.colour();
    ctx.setLineDash([]);
    ctx.lineWidth = ratio();
    for (const p of s.bars) {
      const x = Math.round(posX(u, p.x)), top = posY(u, p.hi), bottom = posY(u, p.lo);
      if (bottom - top < 2 * r || !within(u, x, top) || !within(u, x, bottom)) continue;
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, bottom);
      ctx.stroke();
    }
    ctx.lineWidth = 1.4 * ratio();
    ctx.fillStyle = s.style.hollow ? css("--paper") : s.style.colour();
    for (const p of s.points) {
      const x = posX(u, p.x), y = posY(u, p.y);
      if (!within(u, x, y)) continue;
      trace(ctx, s.style.shape, x, y, r);
      ctx.fill();
      ctx.stroke();
    }
    ctx.restore();
  }

  // Vertical lines from the numbers of the crossovers down to where the curves cross, under the curves.
  function drawCrossoverLines(u) {
    if (state.bare) return;
    const ctx = u.ctx;
    ctx.save();
    ctx.strokeStyle = css("--muted");
    ctx.lineWidth = ratio();
    ctx.setLineDash([4 * ratio(), 4 * ratio()]);
    for (const c of crossovers) {
      const x = Math.round(posX(u, c.x)) + 0.5;
      if (!within(u, x, u.bbox.top)) continue;
      ctx.beginPath();
      ctx.moveTo(x, u.bbox.top);
      ctx.lineTo(x, crossed(u, c) ? posY(u, c.y) : u.bbox.top + u.bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }
  const crossed = (u, c) => finite(c.y) && !(logY && c.y <= 0) && within(u, posX(u, c.x), posY(u, c.y));

  // A ring where the curves cross, and the crossover's number above the plot. Numbers that would touch
  // stand beside each other.
  function drawCrossoverMarks(u) {
    const ctx = u.ctx, r = 7.5 * ratio();
    const inside = crossovers.filter((c) => within(u, posX(u, c.x), u.bbox.top));
    let free = -Infinity;
    ctx.save();
    ctx.setLineDash([]);
    for (const c of inside) {
      const x = posX(u, c.x);
      if (crossed(u, c)) {
        ctx.lineWidth = 1.5 * ratio();
        ctx.strokeStyle = css("--ink");
        trace(ctx, "circle", x, posY(u, c.y), 7 * ratio());
        ctx.stroke();
      }
      const centre = Math.max(x, free + r);
      free = centre + r + ratio();
      ctx.fillStyle = css("--ink");
      trace(ctx, "circle", centre, u.bbox.top - r - 2 * ratio(), r);
      ctx.fill();
      ctx.fillStyle = css("--paper");
      ctx.font = font(10, 600);
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.fillText(c.label, centre, u.bbox.top - r - 1.5 * ratio());
    }
    ctx.restore();
  }

  function fitted(ctx, name, width) {
    if (ctx.measureText(name).width <= width) return name;
    const letters = [...name];
    while (letters.length > 1 && ctx.measureText(letters.join("") + "…").width > width) letters.pop();
    return letters.join("") + "…";
  }

  // Names at the ends of the lines: those that reach the right edge in a column beside the plot, pushed
  // apart and joined to their line; those that end earlier at their end, if there is room.
  function drawNames(u) {
    const ctx = u.ctx, line = 14 * ratio(), right = u.bbox.left + u.bbox.width;
    ctx.save();
    ctx.font = font(12);
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    ctx.setLineDash([]);
    ctx.fillStyle = css("--ink");
    const lastX = xs.findLastIndex((x) => posX(u, x) <= right + 1);
    const ends = [];
    const early = [];
    for (const s of visible(u)) {
      let i = Math.min(s.last, lastX);
      while (i >= 0 && !s.at[i]) --i;
      if (i < 0) continue;
      const x = posX(u, s.at[i].x), y = posY(u, s.at[i].y);
      if (!within(u, x, y)) continue;
      (i === lastX && xs.length > 1 ? ends : early).push({ s, x, y });
    }
    ends.sort((a, b) => a.y - b.y);
    const bottom = u.bbox.top + u.bbox.height;
    let floor = u.bbox.top - line;
    for (const e of ends) floor = e.at = Math.max(e.y, floor + line);
    let ceiling = bottom + line;
    for (const e of [...ends].reverse()) ceiling = e.at = Math.min(e.at, ceiling - line);
    for (const e of ends) {
      const from = e.x + 5 * ratio(), to = right + 16 * ratio();
      ctx.globalAlpha = u.series[all.indexOf(e.s) + 1].alpha ?? 1;
      ctx.strokeStyle = e.s.style.colour();
      ctx.lineWidth = ratio();
      ctx.beginPath();
      ctx.moveTo(from, e.y);
      ctx.lineTo(right + 2 * ratio(), e.y);
      ctx.lineTo(to, e.at);
      ctx.stroke();
      ctx.fillText(fitted(ctx, e.s.name, nameWidth * ratio()), to + 4 * ratio(), e.at);
    }

    const boxes = [];
    const pad = 2 * ratio();
    const lines = crossovers.map((c) => posX(u, c.x));
    const marked = (b) => lines.some((x) => x > b.x0 && x < b.x1);
    const hits = (b) =>
      boxes.some((o) => b.x0 < o.x1 && o.x0 < b.x1 && b.y0 < o.y1 && o.y0 < b.y1) ||
      visible(u).some((s) => segments(u, s).some((q) => crosses(q, b)));
    for (const e of early) {
      const name = fitted(ctx, e.s.name, 160 * ratio()), w = ctx.measureText(name).width, gap = 7 * ratio();
      const places = [[e.x + gap, e.y], [e.x + gap, e.y - 0.8 * line], [e.x + gap, e.y + 0.8 * line],
                      [e.x - w / 2, e.y - line], [e.x - w - gap, e.y - 0.4 * line], [e.x - w - gap, e.y - line]];
      const free = places
        .map(([x, y]) => ({ x0: x - pad, x1: x + w + pad, y0: y - line / 2, y1: y + line / 2 }))
        .filter((b) => b.x0 > u.bbox.left && b.x1 < right && b.y0 > u.bbox.top - 4 && b.y1 < bottom && !hits(b));
      const box = free.find((b) => !marked(b)) || free[0];
      if (!box) continue;
      boxes.push(box);
      if (marked(box)) {
        ctx.fillStyle = css("--paper");
        ctx.fillRect(box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0);
        ctx.fillStyle = css("--ink");
      }
      ctx.globalAlpha = u.series[all.indexOf(e.s) + 1].alpha ?? 1;
      ctx.fillText(name, box.x0 + pad, (box.y0 + box.y1) / 2);
    }
    ctx.restore();
  }

  function segments(u, s) {
    const at = s.points.map((p) => [posX(u, p.x), posY(u, p.y)]).sort((a, b) => a[0] - b[0]);
    return at.slice(1).map((b, i) => [at[i], b]);
  }

  // Does the segment from a to b touch the box? Clips it to the box's columns and compares heights.
  function crosses([a, b], box) {
    if (b[0] < box.x0 || a[0] > box.x1) return false;
    const y = (x) => (b[0] === a[0] ? a[1] : a[1] + ((b[1] - a[1]) * (x - a[0])) / (b[0] - a[0]));
    const y0 = y(Math.max(a[0], box.x0)), y1 = y(Math.min(b[0], box.x1));
    return Math.max(y0, y1) > box.y0 && Math.min(y0, y1) < box.y1;
  }

  // The values under the cursor, smallest first; the line nearest to the cursor in bold.
  const tip = text("div", "", "tip");
  tip.hidden = true;
  function showTip(u) {
    const { idx, left, top } = u.cursor;
    const rows = idx == null || left < 0 ? [] : visible(u).filter((s) => s.at[idx]);
    tip.hidden = rows.length === 0;
    if (tip.hidden) return;
    rows.sort((a, b) => a.at[idx].y - b.at[idx].y);
    const distance = (s) => Math.abs(u.valToPos(s.at[idx].y, "y") - top);
    const near = rows.reduce((best, s) => (distance(s) < distance(best) ? s : best));
    const table = document.createElement("table");
    table.append(text("caption", xLabel ? `${xLabel}: ${quantity(xs[idx])}` : quantity(xs[idx])));
    for (const s of rows) {
      const p = s.at[idx], row = table.insertRow();
      row.className = s === near ? "near" : "";
      row.insertCell().innerHTML = swatch(s.style, 18);
      row.append(text("td", s.name, "who"), text("td", number(p.y)));
      const spread = finite(p.lo) && finite(p.hi) && p.lo < p.hi;
      row.append(text("td", spread ? `${number(p.lo)}–${number(p.hi)}` : "", "range"));
    }
    tip.replaceChildren(table);
    // Beside the cursor, on the side that has room.
    const plotLeft = u.over.offsetLeft + u.root.offsetLeft, plotTop = u.over.offsetTop + u.root.offsetTop;
    const x = plotLeft + left, w = tip.offsetWidth, h = tip.offsetHeight;
    const room = host.clientWidth - x - 16 - w >= 0;
    tip.style.left = Math.max(0, Math.min(room ? x + 16 : x - 16 - w, host.clientWidth - w)) + "px";
    tip.style.top = Math.max(0, Math.min(plotTop + top - h / 2, plotTop + u.over.clientHeight - h)) + "px";
  }

  // The cursor stays on the measured sizes. Nearest on the screen, not in value.
  function snap(u, left, top) {
    if (left < 0) return [left, top];
    let best = left, distance = Infinity;
    for (const x of xs) {
      const at = u.valToPos(x, "x");
      if (Math.abs(at - left) < distance) [best, distance] = [at, Math.abs(at - left)];
    }
    return [best, top];
  }

  const axis = (side, log, values, spacing) => ({
    side,
    stroke: () => css("--muted"),
    font: `12px ${fontFamily}`,
    grid: { stroke: () => css("--grid"), width: 1 },
    ticks: { show: false },
    gap: 6,
    size: side === 2 ? 24 : (u, strings) => Math.max(30, ...list(strings).map((v) => measure.measureText(v).width + 14)),
    splits: (u, axisIndex, min, max) => {
      const length = (side === 2 ? u.bbox.width : u.bbox.height) / ratio();
      return ticksOf(min, max, log, values, Math.max(2, Math.floor(length / spacing)));
    },
    values: (u, splits) => splits.map(tick),
    filter: (u, splits) => splits,
  });
  const scale = (log, base, full) => ({
    time: false,
    distr: log ? 3 : 1,
    log: base,
    range: (u, min, max) => (state.zoomed ? [min, max] : full),
  });

  const options = {
    ...size(),
    padding: [18, names, 0, 0],
    legend: { show: false },
    focus: { alpha: 0.15 },
    scales: { x: scale(logX, 2, fullX), y: scale(logY, 10, fullY) },
    axes: [axis(2, logX, xs, 46), axis(3, logY, null, logY ? 30 : 40)],
    series: [{}, ...all.map((s) => ({
      label: s.name,
      stroke: s.style.colour,
      width: s.style.width,
      dash: s.style.dash,
      spanGaps: true,
      points: { show: false },
      paths: uPlot.paths.linear({ alignGaps: 0 }),
    }))],
    cursor: {
      y: false,
      move: snap,
      points: { show: false },
      drag: { x: true, y: true, uni: 24, setScale: false },
      bind: { dblclick: (u) => () => { state.zoomed = false; refit(u); return null; } },
    },
    hooks: {
      drawAxes: [drawCrossoverLines],
      drawSeries: [drawPoints],
      draw: [(u) => { if (!state.bare) { drawCrossoverMarks(u); if (labelled()) drawNames(u); } }],
      setCursor: [showTip],
      setSelect: [zoom],
    },
  };

  // Dragging over an area zooms into it; a double click shows all again.
  function zoom(u) {
    const { left, top, width, height } = u.select;
    if (width < 10 && height < 10) return;
    const spanX = width < 10 ? [0, u.over.clientWidth] : [left, left + width];
    const spanY = height < 10 ? [0, u.over.clientHeight] : [top, top + height];
    state.zoomed = true;
    const [x0, x1] = spanX.map((v) => u.posToVal(v, "x")), [y1, y0] = spanY.map((v) => u.posToVal(v, "y"));
    u.batch(() => {
      u.setScale("x", { min: x0, max: x1 });
      u.setScale("y", { min: y0, max: y1 });
    });
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }
  function refit(u) {
    u.batch(() => {
      u.setScale("x", { min: fullX[0], max: fullX[1] });
      u.setScale("y", { min: fullY[0], max: fullY[1] });
    });
  }

  const log = (axisOf) => (isLog(axisOf) ? " (log scale)" : "");
  host.append(text("div", yLabel + log(chart.y), "axis-y"));
  const plot = new uPlot(options, [xs, ...all.map((s) => s.at.map((p) => (p ? p.y : null)))], host);
  host.append(text("div", xLabel + log(chart.x), "axis-x"), tip);

  // The legend: a button for each series, and one for all.
  const legend = text("div", "", "legend");
  const all_button = text("button", "Hide all", "all");
  const sync = () => {
    buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(plot.series[i + 1].show)));
    all_button.textContent = plot.series.slice(1).some((s) => s.show) ? "Hide all" : "Show all";
  };
  const buttons = all.map((s, i) => {
    const button = document.createElement("button");
    button.type = "button";
    const role = s.style.role === "ours" ? [] : [text("small", s.style.role)];
    button.append(text("span", ""), text("span", s.name, "label"), ...role);
    button.title = s.name;
    button.addEventListener("click", () => { plot.setSeries(i + 1, { show: !plot.series[i + 1].show }); sync(); });
    const focus = (on) => () => plot.setSeries(on && plot.series[i + 1].show ? i + 1 : null, { focus: true });
    button.addEventListener("mouseenter", focus(true));
    button.addEventListener("mouseleave", focus(false));
    return button;
  });
  all_button.type = "button";
  all_button.addEventListener("click", () => {
    const show = !plot.series.slice(1).some((s) => s.show);
    all.forEach((s, i) => plot.setSeries(i + 1, { show }));
    sync();
  });
  legend.append(...buttons, ...(all.length > 1 ? [all_button] : []));
  host.after(legend);
  sync();

  const paint = () => {
    buttons.forEach((b, i) => (b.firstChild.innerHTML = swatch(all[i].style, 26)));
    plot.redraw(false, true);
  };
  paint();
  // In the next frame: to change the size inside the observer's callback would be reported as an error.
  new ResizeObserver(() => requestAnimationFrame(() => {
    const next = size();
    if (next.width !== plot.width) plot.setSize(next);
  })).observe(host);

  return { chart, plot, all, state, paint };
}

const charts = [];
for (const host of document.querySelectorAll("[data-chart]")) {
  const [q, c] = host.dataset.chart.split(".").map(Number);
  const question = list(report.questions)[q];
  question.styles ??= stylesOf(question);
  const drawn = draw(host, question.charts[c], question.styles);
  if (drawn) charts.push(drawn);
}

const paintAll = () => charts.forEach((c) => c.paint());
darkQuery.addEventListener("change", paintAll);

// On paper: light colours, and the tables open.
let closed = [];
addEventListener("beforeprint", () => {
  printing = true;
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((d) => (d.open = true));
  paintAll();
});
addEventListener("afterprint", () => {
  printing = false;
  closed.forEach((d) => (d.open = false));
  paintAll();
});

// -------------------------------------------------------------------------------------------- self-check

// Opened as page.html#selfcheck, the page draws each series alone, counts the pixels of its colour and
// writes what it found into <pre id="selfcheck">: a line for each series, for each error, and a last line
// of totals. The test of the page reads it.
async function selfcheck() {
  const lines = [];
  let empty = 0, count = 0;
  const settle = () => new Promise((resolve) => setTimeout(resolve, 0));
  for (const { chart, plot, all, state } of charts) {
    state.bare = true;
    for (let i = 0; i < all.length; ++i) {
      all.forEach((s, j) => plot.setSeries(j + 1, { show: i === j }));
      await settle();
      const pixels = pixelsOf(plot, all[i].style.colour());
      ++count;
      if (pixels === 0) ++empty;
      lines.push(`series ${JSON.stringify([chart.id, all[i].name])} pixels=${pixels}`);
    }
    all.forEach((s, j) => plot.setSeries(j + 1, { show: true }));
    state.bare = false;
    plot.redraw();
    await settle();
  }
  for (const error of cairnErrors) lines.push("error " + JSON.stringify(error));
  lines.push(`selfcheck charts=${charts.length} series=${count} empty=${empty} errors=${cairnErrors.length} done`);
  const out = text("pre", lines.join("\n"));
  out.id = "selfcheck";
  out.hidden = true;
  document.body.append(out);
}

// Pixels of the plot area within a small distance of the colour.
function pixelsOf(plot, colour) {
  const want = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const { left, top, width, height } = plot.bbox;
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [width, height];
  const ctx = copy.getContext("2d", { willReadFrequently: true });
  ctx.drawImage(plot.ctx.canvas, left, top, width, height, 0, 0, width, height);
  const { data } = ctx.getImageData(0, 0, width, height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 200 && want.every((w, k) => Math.abs(data[i + k] - w) <= 12)) ++count;
  return count;
}

if (location.hash === "#selfcheck") addEventListener("load", () => setTimeout(selfcheck, 50));
})();
