/** The page: which runs are shown, what the server says of them, and where it goes. */
import { setRange } from "./chart.js";
import { duration, element, number, short } from "./common.js";
import { mountCurves } from "./curves.js";
import { mountDetails } from "./details.js";
import { mountPlayer } from "./player.js";
import { mountRuns } from "./runs.js";
import { mountStages } from "./stages.js";

const COLORS = 8;
const find = (id) => document.getElementById(id);
const runs = new Map(); // by id: the summary, and facts, notes, episodes and curves of those that are shown
let shown = [];
let focus = null;
let source = null;
let lost = 0;
let gone = ""; // that the server has ended, or does not answer
const ENDED = "The server has ended. The page shows what it had; `asyncrl watch` opens a new one.";

const curves = mountCurves(find("score"), find("curves"));
const details = mountDetails(find("details"));
const stages = mountStages(find("stages"));
const player = mountPlayer(find("player"));
const list = mountRuns({ box: find("runs"), legend: find("legend") }, { show, select });

function connect() {
  source?.close();
  source = new EventSource(`api/events?runs=${shown.join(",")}`);
  source.onmessage = (event) => { lost = 0; gone = ""; take(JSON.parse(event.data)); };
  source.onerror = () => {
    lost += 1;
    if (lost > 2) source.close();
    gone = source.readyState === EventSource.CLOSED ? ENDED : "The server does not answer …";
    say(null);
  };
}

function take(message) {
  if (message.runs) return takeList(message);
  if (message.end) {
    source.close();
    gone = ENDED;
    return say(null);
  }
  const run = runs.get(message.id);
  if (!run) return;
  for (const name of ["facts", "notes", "episodes", "curves"]) if (message[name]) run[name] = message[name];
  if (message.rows) append(run.curves, message.rows);
  draw();
}

function takeList({ runs: listed, note }) {
  for (const summary of listed) runs.set(summary.id, Object.assign(runs.get(summary.id) ?? {}, summary));
  say(note || null);
  if (!shown.length && listed.length) {
    const wanted = location.hash.slice(1).split(",").filter((id) => runs.has(id));
    const named = listed.filter((run) => run.named).map((run) => run.id);
    const training = listed.filter((run) => run.state === "running").map((run) => run.id);
    const first = [wanted, named, training, [listed[0].id]].find((ids) => ids.length);
    return show(first.slice(0, COLORS));
  }
  draw();
}

/** Add rows that the server has read since to the curves of a run. */
function append(curves, rows) {
  for (const [kind, columns] of Object.entries(rows)) {
    const table = kind === "episode" ? curves.episodes : (curves.kinds[kind] ??= { mean: {}, low: {}, high: {} });
    const before = table.mean.step?.length ?? 0;
    const count = columns.step.length;
    for (const name of new Set([...Object.keys(table.mean), ...Object.keys(columns)])) {
      const added = columns[name] ?? Array(count).fill(null);
      (table.mean[name] ??= Array(before).fill(null)).push(...added);
      if (table.low[name]) { table.low[name].push(...added); table.high[name].push(...added); }
    }
  }
}

function show(ids) {
  shown = ids.slice(0, COLORS);
  if (!shown.includes(focus)) focus = shown[0] ?? null;
  for (const run of runs.values()) if (!shown.includes(run.id)) run.color = null;
  history.replaceState(null, "", `#${shown.join(",")}`);
  setRange(null);
  connect();
  draw();
}

function select(id) {
  focus = id;
  if (!shown.includes(id)) show([...shown.slice(0, COLORS - 1), id]);
  else draw();
}

let scheduled = false;
function draw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; paint(); });
}

function paint() {
  colour();
  const drawn = shown.map((id) => runs.get(id)).filter(Boolean);
  const run = runs.get(focus);
  list.update([...runs.values()], drawn, run);
  if (!run) return;
  heading(run);
  tiles(run);
  curves.update(drawn, find("axis").value, Number(find("smoothing").value));
  stages.update(run);
  details.update(run);
  player.show(drawn);
}

/** Give every shown run a colour, which it keeps. */
function colour() {
  const style = getComputedStyle(document.documentElement);
  const drawn = shown.map((id) => runs.get(id)).filter(Boolean);
  for (const run of drawn) {
    const taken = drawn.filter((other) => other !== run && other.color).map((other) => other.slot);
    if (!run.color) run.slot = [...Array(COLORS).keys()].find((slot) => !taken.includes(slot));
    run.color = style.getPropertyValue(`--run-${run.slot}`).trim();
  }
}

function heading(run) {
  find("name").textContent = run.name;
  document.title = `${run.name} · asyncrl`;
  const back = run.notes?.newest.rewind;
  const rewound = back && `diverged at step ${number(back.diverged)} and went back to step ${number(back.step)}`;
  const again = back?.number > 1 ? ` (rewind ${back.number})` : "";
  const parts = [run.algorithm && `${run.algorithm} on ${run.env}`, run.seed != null && `seed ${run.seed}`, rewound && rewound + again];
  find("about").textContent = parts.filter(Boolean).join(" · ");
  const state = find("state");
  state.hidden = false;
  state.dataset.state = run.state;
  if (state.textContent !== run.state) state.textContent = run.state;
  const share = run.steps ? Math.min(1, run.step / run.steps) : 0;
  const progress = find("progress");
  progress.hidden = !run.steps;
  progress.setAttribute("aria-valuenow", Math.round(100 * share));
  progress.firstElementChild.style.width = `${100 * share}%`;
  const read = run.curves?.read ?? 1;
  say(read < 0.99 ? `Reading metrics.jsonl: ${Math.round(100 * read)} %` : run.sentence || null, read < 0.99 || run.state === "running");
}

function tiles(run) {
  const train = run.notes?.newest.train ?? {};
  const rate = run.steps_per_second;
  const left = run.state === "running" && rate ? duration((run.steps - run.step) / rate) : null;
  const { best = null, count = 0 } = run.notes?.evaluations ?? {};
  const rows = [
    ["Step", short(run.step), run.steps ? `of ${short(run.steps)}` : ""],
    ["Return", number(run.mean_return), "last 100 episodes"],
    ["Best evaluation", number(best), count ? `of ${count}` : "none yet"],
    ["Episodes", train.episodes == null ? "–" : short(train.episodes), ""],
    ["Speed", rate == null ? "–" : short(rate), "steps/s"],
    ["Time", duration(run.time), left ? `${left} to go` : ""],
  ];
  find("tiles").replaceChildren(...rows.map(([name, value, more]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, more)))));
}

function say(sentence, calm = false) {
  const note = find("note");
  const text = gone || sentence || "";
  note.hidden = !text;
  note.classList.toggle("calm", calm && !gone);
  if (note.textContent !== text) note.textContent = text;
}

const THEMES = { auto: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
function theme(next) {
  const root = document.documentElement;
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  try { localStorage.setItem("theme", next); } catch { /* storage may be off */ }
  const button = find("theme");
  button.textContent = THEMES[next][0];
  button.setAttribute("aria-label", `Colours: ${THEMES[next][1]}`);
  button.title = button.getAttribute("aria-label");
  button.onclick = () => theme({ auto: "light", light: "dark", dark: "auto" }[next]);
  draw();
}

for (const id of ["axis", "smoothing"]) find(id).addEventListener("input", draw);
find("axis").addEventListener("input", () => setRange(null)); // the chosen part is in the unit of the other axis
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
let saved = null;
try { saved = localStorage.getItem("theme"); } catch { /* storage may be off */ }
theme(saved in THEMES ? saved : "auto");
connect();
