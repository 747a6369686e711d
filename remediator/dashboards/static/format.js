// Formatting of values: units, series names, thresholds, mappings. No DOM, no network.

const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const BINARY = [[2 ** 40, "Ti"], [2 ** 30, "Gi"], [2 ** 20, "Mi"], [2 ** 10, "Ki"]];
const SPANS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"]];
const SUFFIX = {
  celsius: " °C", watt: " W", hertz: " Hz", Bps: " B/s", binBps: " B/s", bps: " b/s", reqps: " req/s",
  ops: " ops/s", decbytes: " B", percent: " %", rotrpm: " rpm",
};

/** A number with three significant digits, without trailing zeros. */
export function digits(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toString();
  if (size < 0.001) return value.toExponential(1);
  return Number(value.toPrecision(3)).toString();
}

function scaled(value, table, unit) {
  const found = table.find(([size]) => Math.abs(value) >= size);
  return found ? `${digits(value / found[0])} ${found[1]}${unit}` : `${digits(value)}${unit ? " " + unit : ""}`;
}

/** A value as text, in a Grafana unit. */
export function text(value, unit = "short") {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "no value";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  switch (unit) {
    case "percentunit": return `${digits(value * 100)} %`;
    case "percent": case "celsius": return digits(value) + SUFFIX[unit];
    case "s": return span(value);
    case "ms": return span(value / 1000);
    case "bytes": return scaled(value, BINARY, "B");
    case "none": return Number.isInteger(value) ? String(value) : digits(value);
    case "short": return scaled(value, PREFIXES, "").trim();
    case "dateTimeAsIso": return new Date(value).toISOString();
    default: return scaled(value, PREFIXES, (SUFFIX[unit] ?? ` ${unit}`).trim());
  }
}

/** A duration as text, in the largest unit that fits. */
export function span(seconds) {
  if (seconds === 0) return "0 s";
  const found = SPANS.find(([size]) => Math.abs(seconds) >= size) ?? SPANS.at(-1);
  return `${digits(seconds / found[0])} ${found[1]}`;
}

/** The name of a series: `legendFormat` filled with its labels, or else all labels. */
export function name(labels, format) {
  if (format && format !== "__auto") {
    return format.replace(/\{\{\s*([\w]+)\s*\}\}/g, (_, label) => labels[label] ?? "");
  }
  const shown = Object.entries(labels).filter(([label]) => label !== "__name__");
  return shown.map(([label, value]) => `${label}=${value}`).join(" ") || labels.__name__ || "value";
}

/** The threshold step that applies to a value; null without thresholds. */
export function threshold(value, thresholds, min = 0, max = 1) {
  let found = null;
  for (const step of thresholds?.steps ?? []) {
    const from = thresholds.mode === "percentage" ? min + (step.value / 100) * (max - min) : step.value;
    if (step.value === null || value >= from) found = step;
  }
  return found;
}

/** Text and colour of a value from the mappings of the panel; null if no mapping matches. */
export function mapping(value, mappings) {
  for (const one of mappings ?? []) {
    if (one.type === "value" && one.options[String(value)]) return one.options[String(value)];
    if (one.type === "range") {
      const { from, to, result } = one.options;
      if (value >= (from ?? -Infinity) && value <= (to ?? Infinity)) return result;
    }
  }
  return null;
}

/** Text and colour of a value from mappings, unit and thresholds. */
export function shown(value, defaults) {
  const mapped = value === null ? null : mapping(value, defaults.mappings);
  const step = value === null || Number.isNaN(value) ? null : threshold(value, defaults.thresholds, defaults.min, defaults.max);
  return {
    text: mapped?.text ?? text(value, defaults.unit),
    colour: mapped?.color ?? step?.color ?? "text",
  };
}

const COLOURS = ["blue", "orange", "green", "purple", "teal", "pink", "yellow", "red", "sky", "brown", "lime", "grey"];

/** The colour of the n-th series. */
export const colour = (n) => COLOURS[n % COLOURS.length];

/** A dashboard colour as CSS. Named colours are variables that depend on the theme. */
export function css(wanted) {
  const plain = (wanted ?? "text").replace(/^(super-light|light|semi-dark|dark)-/, "");
  if (plain.startsWith("#") || plain.startsWith("rgb")) return plain;
  return `var(--${plain})`;
}
