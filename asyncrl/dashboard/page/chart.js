/** Line charts on a canvas: axes with units, bands, whiskers, a crosshair for pointer and keyboard. */
import { duration, element, number, short } from "./common.js";

const MARGIN = { right: 14, top: 10, bottom: 24 };
const ALIGNED = new Set(); // charts whose crosshair and range follow one another
let range = null; // [from, to] of the x axis that a drag has chosen

/**
 * A chart of curves over the same x axis.
 *
 * A series is {name, color, x, y} and optionally low and high (a band), whiskers (low and high are drawn as bars), dots
 * (no line), faint (drawn behind, not in the tooltip), dashed. Missing values are null.
 */
export class Chart {
  constructor({ title, unit = "", about = "" }) {
    this.title = title;
    this.unit = unit;
    this.series = [];
    this.axis = "step";
    this.at = null;
    this.canvas = element("canvas", { tabindex: "0", role: "img" });
    this.value = element("span", { class: "now" });
    this.tip = element("div", { class: "tip", hidden: true });
    this.element = element(
      "figure", { class: "chart", title: about },
      element("figcaption", {}, element("span", { class: "title" }, title),
        unit && element("span", { class: "unit" }, unit), this.value),
      element("div", { class: "plot" }, this.canvas, this.tip),
    );
    this.newest = "";
    this.#label();
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    new IntersectionObserver(([entry]) => { this.seen = entry.isIntersecting; this.draw(); }).observe(this.canvas);
    ALIGNED.add(this);
  }

  set(series, axis) {
    this.series = series.filter((one) => one.x.length);
    this.axis = axis;
    const newest = this.series.filter((one) => !one.faint).map((one) => [one, last(one.y)]).filter(([, y]) => y != null);
    this.value.replaceChildren(...newest.slice(0, 4).map(([one, y]) => {
      const shown = element("b", {}, number(y));
      shown.style.color = newest.length > 1 ? one.color : "";
      return shown;
    }));
    this.newest = newest.map(([one, y]) => `${one.name} ${number(y)}`).join(", ");
    if (!this.pointed) this.#label(); // while a point is read its label stays
    this.draw();
  }

  #label() {
    this.canvas.setAttribute("aria-label", `${this.title}${this.unit && `, ${this.unit}`}: ${this.newest || "no data yet"}`);
  }

  draw() {
    if (this.scheduled || !this.seen) return; // a chart out of sight is drawn when it comes into sight
    this.scheduled = true;
    requestAnimationFrame(() => { this.scheduled = false; this.#paint(); });
  }

  #paint() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.canvas);
    const ink = style.getPropertyValue("--muted");
    pen.font = `11px ${style.fontFamily}`;
    this.scale = this.#scales(pen, width, height);
    if (!this.scale) {
      pen.fillStyle = ink;
      pen.textAlign = "center";
      pen.fillText("no data yet", width / 2, height / 2);
      return;
    }
    this.#axes(pen, style, ink, width, height);
    pen.save();
    pen.beginPath();
    pen.rect(this.left, MARGIN.top - 4, width - this.left - MARGIN.right + 6, height - MARGIN.top - MARGIN.bottom + 6);
    pen.clip();
    for (const one of this.series) drawSeries(pen, one, this.scale);
    pen.restore();
    if (this.at != null) this.#crosshair(pen, ink, height);
    if (this.dragged) {
      const [from, to] = this.dragged.map(this.scale.x);
      pen.fillStyle = style.getPropertyValue("--accent");
      pen.globalAlpha = 0.12;
      pen.fillRect(Math.min(from, to), MARGIN.top, Math.abs(to - from), height - MARGIN.top - MARGIN.bottom);
      pen.globalAlpha = 1;
    }
  }

  #scales(pen, width, height) {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    const isInside = (x) => x != null && (!range || (x >= range[0] && x <= range[1]));
    const seen = (low, high) => { if (low != null && low < y0) y0 = low; if (high != null && high > y1) y1 = high; };
    for (const one of this.series) {
      for (let i = 0; i < one.x.length; i++) {
        const x = one.x[i];
        if (!isInside(x)) continue;
        if (x < x0) x0 = x;
        if (x > x1) x1 = x;
        if (!one.faint) seen(one.y[i], one.y[i]);
        if (one.whiskers) seen(one.low[i], one.high[i]);
      }
      if (one.faint) { // outliers of what is behind must not flatten the curve
        const known = one.y.filter((y, i) => y != null && isInside(one.x[i])).sort((a, b) => a - b);
        if (known.length) seen(known[Math.floor(known.length * 0.02)], known[Math.floor((known.length - 1) * 0.98)]);
      }
    }
    if (!(x1 >= x0) || !(y1 >= y0)) return null;
    if (range) [x0, x1] = range;
    else if (this.axis !== "time" || x0 < x1 / 3) x0 = Math.min(x0, 0);
    if (x1 === x0) x1 = x0 + 1;
    if (y1 - y0 <= 1e-9 * Math.max(-y0, y1)) y0 = y1; // they differ by rounding, as an average of equal values does
    if (y0 === 0 && y1 === 0) y1 = 1;
    const room = (y1 - y0 || Math.abs(y1)) * 0.06;
    const floor = y0 >= 0 && y0 - room < 0 ? 0 : y0 - room;
    [y0, y1] = [floor, y1 + room];
    const marks = ticks(y0, y1, Math.max(2, Math.floor(height / 52)));
    this.left = Math.max(30, ...marks.map((tick) => pen.measureText(short(tick)).width)) + 12;
    const left = this.left;
    const [w, h] = [width - this.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    return {
      x: (value) => left + ((value - x0) / (x1 - x0)) * w,
      y: (value) => MARGIN.top + (1 - (value - y0) / (y1 - y0)) * h,
      value: (pixel) => x0 + ((pixel - left) / w) * (x1 - x0),
      x0, x1, marks,
    };
  }

  #axes(pen, style, ink, width, height) {
    const { x, y, x0, x1 } = this.scale;
    pen.strokeStyle = style.getPropertyValue("--grid");
    pen.fillStyle = ink;
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const tick of this.scale.marks) {
      const at = Math.round(y(tick)) + 0.5;
      pen.beginPath();
      pen.moveTo(this.left, at);
      pen.lineTo(width - MARGIN.right, at);
      pen.stroke();
      pen.fillText(short(tick), this.left - 7, at);
    }
    pen.textBaseline = "top";
    const below = this.axis === "time" ? timeTicks(x0, x1, width / 90) : ticks(x0, x1, Math.max(2, Math.floor(width / 80)));
    for (const tick of below) {
      const text = this.axis === "time" ? duration(tick).replace(" 0 s", "").replace(" 0 min", "") : short(tick);
      const half = pen.measureText(text).width / 2;
      pen.textAlign = x(tick) - half < this.left ? "left" : x(tick) + half > width ? "right" : "center";
      pen.fillText(text, x(tick), height - MARGIN.bottom + 8);
    }
  }

  #crosshair(pen, ink, height) {
    const { x, y } = this.scale;
    const rows = [];
    let where = null;
    for (const one of this.series.filter((each) => !each.faint)) {
      const i = nearest(one.x, this.at);
      if (i < 0 || one.y[i] == null) continue;
      where ??= one.x[i];
      const low = one.low?.[i], high = one.high?.[i];
      rows.push([one, one.y[i], low == null || high == null ? "" : ` [${number(low)}, ${number(high)}]`]);
      pen.fillStyle = one.color;
      pen.beginPath();
      pen.arc(x(one.x[i]), y(one.y[i]), 3.5, 0, 7);
      pen.fill();
    }
    if (where == null) return;
    pen.strokeStyle = ink;
    pen.globalAlpha = 0.5;
    pen.beginPath();
    pen.moveTo(Math.round(x(where)) + 0.5, MARGIN.top);
    pen.lineTo(Math.round(x(where)) + 0.5, height - MARGIN.bottom);
    pen.stroke();
    pen.globalAlpha = 1;
    if (!this.pointed) return;
    const over = this.axis === "time" ? duration(where) : `${this.axis} ${number(where)}`;
    this.tip.replaceChildren(element("div", { class: "over" }, over), ...rows.map(([one, value, interval]) => {
      const swatch = element("i");
      swatch.style.background = one.color;
      return element("div", {}, swatch, element("span", {}, one.name), element("b", {}, number(value) + interval));
    }));
    this.tip.hidden = false;
    const left = x(where) + 12 + this.tip.offsetWidth > this.canvas.clientWidth ? x(where) - 12 - this.tip.offsetWidth : x(where) + 12;
    this.tip.style.transform = `translate(${Math.max(0, left)}px, ${MARGIN.top}px)`;
  }

  #point(value) {
    for (const chart of ALIGNED) {
      chart.at = value;
      const wasPointed = chart.pointed;
      chart.pointed = chart === this && value != null;
      if (!chart.pointed) chart.tip.hidden = true;
      if (wasPointed && !chart.pointed) chart.#label();
      if (chart.canvas.isConnected) chart.draw();
    }
  }

  #listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointermove", (event) => {
      if (!this.scale) return;
      const value = this.scale.value(event.offsetX);
      if (this.dragged) this.dragged[1] = value;
      this.#point(value);
    });
    canvas.addEventListener("pointerleave", () => { if (!this.dragged) this.#point(null); });
    canvas.addEventListener("blur", () => this.#point(null));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || event.pointerType !== "mouse" || !this.scale) return;
      canvas.setPointerCapture(event.pointerId);
      this.dragged = [this.scale.value(event.offsetX), this.scale.value(event.offsetX)];
    });
    canvas.addEventListener("pointerup", () => {
      const [from, to] = (this.dragged ?? [0, 0]).toSorted((a, b) => a - b);
      this.dragged = null;
      if (this.scale && this.scale.x(to) - this.scale.x(from) > 8) setRange([from, to]);
    });
    canvas.addEventListener("dblclick", () => setRange(null));
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      const base = this.series.find((one) => !one.faint);
      if (event.key === "Escape") { setRange(null); this.#point(null); }
      if (!base || (!move && event.key !== "Home" && event.key !== "End")) return;
      event.preventDefault();
      const now = this.at == null ? base.x.length - 1 : nearest(base.x, this.at) + (move ?? 0);
      const index = event.key === "Home" ? 0 : event.key === "End" ? base.x.length - 1 : now;
      const i = Math.max(0, Math.min(base.x.length - 1, index));
      this.#point(base.x[i]);
      canvas.setAttribute("aria-label", `${this.title} at ${this.axis} ${number(base.x[i])}: ${number(base.y[i])}`);
    });
  }
}

/** Show only this part of the x axis in every chart; null shows all. */
export function setRange(chosen) {
  range = chosen;
  for (const chart of ALIGNED) if (chart.canvas.isConnected) chart.draw();
}

function drawSeries(pen, one, { x, y }) {
  const { low, high } = one;
  pen.strokeStyle = pen.fillStyle = one.color;
  if (low && !one.whiskers) {
    pen.globalAlpha = 0.14;
    pen.beginPath();
    const known = [...one.x.keys()].filter((i) => low[i] != null && high[i] != null);
    known.forEach((i, n) => pen[n ? "lineTo" : "moveTo"](x(one.x[i]), y(high[i])));
    known.reverse().forEach((i) => pen.lineTo(x(one.x[i]), y(low[i])));
    pen.fill();
  }
  pen.globalAlpha = one.faint ? 0.22 : 1;
  if (!one.dots) {
    pen.lineWidth = one.faint ? 1 : 1.8;
    pen.lineJoin = "round";
    pen.setLineDash(one.dashed ? [5, 4] : []);
    pen.beginPath();
    let begun = false;
    for (let i = 0; i < one.x.length; i++) {
      if (one.y[i] == null) continue;
      pen[begun ? "lineTo" : "moveTo"](x(one.x[i]), y(one.y[i]));
      begun = true;
    }
    pen.stroke();
    pen.setLineDash([]);
  }
  if (one.whiskers) {
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (let i = 0; i < one.x.length; i++) {
      if (low[i] == null || high[i] == null) continue;
      pen.moveTo(x(one.x[i]), y(low[i]));
      pen.lineTo(x(one.x[i]), y(high[i]));
    }
    pen.stroke();
  }
  if (one.dots || one.whiskers || one.x.length === 1) {
    const size = one.faint ? 1.3 : one.x.length > 60 ? 2 : 3;
    for (let i = 0; i < one.x.length; i++) {
      if (one.y[i] == null) continue;
      if (one.faint) { pen.fillRect(x(one.x[i]) - size, y(one.y[i]) - size, 2 * size, 2 * size); continue; }
      pen.beginPath();
      pen.arc(x(one.x[i]), y(one.y[i]), size, 0, 7);
      pen.fill();
    }
  }
  pen.globalAlpha = 1;
}

function ticks(from, to, count) {
  const raw = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const found = [];
  for (let n = Math.ceil(from / step - 1e-9); n * step <= to * (1 + 1e-12) + step * 1e-9; n++) found.push(n * step);
  return found;
}

function timeTicks(from, to, count) {
  const raw = (to - from) / Math.max(2, count);
  const sizes = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const step = sizes.find((size) => size >= raw) ?? 86400 * Math.ceil(raw / 86400);
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}

/** The index of the value nearest to `at` in an ascending list; -1 for an empty one. */
function nearest(values, at) {
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < at) low = middle + 1;
    else high = middle;
  }
  return low > 0 && at - values[low - 1] < values[low] - at ? low - 1 : low < values.length ? low : -1;
}

function last(values) {
  for (let i = values.length - 1; i >= 0; i--) if (values[i] != null) return values[i];
  return null;
}
