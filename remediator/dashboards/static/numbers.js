// Panels of type stat and gauge: the last value of each series, with its age if it is stale.
import { css, shown, span } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const STALE_STEPS = 4;

function svg(kind, attributes) {
  const made = document.createElementNS(SVG, kind);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** The last value of a series and its age in seconds; the age is null if the value is recent. */
export function newest(points, end, step) {
  const [when, value] = points.at(-1) ?? [null, null];
  const age = when === null ? 0 : end - when;
  return { value, age: age > STALE_STEPS * step ? age : null };
}

function cell(one, panel, found, picture) {
  const defaults = panel.fieldConfig?.defaults ?? {};
  const { value, age } = newest(one.points, found.end, found.step);
  const said = shown(value, defaults);
  const box = document.createElement("div");
  box.className = "number";
  const number = document.createElement("strong");
  number.textContent = said.text;
  number.style.color = css(said.colour);
  if (found.series.length === 1) number.style.fontSize = `clamp(12px, ${Math.round(150 / said.text.length)}cqw, ${picture ? 22 : 30}px)`;
  if (picture) box.append(picture(value, said, defaults));
  box.append(number);
  if (found.series.length > 1) {
    const label = document.createElement("span");
    label.textContent = one.name;
    box.append(label);
  }
  if (age !== null) {
    const old = document.createElement("em");
    old.textContent = `last sample ${span(age)} ago`;
    box.append(old);
  }
  return { box, said };
}

/** Draws the values, with a sparkline behind each if there are few series. */
export function stat(body, panel, found) {
  const cells = found.series.map((one) => {
    const { box, said } = cell(one, panel, found);
    if (found.series.length <= 4 && panel.options?.graphMode === "area") box.prepend(spark(one.points, found, css(said.colour)));
    return box;
  });
  body.classList.add(cells.length > 1 ? "many" : "one");
  body.replaceChildren(...cells);
}

function spark(points, found, wanted) {
  const numbers = points.filter(([, value]) => Number.isFinite(value));
  const values = numbers.map(([, value]) => value);
  const low = Math.min(...values, 0), high = Math.max(...values, low + 1e-9);
  const x = (when) => ((when - found.start) / (found.end - found.start)) * 100;
  const y = (value) => 30 - ((value - low) / (high - low)) * 27;
  const picture = svg("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" });
  if (numbers.length < 2) return picture;
  const path = numbers.map(([when, value], n) => `${n ? "L" : "M"}${x(when).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const area = svg("path", { d: `${path}L${x(numbers.at(-1)[0]).toFixed(1)} 30L${x(numbers[0][0]).toFixed(1)} 30Z`, "fill-opacity": "0.15" });
  const line = svg("path", { d: path, fill: "none", "stroke-width": "1.5", "vector-effect": "non-scaling-stroke" });
  area.style.fill = wanted;
  line.style.stroke = wanted;
  picture.append(area, line);
  return picture;
}

/** Draws a gauge for each series. */
export function gauge(body, panel, found) {
  body.classList.add(found.series.length > 1 ? "many" : "one");
  body.replaceChildren(...found.series.map((one) => cell(one, panel, found, dial).box));
}

function dial(value, said, { min = 0, max = 100, thresholds }) {
  const part = Math.min(1, Math.max(0, (value - min) / (max - min)));
  const arc = (radius, from, to, wanted, width) => {
    const at = (share) => `${(50 - radius * Math.cos(Math.PI * share)).toFixed(2)} ${(50 - radius * Math.sin(Math.PI * share)).toFixed(2)}`;
    const path = svg("path", { d: `M${at(from)}A${radius} ${radius} 0 0 1 ${at(to)}`, fill: "none", "stroke-width": width });
    path.style.stroke = wanted;
    return path;
  };
  const picture = svg("svg", { viewBox: "0 0 100 52", class: "dial", "aria-hidden": "true" });
  picture.append(arc(38, 0, 1, "var(--line)", 12));
  if (part > 0) picture.append(arc(38, 0, part, css(said.colour), 12));
  const steps = (thresholds?.steps ?? []).map((step) => ({ ...step, at: step.value === null ? 0 : (step.value - min) / (max - min) }));
  steps.forEach((step, n) => {
    const to = Math.min(1, steps[n + 1]?.at ?? 1);
    if (step.at < to) picture.append(arc(47, Math.max(0, step.at), to, css(step.color), 2.5));
  });
  return picture;
}
