/** The list of runs, to choose which are shown, and the legend of those that are. */
import { element, number, short } from "./common.js";

export function mountRuns({ box, legend }, { show, select }) {
  const body = box.querySelector("tbody");
  const filter = box.querySelector("#filter");
  const rows = new Map();
  let latest = [[], [], null];
  filter.addEventListener("input", () => update(...latest));

  function row(run) {
    const check = element("input", { type: "checkbox", "aria-label": `Show ${run.name}` });
    check.addEventListener("change", () => {
      const ids = latest[1].map((one) => one.id);
      show(check.checked ? [...ids, run.id] : ids.filter((id) => id !== run.id));
    });
    const name = element("button", { type: "button", class: "link", onclick: () => select(run.id) }, run.name);
    const cells = [check, name, element("span", { class: "pill" }), ...Array.from({ length: 5 }, () => element("span"))];
    return { row: element("tr", {}, ...cells.map((cell) => element("td", {}, cell))), cells };
  }

  function update(runs, shown, focus) {
    latest = [runs, shown, focus];
    box.hidden = runs.length < 2;
    filter.hidden = runs.length < 9;
    box.querySelector("#count").textContent = `${shown.length} of ${runs.length} shown`;
    const wanted = filter.value.toLowerCase();
    const listed = runs.filter((run) => `${run.name} ${run.env} ${run.algorithm}`.toLowerCase().includes(wanted));
    listed.sort((a, b) => Number(b.id) - Number(a.id));
    for (const run of listed) {
      if (!rows.has(run.id)) rows.set(run.id, row(run));
      const { row: line, cells } = rows.get(run.id);
      const isShown = shown.includes(run);
      cells[0].checked = isShown;
      cells[0].disabled = !isShown && shown.length >= 8;
      cells[0].style.accentColor = isShown ? run.color : "";
      cells[1].setAttribute("aria-current", String(run === focus));
      cells[2].textContent = run.state;
      cells[2].dataset.state = run.state;
      cells[2].title = run.sentence;
      const values = [run.seed ?? "–", `${short(run.step)}${run.steps ? ` / ${short(run.steps)}` : ""}`,
        number(run.mean_return), number(run.evaluation), run.steps_per_second == null ? "–" : short(run.steps_per_second)];
      values.forEach((value, i) => { cells[3 + i].textContent = value; });
      line.classList.toggle("focus", run === focus);
    }
    const lines = listed.map((run) => rows.get(run.id).row);
    if (lines.length !== body.children.length || lines.some((line, i) => body.children[i] !== line)) body.replaceChildren(...lines);
    legend.hidden = shown.length < 2;
    legend.replaceChildren(...shown.map((run) => {
      const swatch = element("i");
      swatch.style.background = run.color;
      return element("li", {}, element("button", {
        type: "button", "aria-pressed": String(run === focus), title: "Show this run's details", onclick: () => select(run.id),
      }, swatch, run.name));
    }));
  }
  return { update };
}
