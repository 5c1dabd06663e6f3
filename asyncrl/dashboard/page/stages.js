/** Where the time goes: the verdict in one sentence, shares of actors and learner, and each actor's health. */
import { duration, element, number, short } from "./common.js";

const NAMES = {
  environments: "environments", acting: "acting", waiting: "waiting", batch: "batch", forward: "forward", backward: "backward",
  optimizer: "optimizer", publish: "publish", evaluation: "evaluation", checkpoint: "checkpoint", other: "other",
};
const SLOW = 3; // an actor is slow whose rollouts take so many times the median

export function mountStages(section) {
  const sentence = element("p", { class: "verdict", role: "status" });
  const bars = element("div", { class: "bars" });
  const actors = element("div", { class: "scroll" });
  section.append(element("h2", {}, "Where the time goes"), sentence, bars, actors);
  return {
    update(run) {
      const newest = run.notes?.newest ?? {};
      const end = newest.verdict;
      const stages = end && (!newest.stages || end.step >= newest.stages.step) ? { ...newest.stages, ...end } : newest.stages;
      const shares = stages ?? fallback(newest.train);
      section.hidden = !shares;
      if (!shares) return;
      const text = shares.verdict ? shares.verdict[0].toUpperCase() + shares.verdict.slice(1) : "";
      if (sentence.textContent !== text) sentence.textContent = text;
      sentence.hidden = !text;
      bars.replaceChildren(...["actors", "learner"].filter((who) => shares[who]).map((who) => bar(who, shares[who])));
      actors.replaceChildren(...table(shares, run.state === "running"));
    },
  };
}

/** Shares of the learner's time in a run that has no record of stages. */
function fallback(train) {
  if (train?.waiting_share == null) return null;
  const { waiting_share: waiting, learning_share: learning = 0 } = train;
  return { learner: { waiting, learning, other: Math.max(0, 1 - waiting - learning) } };
}

function bar(who, shares) {
  const parts = Object.entries(shares).filter(([, share]) => share > 0.0005);
  const told = parts.map(([name, share]) => `${NAMES[name] ?? name} ${percent(share)}`).join(", ");
  const strip = element("div", { class: "strip", role: "img", "aria-label": `${who}: ${told}` }, ...parts.map(([name, share]) => {
    const part = element("i", { "data-stage": name, title: `${NAMES[name] ?? name} ${percent(share)}` });
    part.style.flexGrow = share;
    return part;
  }));
  const key = element("ul", { "aria-hidden": "true" }, ...parts.map(([name, share]) =>
    element("li", {}, element("i", { "data-stage": name }), `${NAMES[name] ?? name} `, element("b", {}, percent(share)))));
  return element("div", { class: "bar" }, element("h3", {}, who === "actors" ? "Actors" : "Learner"), strip, key);
}

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function table(stages, isTraining) {
  const steps = stages.actor_steps;
  if (!Array.isArray(steps)) return [];
  const [restarts, idle, seconds] = ["actor_restarts", "actor_idle", "actor_rollout_seconds"].map((name) => stages[name] ?? []);
  const known = seconds.filter((value) => value != null).sort((a, b) => a - b);
  const median = known[Math.floor(known.length / 2)];
  const head = ["Actor", "Health", "Steps", "Restarts", "Last rollout", "Per rollout"];
  return [element("table", {}, element("caption", { class: "hidden" }, "Health of the actors"),
    element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...steps.map((count, actor) => {
      const slow = known.length > 1 && seconds[actor] > SLOW * median;
      const silent = isTraining && idle[actor] > Math.max(10, 10 * (seconds[actor] ?? 0));
      const health = !isTraining ? "ended" : silent ? "silent" : slow ? "slow" : restarts[actor] ? "restarted" : "well";
      const cells = [String(actor), element("span", { class: "pill", "data-state": health }, health), short(count),
        number(restarts[actor]), !isTraining || idle[actor] == null ? "–" : `${duration(idle[actor])} ago`,
        seconds[actor] == null ? "–" : seconds[actor] < 1 ? `${(1000 * seconds[actor]).toPrecision(3)} ms` : duration(seconds[actor])];
      return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
    })))];
}
