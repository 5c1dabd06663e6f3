/** What a player shows besides its picture: bars, the value over the episode, saliency. */
import { element, number } from "./common.js";

const LEAST_PIXELS = 480;

/** Draw a picture, enlarged by a whole factor where it is small, and saliency over it. */
export function drawPicture(canvas, bitmap, saliency) {
  const factor = Math.max(1, Math.ceil(LEAST_PIXELS / Math.max(bitmap.width, bitmap.height)));
  const [width, height] = [bitmap.width * factor, bitmap.height * factor];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(bitmap, 0, 0, width, height);
  if (saliency) drawSaliency(pen, saliency, width, height, true);
}

/** Draw saliency maps alone, for inputs that are not the picture: a square for each cell. */
export function drawMaps(canvas, maps) {
  const { width, height } = Object.values(maps)[0];
  const cell = Math.max(4, Math.round(160 / Math.max(width, height)));
  Object.assign(canvas, { width: width * cell, height: height * cell });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#101418";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  drawSaliency(pen, maps, canvas.width, canvas.height, false);
}

const COLORS = { policy: [64, 140, 255], value: [255, 70, 60] };

function drawSaliency(pen, maps, width, height, smooth) {
  for (const [name, map] of Object.entries(maps)) {
    const values = Uint8Array.from(atob(map.values), (letter) => letter.charCodeAt(0));
    const [red, green, blue] = COLORS[name] ?? COLORS.policy;
    const image = new ImageData(map.width, map.height);
    values.forEach((value, i) => image.data.set([red, green, blue, value * 0.75], 4 * i));
    const small = new OffscreenCanvas(map.width, map.height);
    small.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = smooth;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(small, 0, 0, width, height);
  }
  pen.imageSmoothingEnabled = false;
}

/** Groups of bars that are updated in place: one for each part of an action, or for the observation's numbers. */
export class Bars {
  constructor() {
    this.node = element("div", { class: "bars" });
    this.shape = "";
    this.range = [];
  }

  /** Forget the range of values seen, at the beginning of an episode. */
  reset() {
    this.range = [];
  }

  show(groups) {
    const shape = JSON.stringify(groups.map((group) => [group.title, group.names]));
    if (shape !== this.shape) {
      this.shape = shape;
      this.reset();
      this.rows = groups.map((group) => group.names.map(row));
      this.node.replaceChildren(...groups.map((group, i) => element("section", { class: "bar-group" },
        element("h4", {}, group.title), ...this.rows[i].map((one) => one.node))));
    }
    groups.forEach((group, i) => this.#showGroup(group, this.rows[i], i));
  }

  #showGroup(group, rows, index) {
    const known = group.values.filter((value) => value != null);
    const range = this.range[index] ??= [Infinity, -Infinity];
    range[0] = group.low ?? Math.min(range[0], ...known);
    range[1] = group.high ?? Math.max(range[1], ...known);
    const margin = group.low == null && group.kind !== "number" ? 0.15 * (range[1] - range[0]) : 0;
    const lowest = range[0] - margin;
    const size = range[1] - lowest || 1;
    const centered = group.kind === "number" || group.is_continuous;
    rows.forEach((one, i) => {
      const value = group.values[i];
      const share = value == null ? 0 : Math.min(1, Math.max(0, (value - lowest) / size));
      one.node.classList.toggle("forbidden", value == null);
      one.node.classList.toggle("chosen", !centered && group.chosen[0] === i);
      if (centered) {
        const zero = Math.min(1, Math.max(0, -lowest / size));
        one.fill.style.left = `${100 * Math.min(zero, share)}%`;
        one.fill.style.width = `${100 * Math.abs(share - zero)}%`;
        const spread = (group.spreads[i] ?? 0) / size;
        one.spread.style.left = `${100 * Math.max(0, share - spread)}%`;
        one.spread.style.width = `${100 * (Math.min(1, share + spread) - Math.max(0, share - spread))}%`;
        one.taken.style.left = `${100 * Math.min(1, Math.max(0, (group.chosen[i] - lowest) / size))}%`;
      } else {
        one.fill.style.left = "0";
        one.fill.style.width = `${100 * share}%`;
      }
      one.spread.hidden = !centered || !group.spreads.length;
      one.taken.hidden = !centered || group.chosen[i] == null;
      one.value.textContent = value == null ? "not allowed" : !centered && group.high === 1 ? percent(value) : number(value);
    });
  }
}

function row(name) {
  const fill = element("span", { class: "fill" });
  const spread = element("span", { class: "spread" });
  const taken = element("span", { class: "taken" });
  const value = element("span", { class: "number" });
  const track = element("span", { class: "track", "aria-hidden": "true" }, fill, spread, taken);
  return { node: element("div", { class: "bar" }, element("span", { class: "name", title: name }, name), track, value), fill, spread, taken, value };
}

function percent(value) {
  return `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
}

/** The value over the episode, as a line. */
export class ValueChart {
  constructor() {
    this.canvas = element("canvas", { class: "value-chart", role: "img", "aria-label": "Value over the episode" });
    this.title = element("h4", {}, "value over the episode");
    this.node = element("section", { class: "bar-group" }, this.title, this.canvas);
    this.reset();
  }

  reset() {
    this.points = [];
  }

  add(step, value, name) {
    this.title.textContent = `${name} over the episode`;
    const before = this.points.at(-1)?.[0];
    if (before === step) this.points.pop(); // shown again
    else if (before > step) this.reset();
    this.points.push([step, value]);
    if (this.points.length > 4000) this.points = this.points.filter((_, i) => i % 2);
  }

  draw() {
    const { canvas, points } = this;
    this.node.hidden = points.length === 0;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || points.length < 2) return;
    if (canvas.width !== width * ratio) Object.assign(canvas, { width: width * ratio, height: height * ratio });
    const style = getComputedStyle(canvas);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `11px ${style.fontFamily}`;
    const values = points.map((point) => point[1]);
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (high - low < 1e-9) [low, high] = [low - 1, high + 1];
    const left = 8 + Math.max(pen.measureText(number(rounded(low))).width, pen.measureText(number(rounded(high))).width);
    const last = points.at(-1)[0];
    const first = points[0][0];
    const x = (step) => left + (width - left - 6) * (step - first) / Math.max(1, last - first);
    const y = (value) => 8 + (height - 28) * (high - value) / (high - low);
    pen.fillStyle = style.color;
    pen.textAlign = "right";
    pen.fillText(number(rounded(high)), left - 5, y(high) + 4);
    pen.fillText(number(rounded(low)), left - 5, y(low) + 4);
    pen.fillText(`step ${number(last)}`, width - 6, height - 4);
    pen.textAlign = "left";
    pen.fillText(number(first), left, height - 4);
    pen.strokeStyle = style.getPropertyValue("--grid") || style.color;
    pen.lineWidth = 1;
    for (const value of low < 0 && high > 0 ? [low, 0, high] : [low, high]) {
      pen.beginPath();
      pen.moveTo(left, y(value));
      pen.lineTo(width - 6, y(value));
      pen.stroke();
    }
    pen.strokeStyle = style.getPropertyValue("--accent") || "#2f6fde";
    pen.lineWidth = 1.6;
    pen.lineJoin = "round";
    pen.beginPath();
    for (const [step, value] of points) pen.lineTo(x(step), y(value));
    pen.stroke();
  }
}

function rounded(value) {
  return Number(value.toPrecision(3));
}
