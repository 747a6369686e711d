// The controls: variables, time range and refresh interval, which the URL keeps, and the theme.
import { choices } from "./data.js";

const RANGES = { "now-5m": "last 5 min", "now-15m": "last 15 min", "now-30m": "last 30 min", "now-1h": "last 1 h", "now-3h": "last 3 h", "now-6h": "last 6 h", "now-12h": "last 12 h", "now-24h": "last 1 day", "now-2d": "last 2 days", "now-7d": "last 7 days" };
const REFRESH = { "": "off", "5s": "5 s", "10s": "10 s", "30s": "30 s", "1m": "1 min" };

function select(label, options, value, changed) {
  const frame = document.createElement("label");
  const box = document.createElement("select");
  for (const [key, said] of Object.entries(options)) box.add(new Option(said, key, false, key === value));
  if (!(value in options)) box.add(new Option(/^now-/.test(value) ? `last ${value.slice(4)}` : "custom range", value, true, true), 0);
  box.addEventListener("change", () => changed(box.value));
  frame.append(label, box);
  return frame;
}

/** The state of the page, read from and written to the URL. */
export class Shown {
  constructor(board) {
    const address = new URLSearchParams(location.search);
    this.names = board.templating.list.filter((one) => one.type === "query").map((one) => one.name);
    this.labels = Object.fromEntries(board.templating.list.map((one) => [one.name, one.label || one.name]));
    this.from = address.get("from") ?? board.time?.from ?? "now-1h";
    this.to = address.get("to") ?? board.time?.to ?? "now";
    this.refresh = address.get("refresh") ?? (board.refresh || "");
    this.chosen = Object.fromEntries(this.names.map((name) => [name, address.getAll(`var-${name}`).filter((one) => one && one !== "$__all" && one !== "All")]));
  }

  /** The URL parameters of each request: time range and selected values of variables. */
  query() {
    const query = new URLSearchParams({ from: this.from, to: this.to });
    for (const name of this.names) for (const value of this.chosen[name]) query.append(`var-${name}`, value);
    return query;
  }

  keep() {
    const query = this.query();
    if (this.refresh) query.set("refresh", this.refresh);
    history.replaceState(null, "", `?${query}`);
  }

  get seconds() {
    const found = /^(\d+)([sm])$/.exec(this.refresh);
    return found ? Number(found[1]) * (found[2] === "m" ? 60 : 1) : 0;
  }
}

/** Draws the controls. Calls `changed` after each change. */
export function controls(form, uid, state, changed) {
  const apply = () => { state.keep(); changed(); };
  const light = document.createElement("button");
  light.type = "button";
  light.textContent = "Light / dark theme";
  light.addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
    changed();
  });
  form.replaceChildren(
    ...state.names.map((name) => variable(uid, name, state, apply)),
    select("Time range", RANGES, state.from, (value) => { state.from = value; state.to = "now"; apply(); }),
    select("Refresh", REFRESH, state.refresh, (value) => { state.refresh = value; apply(); }),
    light,
  );
  form.addEventListener("submit", (event) => event.preventDefault());
}

function variable(uid, name, state, apply) {
  const frame = document.createElement("details");
  const summary = document.createElement("summary");
  const list = document.createElement("div");
  const say = () => { summary.textContent = `${state.labels[name]}: ${state.chosen[name].join(", ") || "all"}`; };
  frame.className = "variable";
  frame.append(summary, list);
  say();
  frame.addEventListener("toggle", async () => {
    if (!frame.open) return;
    list.textContent = "…";
    let values;
    try { values = await choices(uid, name, state.query()); } catch (error) { list.textContent = error.message; return; }
    const all = [...new Set([...values, ...state.chosen[name]])];
    list.replaceChildren(...(all.length ? all.map(box) : ["No values in this range."]));
  });
  document.addEventListener("click", (event) => { if (!frame.contains(event.target)) frame.open = false; });
  function box(value) {
    const label = document.createElement("label");
    const tick = document.createElement("input");
    tick.type = "checkbox";
    tick.checked = state.chosen[name].includes(value);
    tick.addEventListener("change", () => {
      state.chosen[name] = tick.checked ? [...state.chosen[name], value] : state.chosen[name].filter((one) => one !== value);
      say();
      apply();
    });
    label.append(tick, value);
    return label;
  }
  return frame;
}
