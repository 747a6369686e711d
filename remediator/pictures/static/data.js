// What is asked of the remediator: it knows the expressions, the page only names panel and target.

/** An error whose message is a sentence for people. */
export class Refused extends Error {}

async function ask(url) {
  let answer;
  try {
    answer = await fetch(url, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(30000) });
  } catch {
    throw new Refused("The remediator does not answer.");
  }
  if (!answer.ok) throw new Refused((await answer.text()).trim().slice(0, 400) || `It answered ${answer.status}.`);
  return answer.json();
}

const at = (uid) => `/api/v1/dashboards/${encodeURIComponent(uid)}`;

/** The dashboard as committed. */
export const board = (uid) => ask(at(uid));

/** The values that a variable may take. */
export const choices = async (uid, name, query) => (await ask(`${at(uid)}/variables/${name}?${query}`)).values;

/** The series of one target, their values as numbers by time. */
export async function target(uid, panel, ref, query) {
  const answer = await ask(`${at(uid)}/panels/${panel}/${ref}?${query}`);
  answer.series = answer.series.map(read);
  return answer;
}

/** When something was done, and what. */
export async function annotations(uid, query) {
  const answer = await ask(`${at(uid)}/annotations?${query}`);
  return answer.series.map(read).flatMap((one) =>
    beginnings(one.points, answer.step).map((when) => ({ when, labels: one.labels })),
  ).sort((a, b) => a.when - b.when);
}

/** When values above zero begin: an action stays in the range of its query for several steps, and is one. */
export function beginnings(points, step) {
  const times = points.filter(([, value]) => value > 0).map(([when]) => when);
  return times.filter((when, n) => n === 0 || when - times[n - 1] > step);
}

function read({ labels, values }) {
  const number = (text) => (text === "+Inf" || text === "inf" ? Infinity : text === "-Inf" || text === "-inf" ? -Infinity : Number(text));
  return { labels, points: values.map(([when, text]) => [when, number(text)]) };
}
