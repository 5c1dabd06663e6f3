/** The panel of the playing agents: one for each run that is shown, at most four of which play. */
import { element, number } from "./common.js";
import { Bars, ValueChart, drawMaps, drawPicture } from "./player-drawing.js";
import { EpisodeBrowser } from "./player-episodes.js";
import { openStream, tell } from "./player-stream.js";

const MOST = 4;
const SPEEDS = [["0.25", "¼×"], ["0.5", "½×"], ["1", "1×"], ["2", "2×"], ["4", "4×"], ["8", "8×"], ["0", "max"]];
const KEYS = [["Space", "play or pause"], ["→", "one step"], ["N", "new episode"], ["S", "saliency"], ["I", "game or network's input"],
  ["G", "greedy or sampled"], ["+ −", "faster, slower"]];

/**
 * `mountPlayer(section)` is called once; `show(runs)` whenever the shown runs change, each
 * {id, name, color, state, evaluation, facts}.
 */
export function mountPlayer(section) {
  const panels = new Map();
  const styles = element("link", { rel: "stylesheet", href: "player.css" });
  document.head.append(styles);
  document.addEventListener("visibilitychange", () => {
    for (const panel of panels.values()) panel.setVisible(!document.hidden);
  });
  return {
    show(runs) {
      const shown = runs.slice(0, MOST);
      const ids = new Set(shown.map((run) => run.id));
      for (const [id, panel] of panels) {
        if (!ids.has(id)) {
          panel.close();
          panels.delete(id);
        }
      }
      shown.forEach((run, i) => {
        if (!panels.has(run.id)) panels.set(run.id, new Panel(run, i === 0));
        panels.get(run.id).update(run);
      });
      const nodes = shown.map((run) => panels.get(run.id).node);
      if (nodes.length !== section.children.length || nodes.some((node, i) => section.children[i] !== node)) {
        section.replaceChildren(...nodes);
      }
      section.hidden = !shown.length;
    },
  };
}

class Panel {
  constructor(run, plays) {
    this.run = run;
    this.state = {};
    this.ready = null;
    this.announced = 0;
    this.#build();
    if (plays) this.open();
    else this.#idle("");
  }

  /** Take over what has changed about the run. */
  update(run) {
    this.run = run;
    this.title.textContent = run.name;
    this.dot.style.background = run.color ?? "";
    this.episodes.setRun(run);
  }

  open() {
    this.wanted = true;
    this.refused = "";
    this.start.hidden = true;
    this.#say("Starting …");
    this.stream?.close();
    const stream = this.stream = openStream(
      this.run.id,
      (message, data) => this.#take(message, data),
      (problem) => { if (this.stream === stream) this.#idle(problem); },
    );
  }

  close() {
    this.wanted = false;
    this.stream?.close();
    this.stream = null;
  }

  /** A page that nobody sees needs no player. */
  setVisible(visible) {
    if (!this.wanted) return;
    if (!visible) {
      this.stream?.close();
      this.stream = null;
    } else if (!this.stream) this.open();
  }

  #stop() {
    this.close();
    this.#idle("");
    this.start.focus();
  }

  #idle(problem) {
    if (this.refused) problem = this.refused;
    this.stream = null;
    this.node.classList.add("idle");
    this.start.hidden = false;
    this.#say(problem, Boolean(problem));
    if (problem) this.wanted = false;
  }

  async #take(message, data) {
    if (message.kind === "refused") this.refused = message.message;
    else this.refused = "";
    if (message.kind === "ready") this.#meet(message);
    if (message.kind === "state") this.#reflect(message);
    if (message.kind === "notice") this.#say(message.message, message.error);
    if (message.kind === "frame") await this.#draw(message, data);
  }

  #meet(ready) {
    this.ready = ready;
    this.node.classList.remove("idle");
    this.#say("");
    this.greedy.querySelector("[value=null]").textContent = `as evaluated (${ready.greedy ? "greedy" : "sampled"})`;
    this.greedy.querySelector("[value=true]").disabled = !ready.can_be_greedy;
    this.greedy.querySelector("[value=false]").disabled = !ready.can_sample;
    this.epsilon.disabled = !ready.can_explore;
    this.inputView.parentElement.hidden = !ready.sees_images || Boolean(ready.not_drawn);
    this.environment.replaceChildren(...ready.environments.map((name) => element("option", { value: name }, name)));
    this.environment.value = ready.environment;
    this.environment.parentElement.hidden = ready.environments.length < 2;
    this.weights.parentElement.hidden = !ready.is_run;
    this.notDrawn.textContent = ready.not_drawn ? `No picture: ${ready.not_drawn}. The network's input is shown instead.` : "";
    this.notDrawn.hidden = !ready.not_drawn;
    this.episodes.refresh();
  }

  #reflect(state) {
    this.state = state;
    this.play.textContent = state.paused ? "▶ Play" : "❚❚ Pause";
    this.play.setAttribute("aria-pressed", String(state.paused));
    this.speed.value = String(state.speed);
    this.greedy.value = String(state.greedy);
    if (document.activeElement !== this.epsilon) this.epsilon.value = state.epsilon;
    if (document.activeElement !== this.seed) this.seed.value = state.seed;
    this.saliency.checked = state.saliency;
    this.inputView.checked = state.view === "input";
    this.environment.value = state.environment;
    this.weights.choose(state.weights);
  }

  async #draw(frame, data) {
    if (frame.episode !== this.shownEpisode) {
      this.shownEpisode = frame.episode;
      this.chart.reset();
      this.bars.reset();
    }
    const maps = frame.saliency?.maps && Object.keys(frame.saliency.maps).length ? frame.saliency.maps : null;
    const overlays = maps && this.ready?.sees_images;
    if (data.length) {
      const bitmap = await createImageBitmap(new Blob([data], { type: frame.type }));
      drawPicture(this.canvas, bitmap, overlays ? maps : null);
      bitmap.close();
    }
    this.canvas.hidden = !data.length;
    this.maps.hidden = !maps || overlays;
    if (!this.maps.hidden) drawMaps(this.mapCanvas, maps);
    this.legend.hidden = !frame.saliency;
    this.legendText.textContent = maps
      ? `Saliency by ${this.ready?.saliency}, of step ${number(frame.saliency?.step)}`
      : `Sensitivity: the change of the outputs when one number moves by its standard deviation, at step ${number(frame.saliency?.step)}`;
    this.legend.querySelector(".policy-key").hidden = !maps;
    this.legend.querySelector(".value-key").hidden = !maps?.value;
    this.bars.show(frame.bars ?? []);
    this.numbers.show(this.#numberGroups(frame));
    if (frame.value != null) this.chart.add(frame.step, frame.value, frame.value_name);
    this.chart.draw();
    this.#describe(frame);
  }

  /** The observation's numbers, where there is no picture, and how much the outputs depend on each. */
  #numberGroups(frame) {
    const groups = [];
    const sensitivities = Object.entries(frame.saliency?.numbers ?? {});
    if (sensitivities.length) {
      const shown = sensitivities.length > 16 ? sensitivities.sort((a, b) => b[1] - a[1]).slice(0, 16) : sensitivities;
      groups.push({ title: "sensitivity", names: shown.map(([name]) => name),
        values: shown.map(([, value]) => value), chosen: [], spreads: [], low: 0, high: null });
    }
    const numbers = Object.entries(frame.numbers ?? {}).slice(0, 32);
    if (numbers.length) {
      groups.push({ kind: "number", title: "observation", names: numbers.map(([name]) => name),
        values: numbers.map(([, value]) => value), chosen: [], spreads: [], low: null, high: null });
    }
    return groups;
  }

  #describe(frame) {
    const { weights } = frame;
    const origin = weights.checkpoint === null ? "live, just learned" : `checkpoint ${weights.checkpoint.replace(/^0+(?=\d)/, "")}`;
    this.version.textContent = frame.capsule
      ? `Crash capsule: the episode in which it ${frame.capsule}; ${number(frame.of)} actions`
      : `Weights of update ${number(weights.update)}, step ${number(weights.step)} (${origin})`;
    const kind = frame.evaluation == null ? `episode ${frame.episode}, seed ${frame.seed}` : `evaluation episode ${frame.evaluation + 1}`;
    const facts = [kind, `step ${number(frame.step)}`, `return ${number(Number(frame.return.toPrecision(6)))}`];
    if (frame.action) facts.push(`action ${frame.action}`);
    if (frame.value != null) facts.push(`${frame.value_name} ${number(Number(frame.value.toPrecision(3)))}`);
    if (frame.done) facts.push("the episode is over");
    this.facts.replaceChildren(...facts.map((fact) => element("span", {}, fact)));
    const now = performance.now();
    if (now - this.announced > 1000) {
      this.announced = now;
      this.canvas.setAttribute("aria-label", `${this.ready?.environment ?? "The game"}: ${facts.join(", ")}`);
    }
  }

  #say(sentence, isError = false) {
    this.notice.textContent = sentence;
    this.notice.hidden = !sentence;
    this.notice.classList.toggle("error", isError);
  }

  #tell(command) {
    tell(this.run.id, command).catch((problem) => this.#say(problem.message, true));
  }

  #key(event) {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey || !this.stream) return;
    const at = SPEEDS.findIndex(([value]) => Number(value) === this.state.speed);
    const speed = (i) => this.#tell({ speed: Number(SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, i))][0]) });
    const actions = {
      " ": () => this.#tell({ pause: !this.state.paused }),
      arrowright: () => this.#tell({ step: true }),
      n: () => this.#tell({ new: true }),
      s: () => this.#tell({ saliency: !this.state.saliency }),
      i: () => this.#tell({ view: this.state.view === "input" ? "game" : "input" }),
      g: () => this.#tell({ greedy: !(this.state.greedy ?? this.ready.greedy) }),
      "+": () => speed(at + 1),
      "-": () => speed(at - 1),
    };
    const action = actions[event.key.toLowerCase()];
    if (!action || (event.key === " " && event.target.matches("button, summary"))) return;
    event.preventDefault();
    action();
  }

  #build() {
    const button = (label, text, click) => element("button", { type: "button", title: label, onclick: click }, text);
    const field = (label, control) => element("label", { class: "field" }, element("span", {}, label), control);
    const select = (options, change) => element("select", { onchange: change }, ...options.map(([value, text]) => element("option", { value }, text)));
    this.dot = element("span", { class: "dot", "aria-hidden": "true" });
    this.title = element("h3", {}, this.run.name);
    this.version = element("p", { class: "version" });
    this.notice = element("p", { class: "notice", role: "status", hidden: true });
    this.canvas = element("canvas", { class: "game", role: "img", "aria-label": "The agent playing" });
    this.mapCanvas = element("canvas", { role: "img", "aria-label": "Saliency of the cells of the network's input" });
    this.maps = element("figure", { class: "maps", hidden: true }, this.mapCanvas, element("figcaption", {}, "saliency of the network's input"));
    this.start = button("Start an agent that plays with the newest weights", "▶ Watch it play", () => this.open());
    this.start.className = "start";
    this.notDrawn = element("p", { class: "hint", hidden: true });
    this.legendText = element("span");
    this.legend = element("p", { class: "hint", hidden: true }, this.legendText,
      element("span", { class: "key policy-key" }, "policy"), element("span", { class: "key value-key" }, "value"));
    this.facts = element("p", { class: "facts" });
    this.bars = new Bars();
    this.numbers = new Bars();
    this.chart = new ValueChart();
    this.play = button("Play or pause (space)", "❚❚ Pause", () => this.#tell({ pause: !this.state.paused }));
    this.play.className = "primary";
    this.speed = select(SPEEDS, () => this.#tell({ speed: Number(this.speed.value) }));
    this.greedy = select([["null", "as evaluated"], ["true", "greedy"], ["false", "sampled"]], () => this.#tell({ greedy: JSON.parse(this.greedy.value) }));
    this.epsilon = element("input", { type: "number", min: 0, max: 1, step: 0.05, value: 0, onchange: () => this.#tell({ epsilon: Number(this.epsilon.value) }) });
    this.seed = element("input", { type: "number", min: 0, step: 1, value: 1, onchange: () => this.#tell({ seed: Number(this.seed.value) }) });
    this.saliency = element("input", { type: "checkbox", onchange: () => this.#tell({ saliency: this.saliency.checked }) });
    this.inputView = element("input", { type: "checkbox", onchange: () => this.#tell({ view: this.inputView.checked ? "input" : "game" }) });
    this.environment = select([], () => this.#tell({ environment: this.environment.value }));
    this.episodes = new EpisodeBrowser(this.run, (command) => this.#tell(command));
    this.weights = this.episodes.weights;
    const controls = element("div", { class: "controls", role: "group", "aria-label": "Controls of the player" },
      element("div", { class: "buttons" }, this.play, button("One step (right arrow)", "Step", () => this.#tell({ step: true })),
        button("New episode (N)", "New episode", () => this.#tell({ new: true })),
        button("End this player", "Stop", () => this.#stop())),
      field("Weights", this.weights), field("Environment", this.environment), field("Speed", this.speed), field("Actions", this.greedy),
      field("ε", this.epsilon), field("Next seed", this.seed),
      element("label", { class: "check" }, this.saliency, "Saliency"), element("label", { class: "check" }, this.inputView, "Network's input"));
    const keys = element("details", { class: "keys" }, element("summary", {}, "Keyboard"),
      element("dl", {}, ...KEYS.map(([key, what]) => element("div", {}, element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)))));
    this.node = element("article", { class: "panel idle", tabindex: "0", "aria-label": `Player of ${this.run.name}`, onkeydown: (event) => this.#key(event) },
      element("header", {}, this.dot, this.title, this.version),
      this.notice,
      element("div", { class: "stage" },
        element("div", { class: "screen" }, this.canvas, this.start, this.notDrawn, this.facts, this.maps, this.legend),
        element("div", { class: "readings" }, this.bars.node, this.chart.node, this.numbers.node)),
      controls, this.episodes.node, keys);
  }
}
