// The super-network as a drawing, laid out by the server in columns and rows.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 44; // pixels
const MARGIN = { x: 30, y: 20 };
const LETTER = 6.6; // pixels

export class Network {
  constructor(svg) {
    this.svg = svg;
    this.edges = [];
    new ResizeObserver(() => this.layOut()).observe(svg.parentElement);
  }

  // As `live_page.describe` gives it.
  show({ extent, layers, edges }) {
    this.extent = extent;
    this.edges = edges.map((edge) => {
      const path = document.createElementNS(SVG, "path");
      path.classList.toggle("gated", edge.gated);
      const title = document.createElementNS(SVG, "title");
      title.textContent = `${edge.name}: ${edge.macs.toLocaleString("en")} MACs`;
      path.append(title);
      return { path, points: edge.path };
    });
    this.layers = layers.map((layer) => {
      const group = document.createElementNS(SVG, "g");
      const box = document.createElementNS(SVG, "rect");
      const text = document.createElementNS(SVG, "text");
      text.textContent = layer.name;
      group.append(box, text);
      return { ...layer, group, box, text };
    });
    this.svg.replaceChildren(...this.edges.map((e) => e.path), ...this.layers.map((l) => l.group));
    this.layOut();
  }

  // Light the edges that run: their numbers.
  light(live) {
    const on = new Set(live);
    this.edges.forEach(({ path }, number) => path.classList.toggle("on", on.has(number)));
  }

  layOut() {
    const width = this.svg.parentElement.clientWidth;
    if (!this.extent || !width) return;
    const [left, low, right, high] = this.extent;
    const column = (width - 2 * MARGIN.x) / Math.max(right - left, 1);
    const row = Math.min(ROW, Math.max(26, column));
    const height = (high - low) * row + 2 * MARGIN.y;
    const at = ([x, y]) => [MARGIN.x + (x - left) * column, MARGIN.y + (high - y) * row];
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.style.height = `${height}px`;
    for (const { path, points } of this.edges) {
      const [first, ...rest] = points.map((point) => at(point).map((v) => v.toFixed(1)).join(" "));
      path.setAttribute("d", `M${first} ${"?LQC"[rest.length]}${rest.join(" ")}`);
    }
    // Names where all fit, else at the ends alone.
    const longest = Math.max(...this.layers.map((layer) => layer.name.length));
    const named = LETTER * longest + 14 < column;
    this.layers.forEach(({ at: place, name, group, box, text }) => {
      const [x, y] = at(place);
      const half = named ? (LETTER * name.length) / 2 + 6 : 4;
      const tall = named ? 10 : 4;
      group.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
      for (const [key, value] of Object.entries({ x: -half, y: -tall, width: 2 * half, height: 2 * tall, rx: 4 })) {
        box.setAttribute(key, value);
      }
      text.setAttribute("y", named ? 0 : 16);
      const isEnd = place[0] <= this.layers[0].at[0] || place[0] >= Math.max(...this.layers.map((l) => l.at[0]));
      text.style.display = named || isEnd ? "" : "none";
    });
  }
}
