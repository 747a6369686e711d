// Requests to the remediator. The page sends panel and target only; the remediator has the expressions.

/** An error whose message is shown to the user. */
export class Refused extends Error {}

async function ask(url) {
  let answer;
  try {
    answer = await fetch(url, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(30000) });
  } catch {
    throw new Refused("The remediator does not respond.");
  }
  if (!answer.ok) throw new Refused((await answer.text()).trim().slice(0, 400) || `The remediator responded with HTTP status ${answer.status}.`);
  return answer.json();
}

/** The URL of the list of incidents. A reverse proxy can add a path prefix, so it is relative to this file, static/data.js. */
export const root = new URL("../", import.meta.url);

const at = (uid) => `${root}api/v1/dashboards/${encodeURIComponent(uid)}`;

/** The JSON of the dashboard. */
export const board = (uid) => ask(at(uid));

/** The values that a user can select for a variable. */
export const choices = async (uid, name, query) => (await ask(`${at(uid)}/variables/${name}?${query}`)).values;

/** The series of one target, with numeric values. */
export async function target(uid, panel, ref, query) {
  const answer = await ask(`${at(uid)}/panels/${panel}/${ref}?${query}`);
  answer.series = answer.series.map(read);
  return answer;
}

/** Times and labels of the annotations (remediation actions). */
export async function annotations(uid, query) {
  const answer = await ask(`${at(uid)}/annotations?${query}`);
  return answer.series.map(read).flatMap((one) =>
    beginnings(one.points, answer.step).map((when) => ({ when, labels: one.labels })),
  ).sort((a, b) => a.when - b.when);
}

/** The first time of each run of values above zero. One action stays above zero for several steps, because its
 * query covers a range. */
export function beginnings(points, step) {
  const times = points.filter(([, value]) => value > 0).map(([when]) => when);
  return times.filter((when, n) => n === 0 || when - times[n - 1] > step);
}

function read({ labels, values }) {
  const number = (text) => (text === "+Inf" || text === "inf" ? Infinity : text === "-Inf" || text === "-inf" ? -Infinity : Number(text));
  return { labels, points: values.map(([when, text]) => [when, number(text)]) };
}
