/** Tabs with a run's episodes, checkpoints, settings, contract and origin. */
import { bytes, duration, element, number } from "./common.js";

const TABS = { episodes: "Episodes", checkpoints: "Checkpoints", settings: "Settings", contract: "Contract", origin: "Origin" };

export function mountDetails(section) {
  const panel = element("div", { id: "panel", role: "tabpanel", tabindex: "0" });
  const tabs = Object.entries(TABS).map(([name, title]) => {
    const tab = element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "panel" }, title);
    tab.addEventListener("click", () => choose(name));
    return tab;
  });
  const bar = element("div", { role: "tablist", "aria-label": "Details" }, ...tabs);
  bar.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    const names = Object.keys(TABS);
    choose(names[(names.indexOf(chosen) + move + names.length) % names.length]);
    document.getElementById(`tab-${chosen}`).focus();
  });
  section.append(bar, panel);
  let chosen = "episodes", current = null, drawn = null;

  function choose(name) {
    chosen = name;
    drawn = null;
    if (current) update(current);
  }

  function update(run) {
    current = run;
    tabs.forEach((tab, i) => {
      const is = Object.keys(TABS)[i] === chosen;
      tab.setAttribute("aria-selected", String(is));
      tab.tabIndex = is ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `tab-${chosen}`);
    const source = [run.id, chosen, chosen === "episodes" ? run.episodes : run.facts];
    if (drawn && source.every((one, i) => one === drawn[i])) return;
    drawn = source;
    panel.replaceChildren(...PANELS[chosen](run));
  }
  return { update };
}

const PANELS = {
  episodes(run) {
    const { best = [], worst = [], latest = [], episodes = 0 } = run.episodes ?? {};
    if (!episodes && !latest.length) return [element("p", { class: "empty" }, "No episode has ended yet.")];
    const lists = [["Best", best], ["Worst", worst], ["Newest", latest]];
    return [element("div", { class: "columns" }, ...lists.map(([title, rows]) =>
      element("div", {}, element("h3", {}, title), table(["Return", "Length", "Step", "Actor"], rows.slice(0, 10).map((one) =>
        [number(one.return), number(one.length), number(one.step), `${one.actor}`])))))];
  },
  checkpoints(run) {
    const found = [...(run.facts?.checkpoints ?? [])].reverse();
    if (!found.length) return [element("p", { class: "empty" }, "There is no checkpoint yet.")];
    return [table(["Step", "Evaluation", "Mark", "Size"], found.map((one) => {
      const marks = element("span", {}, ...one.marks.map((mark) => element("span", { class: "pill", "data-state": mark }, mark)));
      return [number(one.step), number(one.mean), marks, bytes(one.bytes)];
    }))];
  },
  settings: (run) => flat(run.facts?.settings, "The settings cannot be read."),
  contract: (run) => flat(run.facts?.contract, "The contract cannot be read."),
  origin: (run) => [...(run.time ? [list([["time", duration(run.time)], ["folder", run.path]])] : []), ...flat(run.facts?.origin, "")],
};

function table(head, rows) {
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell)))))));
}

/** A nested table of settings as lists of names and values, one for each part. */
function flat(value, empty) {
  if (!value || !Object.keys(value).length) return [element("p", { class: "empty" }, empty)];
  const isTable = (x) => x !== null && typeof x === "object" && !Array.isArray(x);
  const plain = Object.entries(value).filter(([, x]) => !isTable(x));
  const parts = Object.entries(value).filter(([, x]) => isTable(x) && Object.keys(x).length);
  return [element("div", { class: "columns" },
    ...(plain.length ? [element("div", {}, list(plain))] : []),
    ...parts.map(([name, part]) => element("div", {}, element("h3", {}, name.replaceAll("_", " ")), list(inner(part)))))];
}

function inner(part, prefix = "") {
  return Object.entries(part).flatMap(([name, x]) =>
    x !== null && typeof x === "object" && !Array.isArray(x) ? inner(x, `${prefix}${name} `) : [[prefix + name, x]]);
}

function list(pairs) {
  return element("dl", { class: "pairs" }, ...pairs.flatMap(([name, value]) =>
    [element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, shown(value))]));
}

function shown(value) {
  if (value === null) return "–";
  if (Array.isArray(value)) return value.length ? value.map((x) => (typeof x === "object" ? JSON.stringify(x) : String(x))).join(" ") : "–";
  if (typeof value === "number") return Math.abs(value) < 1e-3 || Math.abs(value) >= 1e4 ? number(value) : String(value);
  return String(value);
}
