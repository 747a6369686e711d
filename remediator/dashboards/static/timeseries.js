// Panels of type timeseries: uPlot lines, remediation actions and thresholds as dashed lines, legend, tooltip.
import { colour, css, text } from "./format.js";

const LEGEND = 12;

/** A colour as a canvas accepts it: without CSS variables. */
function ink(wanted) {
  const found = /^var\((--[\w-]+)\)$/.exec(css(wanted));
  return found ? getComputedStyle(document.documentElement).getPropertyValue(found[1]).trim() : css(wanted);
}

/** A fill colour. Stacked areas are opaque, because transparent ones would mix their colours. */
function mixed(wanted, percent, behind) {
  return `color-mix(in srgb, ${ink(wanted)} ${percent}%, ${behind ? ink(behind) : "transparent"})`;
}

/** All series on one time axis. A missing sample is a gap (null), not 0. */
export function aligned(series, start, end, step) {
  const times = [];
  for (let when = start; when <= end; when += step) times.push(when);
  const columns = series.map(({ points }) => {
    const column = new Array(times.length).fill(null);
    for (const [when, value] of points) {
      const row = Math.round((when - start) / step);
      if (row >= 0 && row < column.length && Number.isFinite(value)) column[row] = value;
    }
    return column;
  });
  return [times, ...columns];
}

/** Columns as running sums, for stacked areas. */
export function stacked([times, ...columns]) {
  const sum = new Array(times.length).fill(0);
  return [times, ...columns.map((column) => column.map((value, row) => (value === null ? null : (sum[row] += value))))];
}

/** Draws into `body`. `found` has the named series, start, end and step; `marks` are the remediation actions. */
export function timeseries(body, panel, found, { marks, zoom }) {
  const defaults = panel.fieldConfig?.defaults ?? {};
  const custom = defaults.custom ?? {};
  const piled = custom.stacking?.mode === "normal";
  const plain = aligned(found.series, found.start, found.end, found.step);
  const drawn = piled ? stacked(plain) : plain;
  const order = piled ? found.series.map((_, n) => n).reverse() : found.series.map((_, n) => n);
  const canvas = document.createElement("div");
  canvas.className = "canvas";
  const legend = document.createElement("div");
  legend.className = "legend";
  found.series.slice(0, LEGEND).forEach((one, n) => legend.append(key(one.name, colour(n))));
  if (found.series.length > LEGEND) legend.append(`and ${found.series.length - LEGEND} more series`);
  body.replaceChildren(canvas, ...(found.series.length > 1 || found.series[0].name !== panel.title ? [legend] : []));
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  const lone = found.series.map((_, n) => plain[n + 1].filter((value) => value !== null).length < 3);
  const options = {
    width: Math.max(canvas.clientWidth, 50),
    height: Math.max(canvas.clientHeight, 60),
    legend: { show: false },
    cursor: { sync: { key: "board" }, drag: { x: true, y: false, setScale: false }, points: { size: 5 } },
    scales: { x: { range: () => [found.start, found.end] }, y: { range: (_, low, high) => limits(low, high, defaults) } },
    axes: [
      { stroke: ink("muted"), grid: { stroke: ink("line"), width: 1 }, ticks: { show: false }, space: 70, size: 26, font: "11px system-ui, sans-serif",
        values: (_, ticks) => ticks.map((tick) => clock(tick, found.end - found.start)) },
      { stroke: ink("muted"), grid: { stroke: ink("line"), width: 1 }, ticks: { show: false }, space: 28, font: "11px system-ui, sans-serif",
        size: (_, labels) => 14 + 6.3 * Math.max(1, ...(labels ?? []).map((label) => label.length)),
        values: (_, ticks) => ticks.map((tick) => text(Number(tick.toPrecision(10)), defaults.unit)) },
    ],
    series: [{}, ...order.map((n) => ({
      label: found.series[n].name,
      stroke: ink(colour(n)),
      width: custom.lineWidth === 0 ? 0 : 1.5,
      fill: piled ? mixed(colour(n), custom.fillOpacity ?? 40, "panel") : found.series.length <= 3 ? mixed(colour(n), custom.fillOpacity ?? 8, null) : undefined,
      points: { show: lone[n], size: 5 },
      spanGaps: false,
    }))],
    hooks: {
      draw: [(plot) => { lines(plot, defaults, custom); actions(plot, marks); }],
      setCursor: [(plot) => hover(plot, tip, found, plain, defaults.unit)],
      setSelect: [(plot) => plot.select.width > 5 && zoom(plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x"))],
    },
  };
  const plot = new uPlot(options, [drawn[0], ...order.map((n) => drawn[n + 1])], canvas);
  plot.over.append(tip);
  return plot;
}

function key(label, wanted) {
  const one = document.createElement("span");
  const patch = document.createElement("i");
  patch.style.background = css(wanted);
  one.append(patch, label);
  return one;
}

/** The y range: the limits of the panel or of the data, with a margin, and never empty. */
export function limits(low, high, defaults) {
  if (low === null || high === null) return [defaults.min ?? 0, defaults.max ?? 1];
  const bottom = Math.min(defaults.min ?? low, low);
  const top = Math.max(defaults.max ?? high, high);
  if (top - bottom < 1e-12) return bottom >= 0 ? [Math.min(bottom, 0), top > 0 ? top * 1.2 : 1] : [bottom * 1.2, 0];
  const room = (top - bottom) * 0.06;
  return [defaults.min === undefined ? bottom - room : bottom, top + room];
}

function clock(when, range) {
  const date = new Date(when * 1000);
  const time = date.toTimeString().slice(0, range < 900 ? 8 : 5);
  return range > 86400 ? `${date.getMonth() + 1}/${date.getDate()} ${time}` : time;
}

function lines(plot, defaults, custom) {
  if (!(custom.thresholdsStyle?.mode ?? "off").match(/line|dashed/)) return;
  for (const step of defaults.thresholds?.steps ?? []) {
    const y = step.value === null ? NaN : plot.valToPos(step.value, "y", true);
    if (!(y >= plot.bbox.top && y <= plot.bbox.top + plot.bbox.height)) continue;
    stroke(plot, ink(step.color), [plot.bbox.left, y, plot.bbox.left + plot.bbox.width, y]);
  }
}

function actions(plot, marks) {
  for (const { when } of marks) {
    const x = plot.valToPos(when, "x", true);
    if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
    stroke(plot, ink("purple"), [x, plot.bbox.top, x, plot.bbox.top + plot.bbox.height]);
  }
}

function stroke(plot, wanted, [x1, y1, x2, y2]) {
  const { ctx } = plot;
  ctx.save();
  ctx.strokeStyle = wanted;
  ctx.globalAlpha = 0.7;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
  ctx.restore();
}

function hover(plot, tip, found, plain, unit) {
  const { idx, left } = plot.cursor;
  tip.hidden = idx === null || idx === undefined || left < 0 || !plot.over.matches(":hover");
  if (tip.hidden) return;
  const rows = found.series.map((one, n) => ({ label: one.name, value: plain[n + 1][idx], n }))
    .filter((row) => row.value !== null).sort((a, b) => b.value - a.value).slice(0, LEGEND);
  const head = document.createElement("b");
  head.textContent = new Date(plain[0][idx] * 1000).toLocaleString();
  tip.replaceChildren(head, ...rows.map((row) => key(`${row.label}: ${text(row.value, unit)}`, colour(row.n))));
  tip.classList.toggle("left", left > plot.over.clientWidth / 2);
}
