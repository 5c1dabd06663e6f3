/** Checkpoints to choose from, evaluation episodes to play again, and crash capsules. */
import { element, get, number } from "./common.js";

export class EpisodeBrowser {
  /** `tell(command)` sends a command to the player. */
  constructor(run, tell) {
    this.run = run;
    this.tell = tell;
    this.shape = "";
    this.weights = element("select", { onchange: () => this.tell({ weights: this.weights.value }) });
    this.weights.choose = (wanted) => {
      this.wanted = wanted;
      if (![...this.weights.options].some((option) => option.value === wanted)) this.weights.append(element("option", { value: wanted }, `step ${number(Number(wanted))}`));
      this.weights.value = wanted;
    };
    this.wanted = "newest";
    this.list = element("div", { class: "episodes" });
    this.node = element("details", { class: "browser" }, element("summary", {}, "Episodes and checkpoints"), this.list);
    this.node.addEventListener("toggle", () => this.node.open && this.refresh());
    this.#offer([]);
  }

  /** Look again when the run has other checkpoints or evaluations. */
  setRun(run) {
    this.run = run;
    const shape = JSON.stringify([run.facts?.checkpoints.map((one) => [one.name, one.marks]), run.evaluation, run.state]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.refresh();
    }
  }

  async refresh() {
    let found;
    try {
      found = await get(`api/player/${this.run.id}/episodes`);
    } catch (problem) {
      this.list.replaceChildren(element("p", { class: "hint" }, problem.message));
      return;
    }
    this.#offer(found.checkpoints);
    const groups = [
      this.#group("Best evaluation episodes", found.best),
      this.#group("Worst evaluation episodes", found.worst),
      this.#group("Newest evaluation", found.last),
      this.#checkpoints(found.checkpoints),
      this.#capsules(found.capsules),
    ].filter((group) => group);
    this.list.replaceChildren(...groups.length ? groups : [element("p", { class: "hint" }, "Nothing is recorded yet.")]);
  }

  #offer(checkpoints) {
    const named = checkpoints.map((one) => [one.name, `step ${number(one.step)}${one.marks.length ? ` (${one.marks.join(", ")})` : ""}`]);
    const options = [["newest", "newest"], ["best", "best"], ...named];
    this.weights.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
    this.weights.choose(this.wanted);
  }

  #group(title, episodes) {
    if (!episodes.length) return null;
    return section(title, episodes.map((one) => this.#button(
      `return ${number(one.return)}`, `step ${number(one.step)}`,
      { evaluation: { checkpoint: one.checkpoint, number: one.number, environment: one.environment, return: one.return } })));
  }

  #checkpoints(checkpoints) {
    if (!checkpoints.length) return null;
    return section("Checkpoints", checkpoints.map((one) => this.#button(
      `step ${number(one.step)}`, [one.mean == null ? "" : `mean return ${number(one.mean)}`, ...one.marks].filter(Boolean).join(" · "),
      { weights: one.name, new: true, pause: false })));
  }

  #capsules(names) {
    if (!names.length) return null;
    return section("Crash capsules", names.map((name) => this.#button(name.replace(/^capsule-|\.json$/g, ""), "replay until it fails", { capsule: name })));
  }

  #button(text, detail, command) {
    return element("li", {}, element("button", { type: "button", onclick: () => this.tell(command) }, `▶ ${text}`,
      detail ? element("small", {}, detail) : null));
  }
}

function section(title, items) {
  return element("section", {}, element("h4", {}, title), element("ul", {}, ...items));
}
