// The page of a dashboard: lays out the panels, fetches their data, draws them and refreshes them.
import { controls, Shown } from "./controls.js";
import * as data from "./data.js";
import { name } from "./format.js";
import { gauge, stat } from "./numbers.js";
import { statetimeline } from "./statetimeline.js";
import { behind, table } from "./table.js";
import { timeseries } from "./timeseries.js";

const DRAW = { timeseries, stat, gauge, table, "state-timeline": statetimeline };
const uid = document.documentElement.dataset.uid;
const plots = new Map();
const latest = new Map();
let state, board, marks = [], timer, round = 0;

document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "";

function place(panel) {
  const frame = document.createElement("section");
  const head = document.createElement(panel.type === "row" ? "h2" : "h3");
  const { x, y, w, h } = panel.gridPos;
  frame.className = `panel ${panel.type}`;
  frame.dataset.panel = panel.id;
  frame.style.setProperty("--column", `${x + 1} / span ${w}`);
  frame.style.setProperty("--row", `${y + 1} / span ${h}`);
  frame.style.setProperty("--height", h);
  head.textContent = panel.title;
  frame.append(head);
  if (panel.type === "row") return frame;
  if (panel.description) {
    frame.setAttribute("aria-description", panel.description);
    head.title = panel.description;
    head.classList.add("told");
  }
  for (const link of panel.links ?? []) head.append(" ", anchor(link));
  const values = document.createElement("details");
  const summary = document.createElement("summary");
  const body = document.createElement("div");
  summary.textContent = "≡";
  summary.title = "Show the values as a table";
  summary.setAttribute("aria-label", `Values of ${panel.title}`);
  values.className = "values";
  values.append(summary, document.createElement("div"));
  values.addEventListener("toggle", () => fill(panel, values));
  body.className = "body";
  body.textContent = panel.type === "text" ? panel.options?.content ?? "" : "…";
  frame.append(body);
  if (panel.type !== "text" && panel.type !== "table") frame.append(values);
  return frame;
}

function fill(panel, values) {
  const found = latest.get(panel.id);
  if (values.open && found) values.lastChild.replaceChildren(behind(panel, found));
}

/** A link to another dashboard. It keeps the variables and the time range if the link says so. */
function anchor(link) {
  const made = document.createElement("a");
  // The dashboards contain links for Grafana: /d/UID.
  const address = new URL(link.url.replace(/^\//, "").replace(/^d\/([^/?#]+)[^?#]*/, "dashboards/$1"), data.root);
  if (link.keepTime) { address.searchParams.set("from", state.from); address.searchParams.set("to", state.to); }
  if (link.includeVars) {
    for (const one of state.names) for (const value of state.chosen[one]) address.searchParams.append(`var-${one}`, value);
  }
  made.href = address.href;
  made.textContent = link.title;
  made.title = link.tooltip ?? "";
  return made;
}

async function ask(panel) {
  const targets = (panel.targets ?? []).filter((one) => one.expr && !one.hide);
  const answers = await Promise.all(targets.map((one) => data.target(uid, panel.id, one.refId, state.query())));
  const { start, end, step } = answers[0];
  const series = answers.flatMap((answer, n) => answer.series.map((one) => ({ ...one, name: name(one.labels, targets[n].legendFormat) })));
  const left = answers.reduce((sum, answer) => sum + answer.total - answer.series.length, 0);
  series.sort((a, b) => (panel.type === "table" ? 0 : a.name.localeCompare(b.name, undefined, { numeric: true })));
  return { start, end, step, series, left };
}

async function draw(panel, frame, mine) {
  const body = frame.querySelector(".body");
  let found, sentence;
  try { found = await ask(panel); } catch (error) {
    if (!(error instanceof data.Refused)) throw error;
    sentence = error.message;
  }
  if (mine !== round) return;
  plots.get(panel.id)?.destroy();
  plots.delete(panel.id);
  body.className = "body";
  const numbers = found?.series.some((one) => one.points.some(([, value]) => !Number.isNaN(value)));
  frame.dataset.state = sentence ? "error" : numbers ? "drawn" : "empty";
  if (!sentence && found.series.length && !numbers) sentence = "No value in this range: series match, but all their values are NaN, for example after a division by zero.";
  if (frame.dataset.state !== "drawn") {
    latest.delete(panel.id);
    body.classList.add("said");
    body.textContent = sentence ?? (panel.fieldConfig?.defaults?.noValue || "No data in this range.");
    return;
  }
  latest.set(panel.id, found);
  const plot = DRAW[panel.type]?.(body, panel, found, { marks, zoom });
  if (plot) plots.set(panel.id, plot);
  if (!DRAW[panel.type]) body.textContent = `Panel type ${panel.type} is not supported.`;
  if (found.left) body.append(`${found.left} more series are not shown.`);
  fill(panel, frame.querySelector(".values") ?? {});
}

function zoom(from, to) {
  if (to - from < 60) return;
  state.from = String(Math.round(from * 1000));
  state.to = String(Math.round(to * 1000));
  state.keep();
  show();
}

function tell() {
  const said = marks.slice(-8).map(({ when, labels }) => `${new Date(when * 1000).toTimeString().slice(0, 8)} ${Object.values(labels).join(" ")}`);
  document.getElementById("actions").textContent = said.length ? `Remediation actions in this range (dashed lines): ${said.join(" · ")}` : "";
}

/** Draws all panels and schedules the next refresh. A hidden page refreshes when it becomes visible. */
async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  document.documentElement.dataset.drawn = "";
  try { marks = await data.annotations(uid, state.query()); } catch { marks = []; }
  if (mine !== round) return;
  tell();
  const panels = board.panels.filter((one) => one.type !== "row" && one.type !== "text");
  await Promise.all(panels.map((panel) => draw(panel, document.querySelector(`[data-panel="${panel.id}"]`), mine)));
  if (mine !== round) return;
  document.documentElement.dataset.drawn = String(mine);
  if (state.seconds) timer = setTimeout(() => (document.hidden ? again() : refresh()), state.seconds * 1000);
}

function again() {
  document.addEventListener("visibilitychange", () => refresh(), { once: true });
}

function show() {
  const links = document.getElementById("links");
  links.replaceChildren(...(board.links ?? []).filter((one) => one.url).map(anchor));
  controls(document.getElementById("controls"), uid, state, () => { links.replaceChildren(...(board.links ?? []).filter((one) => one.url).map(anchor)); refresh(); });
  refresh();
}

async function start() {
  const main = document.getElementById("panels");
  try { board = await data.board(uid); } catch (error) { main.textContent = error.message; return; }
  board.panels = board.panels.flatMap((one) => [one, ...(one.panels ?? [])]);
  state = new Shown(board);
  main.replaceChildren(...board.panels.map(place));
  new ResizeObserver(() => {
    for (const plot of plots.values()) {
      const { clientWidth: width, clientHeight: height } = plot.root.parentElement;
      if (width > 50 && height > 50 && (width !== plot.width || height !== plot.height)) plot.setSize({ width, height });
    }
  }).observe(main);
  show();
}

start();
