/** The charts of the page: which there are, and what each draws of the shown runs. */
import { Chart } from "./chart.js";
import { element } from "./common.js";

const KNOWN = [
  ["Learning", [
    ["value_loss", "Value loss", "reward²"], ["policy_loss", "Policy loss"], ["critic_loss", "Critic loss", "reward²"],
    ["loss", "Loss"], ["entropy", "Entropy", "nats"], ["q", "Action value", "reward"], ["target", "Target", "reward"],
    ["value", "Value", "reward"], ["kl", "KL divergence", "nats"], ["clip_fraction", "Clip fraction", "share"],
    ["importance", "Importance ratio"], ["temperature", "Temperature", "reward / nat"],
    ["gradient_norm", "Gradient norm"], ["learning_rate", "Learning rate"],
  ]],
  ["Speed", [
    ["steps_per_second", "Speed", "steps/s"], ["policy_lag", "Policy lag", "updates"], ["queue_fill", "Queue fill", "share"],
    ["waiting_share", "Waiting", "share"], ["learning_share", "Learning", "share"],
    ["worker_restarts", "Restarts of environments"],
  ]],
];
const NOT_DRAWN = new Set(["step", "update", "time", "frames_per_second", "episodes", "mean_return", "policy_lag_max"]);

/** Mounts the charts. `update(runs, axis, smoothing)` draws {name, color, curves} for each shown run. */
export function mountCurves(score, section) {
  const charts = new Map();
  const returns = new Chart({ title: "Return", unit: "reward", about: "Mean of the last 100 training episodes; dots are episodes" });
  returns.element.classList.add("large");
  const evaluations = new Chart({ title: "Evaluations", unit: "reward", about: "Mean return; bars are the IQM's 95 % interval" });
  evaluations.element.classList.add("large");
  score.append(returns.element, evaluations.element);
  const lengths = new Chart({ title: "Episode length", unit: "steps", about: "Training episodes and their running mean" });
  const grids = new Map();
  for (const title of [...KNOWN.map(([name]) => name), "Other metrics"]) {
    const grid = element("div", { class: "grid" });
    grids.set(title, grid);
    section.append(element("section", { class: "group", "aria-label": title }, element("h2", {}, title), grid));
  }
  grids.get("Learning").append(lengths.element);

  function chart(name, title, unit, group) {
    if (!charts.has(name)) {
      charts.set(name, new Chart({ title, unit }));
      grids.get(group).append(charts.get(name).element);
    }
    return charts.get(name);
  }

  return {
    update(runs, axis, smoothing) {
      const table = (run, kind) => run.curves?.kinds[kind];
      returns.set([
        ...runs.map((run) => dots(run, axis, "return")),
        ...runs.flatMap((run) => line(run, table(run, "train"), axis, "mean_return", smoothing, false)),
      ].filter(Boolean), axis);
      evaluations.set(runs.map((run) => whiskers(run, table(run, "eval"), axis)).filter(Boolean), axis);
      lengths.set(runs.flatMap((run) => {
        const points = dots(run, axis, "length");
        return points ? [points, { ...points, faint: false, dots: false, y: ema(points.y, Math.max(smoothing, 0.95)) }] : [];
      }), axis);
      const known = new Map(KNOWN.flatMap(([group, rows]) => rows.map(([name, ...rest]) => [name, [group, ...rest]])));
      const present = new Set(runs.flatMap((run) => Object.keys(table(run, "train")?.mean ?? {})));
      for (const name of [...known.keys(), ...[...present].filter((one) => !known.has(one)).sort()]) {
        if (!present.has(name) || NOT_DRAWN.has(name)) { charts.get(name)?.element.classList.add("gone"); continue; }
        const [group, title, unit] = known.get(name) ?? ["Other metrics", name.replaceAll("_", " ")];
        const one = chart(name, title, unit, group);
        one.element.classList.remove("gone");
        one.set(runs.flatMap((run) => line(run, table(run, "train"), axis, name, smoothing, true)), axis);
      }
      for (const grid of grids.values()) grid.parentElement.hidden = ![...grid.children].some((one) => !one.matches(".gone"));
    },
  };
}

function line(run, table, axis, name, smoothing, band) {
  const y = table?.mean[name];
  if (!y) return [];
  const base = { name: run.name, color: run.color, x: table.mean[axis] };
  const limits = band && table.low[name] ? { low: table.low[name], high: table.high[name] } : {};
  if (!smoothing) return [{ ...base, y, ...limits }];
  return [{ ...base, y, faint: true }, { ...base, y: ema(y, smoothing) }];
}

function dots(run, axis, name) {
  const table = run.curves?.episodes;
  return table?.mean[name] && { name: run.name, color: run.color, x: table.mean[axis], y: table.mean[name], dots: true, faint: true };
}

function whiskers(run, table, axis) {
  if (!table?.mean.mean) return null;
  const { mean } = table;
  return { name: run.name, color: run.color, x: mean[axis], y: mean.mean, low: mean.iqm_low, high: mean.iqm_high, whiskers: Boolean(mean.iqm_low) };
}

/** Exponential moving average, without the bias of its first values. */
function ema(values, weight) {
  let [sum, total] = [0, 0];
  return values.map((value) => {
    if (value == null) return total ? sum / total : null;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}
