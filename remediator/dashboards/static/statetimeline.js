// Panels of type state-timeline: one row per series, one bar per run of equal values.
import { css, shown } from "./format.js";

const ROWS = 40;

/** Runs of equal values: [from, to, value] in seconds; a missing sample ends a run. */
export function runs(points, step) {
  const found = [];
  for (const [when, value] of points) {
    const last = found.at(-1);
    if (last && last[2] === value && when - last[1] <= 0.5 * step) last[1] = when + step;
    else found.push([when, when + step, value]);
  }
  return found;
}

/** Draws the rows and the time axis. */
export function statetimeline(body, panel, found) {
  const defaults = panel.fieldConfig?.defaults ?? {};
  const range = found.end - found.start + found.step;
  const share = (when) => `${(100 * Math.max(0, when - found.start)) / range}%`;
  const seen = new Map();
  const rows = found.series.slice(0, ROWS).map((one) => {
    const row = document.createElement("div");
    const label = document.createElement("span");
    const track = document.createElement("div");
    row.className = "state";
    label.textContent = one.name;
    label.title = one.name;
    track.className = "track";
    for (const [from, to, value] of runs(one.points, found.step)) {
      const bar = document.createElement("div");
      const said = shown(value, defaults);
      seen.set(said.text, said.colour);
      bar.style.left = share(from);
      bar.style.width = `${(100 * (to - from)) / range}%`;
      bar.style.background = css(said.colour);
      bar.title = `${one.name}: ${said.text}, ${new Date(from * 1000).toLocaleTimeString()} – ${new Date(to * 1000).toLocaleTimeString()}`;
      track.append(bar);
    }
    row.append(label, track);
    return row;
  });
  const legend = document.createElement("div");
  legend.className = "legend";
  for (const [said, colour] of seen) {
    const key = document.createElement("span");
    const patch = document.createElement("i");
    patch.style.background = css(colour);
    key.append(patch, said);
    legend.append(key);
  }
  if (found.series.length > ROWS) legend.append(`and ${found.series.length - ROWS} more series`);
  const axis = document.createElement("div");
  axis.className = "state axis";
  const ends = document.createElement("div");
  ends.className = "ends";
  for (const when of [found.start, (found.start + found.end) / 2, found.end]) {
    const tick = document.createElement("span");
    tick.textContent = new Date(when * 1000).toTimeString().slice(0, 5);
    ends.append(tick);
  }
  axis.append(document.createElement("span"), ends);
  const scroll = document.createElement("div");
  scroll.className = "states";
  scroll.append(...rows);
  body.replaceChildren(scroll, axis, legend);
}
