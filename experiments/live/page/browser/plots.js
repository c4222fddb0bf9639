// The last seconds as they scroll: waveform, spectrogram, MACs per frame, and the words over them.

const SECONDS = { wide: 12, narrow: 6 };
const KEPT = 2048; // columns of 10 ms: more than is ever in sight
const HEIGHTS = { wave: 56, mel: 132, words: 24, macs: 116, time: 18 };
const SAID = 20; // where what is said is known
const GAP = 8;
const NARROW = 600; // pixels

export class Plots {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.mel = document.createElement("canvas");
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolor());
  }

  // As `live_page.describe` gives it.
  describe(model) {
    this.model = model;
    this.mel.width = KEPT;
    this.mel.height = model.bands;
    this.bands = new Uint8Array(KEPT * model.bands);
    this.wave = new Int8Array(KEPT * 2);
    this.clear();
    this.recolor();
    this.resize();
  }

  // A new stream; said: [[seconds, word]] where it is known.
  clear(said = []) {
    this.columns = 0;
    this.shown = 0;
    this.steps = [];
    this.words = [];
    this.said = said;
    this.bands?.fill(0);
    this.wave?.fill(0);
    this.paintColumns(0, KEPT);
    this.resize();
  }

  // A message of type "heard".
  add({ wave, mel, steps }) {
    const waves = new Int8Array(bytes(wave).buffer);
    const bands = bytes(mel);
    const count = waves.length / 2;
    for (let i = 0; i < count; i++) {
      const to = (this.columns + i) % KEPT;
      this.wave.set(waves.subarray(2 * i, 2 * i + 2), 2 * to);
      this.bands.set(bands.subarray(i * this.model.bands, (i + 1) * this.model.bands), to * this.model.bands);
    }
    this.paintColumns(this.columns, count);
    this.columns += count;
    for (const step of steps) {
      // A decision is made where its window ends.
      const end = (step.time_ms + this.model.window_ms) / 1000;
      this.steps.push({ end, whole: step.whole_macs, fresh: step.macs });
      if (step.fired) this.words.push({ begin: step.time_ms / 1000, end, word: step.word });
    }
    const oldest = this.columns * this.columnSeconds - 2 * SECONDS.wide;
    this.steps = this.steps.filter((step) => step.end > oldest);
    this.words = this.words.filter((word) => word.end > oldest);
    this.wake();
  }

  get top() {
    return this.said?.length ? SAID : 0;
  }

  get columnSeconds() {
    return this.model.frame_ms / 1000;
  }

  recolor() {
    const style = getComputedStyle(document.documentElement);
    const color = (role) => style.getPropertyValue(`--${role}`).trim();
    const roles = ["surface", "ink", "muted", "grid", "cell", "cost", "right", "unknown", "word", "panel"];
    this.colors = Object.fromEntries(roles.map((role) => [role, color(role)]));
    this.palette = palette([color("panel"), color("mel-1"), color("mel-2"), color("mel-3")]);
    if (this.model) this.paintColumns(0, KEPT);
    this.wake();
  }

  // The spectrogram's columns in a ring, one pixel each.
  paintColumns(first, count) {
    if (!this.model || !this.palette || !count) return;
    const { bands } = this.model;
    const context = this.mel.getContext("2d");
    const image = context.createImageData(1, bands);
    for (let i = first; i < first + Math.min(count, KEPT); i++) {
      const column = i % KEPT;
      for (let band = 0; band < bands; band++) {
        const value = this.bands[column * bands + band];
        image.data.set(this.palette.subarray(4 * value, 4 * value + 4), 4 * (bands - 1 - band));
      }
      context.putImageData(image, column, 0);
    }
  }

  resize() {
    const width = this.canvas.parentElement.clientWidth;
    if (!width) return;
    const height = Object.values(HEIGHTS).reduce((a, b) => a + b, this.top) + 2 * GAP;
    const ratio = devicePixelRatio || 1;
    this.width = width;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.wake();
  }

  wake() {
    this.frame ??= requestAnimationFrame((now) => this.tick(now));
  }

  // Sound comes in steps; time flows: a moment behind what came last, at its own pace.
  tick(now) {
    this.frame = undefined;
    const latest = this.model ? this.columns * this.columnSeconds : 0;
    const passed = Math.min(0.1, (now - (this.last ?? now)) / 1000);
    this.last = now;
    this.shown = this.calm.matches ? latest : Math.min(latest, Math.max(this.shown + passed, latest - 0.5));
    if (this.model && this.width) this.draw();
    if (this.shown < latest) this.wake();
    else this.last = undefined;
  }

  draw() {
    const { context: c, width } = this;
    const span = width < NARROW ? SECONDS.narrow : SECONDS.wide;
    const right = Math.max(span, this.shown);
    const left = right - span;
    const x = (seconds) => ((seconds - left) / span) * width;
    c.clearRect(0, 0, width, this.canvas.height);
    c.font = "12px system-ui, sans-serif";
    let { top } = this;
    this.drawSaid(x);
    this.drawWave(x, left, top);
    top += HEIGHTS.wave;
    this.drawMel(x, left, top);
    top += HEIGHTS.mel;
    this.drawWords(x, top);
    top += HEIGHTS.words + GAP;
    this.drawMacs(x, top);
    top += HEIGHTS.macs + GAP;
    this.drawTime(x, left, right, top);
  }

  drawSaid(x) {
    const { context: c } = this;
    c.fillStyle = this.colors.muted;
    c.textBaseline = "middle";
    c.textAlign = "center";
    for (const [begin, word] of this.said) {
      const middle = begin + 0.5;
      if (middle > this.shown) continue;
      c.fillText(word === "_unknown_" ? "(other)" : word, x(middle), SAID / 2);
    }
  }

  drawWave(x, left, top) {
    const { context: c } = this;
    const middle = top + HEIGHTS.wave / 2;
    const step = this.columnSeconds;
    const wide = Math.max(1, x(left + step));
    c.fillStyle = this.colors.muted;
    for (let i = Math.max(0, Math.floor(left / step)); i * step < this.shown; i++) {
      const [low, high] = this.wave.subarray(2 * (i % KEPT), 2 * (i % KEPT) + 2);
      const up = (high / 127) * (HEIGHTS.wave / 2);
      const down = (low / 127) * (HEIGHTS.wave / 2);
      c.fillRect(x(i * step), middle - up, wide, Math.max(1, up - down));
    }
  }

  drawMel(x, left, top) {
    const { context: c } = this;
    c.fillStyle = this.colors.panel;
    c.fillRect(0, top, this.width, HEIGHTS.mel);
    const step = this.columnSeconds;
    let from = Math.max(0, Math.floor(left / step));
    const to = Math.floor(this.shown / step);
    while (from < to) {
      const column = from % KEPT;
      const count = Math.min(to - from, KEPT - column);
      c.drawImage(
        this.mel, column, 0, count, this.model.bands,
        x(from * step), top, x((from + count) * step) - x(from * step), HEIGHTS.mel,
      );
      from += count;
    }
  }

  drawWords(x, top) {
    const { context: c } = this;
    c.textBaseline = "middle";
    c.textAlign = "center";
    for (const { begin, end, word } of this.words) {
      if (end > this.shown + this.model.step_ms / 1000) continue;
      c.fillStyle = this.colors.right;
      c.fillRect(x(begin), top + 1, x(end) - x(begin), 2);
      c.globalAlpha = 0.14;
      c.fillRect(x(begin), this.top, x(end) - x(begin), top - this.top);
      c.globalAlpha = 1;
      c.font = "600 13px system-ui, sans-serif";
      c.fillText(word, x((begin + end) / 2), top + 14);
    }
    c.font = "12px system-ui, sans-serif";
  }

  drawMacs(x, top) {
    const { context: c } = this;
    const { full_macs: full, step_ms: step } = this.model;
    const most = 1.2 * full; // room for the label
    const y = (macs) => top + HEIGHTS.macs * (1 - macs / most);
    c.strokeStyle = this.colors.grid;
    c.lineWidth = 1;
    line(c, [[0, y(0) - 0.5], [this.width, y(0) - 0.5]]);
    const shown = this.steps.filter(({ end }) => end <= this.shown + step / 1000);
    c.fillStyle = this.colors.cost;
    c.globalAlpha = 0.35;
    for (const { end, fresh } of shown) {
      c.fillRect(x(end - step / 1000), y(fresh), x(end) - x(end - step / 1000), y(0) - y(fresh));
    }
    c.globalAlpha = 1;
    c.strokeStyle = this.colors.cell;
    c.lineWidth = 2;
    line(c, shown.flatMap(({ end, whole }) => [[x(end - step / 1000), y(whole)], [x(end), y(whole)]]));
    c.strokeStyle = this.colors.muted;
    c.lineWidth = 1;
    c.setLineDash([5, 4]);
    line(c, [[0, y(full)], [this.width, y(full)]]);
    c.setLineDash([]);
    c.fillStyle = this.colors.muted;
    c.textAlign = "left";
    c.textBaseline = "bottom";
    c.fillText(`${short(full)} MACs per frame`, 0, y(full) - 3);
  }

  drawTime(x, left, right, top) {
    const { context: c } = this;
    c.fillStyle = this.colors.muted;
    c.textAlign = "center";
    c.textBaseline = "top";
    for (let second = Math.ceil(left / 2) * 2; second <= right; second += 2) {
      const inset = Math.min(Math.max(x(second), 14), this.width - 16);
      c.fillText(clock(second), inset, top);
    }
  }
}

// 75 → "1:15".
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// 1234567 → "1.23M".
export function short(macs) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (macs >= size) return `${Number((macs / size).toPrecision(3))}${unit}`;
  }
  return String(Math.round(macs));
}

function line(context, points) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

// 256 colours through the given ones, as RGBA.
function palette(stops) {
  const out = new Uint8ClampedArray(4 * 256);
  const rgb = stops.map((stop) => [1, 3, 5].map((i) => parseInt(stop.slice(i, i + 2), 16)));
  for (let value = 0; value < 256; value++) {
    const place = (value / 255) * (rgb.length - 1);
    const at = Math.min(Math.floor(place), rgb.length - 2);
    const mixed = rgb[at].map((low, i) => low + (place - at) * (rgb[at + 1][i] - low));
    out.set([...mixed, 255], 4 * value);
  }
  return out;
}
