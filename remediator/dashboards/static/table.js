// Tables: panels of type table, and the table of values of every other panel.
import { css, shown, text } from "./format.js";
import { newest } from "./numbers.js";

const ROWS = 200;

function line(kind, cells) {
  const row = document.createElement("tr");
  for (const one of cells) {
    const cell = document.createElement(kind);
    cell.textContent = one.text ?? one;
    if (one.colour && one.colour !== "text") cell.style.color = css(one.colour);
    row.append(cell);
  }
  return row;
}

function made(head, rows) {
  const table = document.createElement("table");
  table.createTHead().append(line("th", head));
  table.createTBody().append(...rows.slice(0, ROWS));
  return table;
}

/** Draws one column per label, and one for the value. */
export function table(body, panel, found) {
  const defaults = panel.fieldConfig?.defaults ?? {};
  const organised = panel.transformations?.find((one) => one.id === "organize")?.options ?? {};
  const left = organised.excludeByName ?? {};
  const order = organised.indexByName ?? {};
  const called = (label) => organised.renameByName?.[label] ?? label;
  const labels = [...new Set(found.series.flatMap((one) => Object.keys(one.labels)))]
    .filter((label) => label !== "__name__" && !left[label])
    .sort((a, b) => (order[a] ?? 50) - (order[b] ?? 50));
  const value = !left.Value;
  const rows = found.series.map((one) => line("td", [
    ...labels.map((label) => one.labels[label] ?? ""),
    ...(value ? [shown(one.points.at(-1)?.[1] ?? null, defaults)] : []),
  ]));
  const scroll = document.createElement("div");
  scroll.className = "scroll";
  scroll.append(made([...labels.map(called), ...(value ? [called("Value")] : [])], rows));
  body.replaceChildren(scroll);
}

/** The table of values of a panel: last, minimum and maximum of each series. */
export function behind(panel, found) {
  const { unit } = panel.fieldConfig?.defaults ?? {};
  const rows = found.series.map((one) => {
    const numbers = one.points.map(([, value]) => value).filter(Number.isFinite);
    const last = newest(one.points, found.end, found.step);
    return line("td", [one.name, text(last.value, unit), text(numbers.length ? Math.min(...numbers) : null, unit),
      text(numbers.length ? Math.max(...numbers) : null, unit)]);
  });
  return made(["Series", "Last", "Min", "Max"], rows);
}
