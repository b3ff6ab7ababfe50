// Pictures of decisions: a map for `dispatch`, values for `td_value`, prices for `auction`, scores for `feature_selection`.
// A step is recognised by its operator, and what is drawn is what its views say. Every picture is told in words beside it.

import { askJson, clock, el, Figures, follow, percent, say, short, svg, Table, viewPath } from './lib.js';

const DRIVERS_MAX = 10000;
const ORDERS_MAX = 10000;
const MATCHES_SHOWN = 8;
const RING_MS = 6000;
const BARS = 20;
const HISTORY = 120;

/** The pictures of a pipeline, in the order of its steps; values that a map shows have no picture of their own. */
export function picturesOf(pipeline, stored) {
  const ownerOf = (relation) => pipeline.steps.find((s) => s.outputs.some((o) => o.name === relation));
  const shown = new Set();
  const make = (step) => {
    const has = (suffix) => stored.has(step.name + suffix);
    if (step.operator === 'dispatch' && has('.idle')) {
      const values = step.inputs.map(ownerOf).find((s) => s?.operator === 'td_value' && stored.has(s.name) && tileSize(s));
      if (values) shown.add(values);
      return new Fleet(step, values);
    }
    if (step.operator === 'td_value' && has('')) return new Values(step);
    if (step.operator === 'auction' && has('.prices')) return new Auction(step);
    if (step.operator === 'feature_selection' && has('.scores')) return new Selection(step);
    return null;
  };
  const made = pipeline.steps.map((step) => ({ step, picture: make(step) }));
  return made.filter(({ step, picture }) => picture && !shown.has(step)).map(({ picture }) => picture);
}

/** The side of a step's tiles, from what it says of itself; its values are of places only with tiles. */
const tileSize = (step) => Number(/\btiles of ([\d.e+-]+)/.exec(step.detail)?.[1] ?? 0);

const schemaOf = (step, suffix) => step.outputs.find((o) => o.name === step.name + suffix);

const rowsOf = async (view, query) => (await askJson(`${viewPath(view)}?${new URLSearchParams(query)}`)).rows;

const panel = (step, what, ...children) => el('section', { class: 'picture', 'aria-label': `${step.name}: ${what}` },
  el('h3', {}, step.name, ' ', el('span', { class: 'quiet' }, what)), ...children);

const scroll = (label, table) => el('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: '0' }, table.root);

/** A colour of the style sheet. */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The shifts of the five grids of tiles: `~X,Y` names a tile of each of them (docs/operators.md, dispatch, Values). */
const SHIFTS = [[3, 1], [1, -3], [-3, -1], [-1, 3], [0, 0]];

/** Half away from zero, as the engine rounds; `Math.round` goes up. */
const rounded = (x) => Math.sign(x) * Math.round(Math.abs(x));

/** A map of a fleet: who is idle and where, who was just sent, and what places are worth. */
class Fleet {
  #drivers = new Map();
  #orders = [];
  #lastSeen = new Map();
  #matches = [];
  #rings = [];
  #tiles = new Map();
  #bounds = null;
  #heat = null;
  #due = false;
  #polls = 0;

  constructor(step, values) {
    this.step = step;
    this.values = values;
    this.size = values ? tileSize(values) : 0;
    const idle = schemaOf(step, '.idle');
    this.key = idle.key;
    const names = new Set(idle.columns.map((c) => c.name));
    [this.x, this.y] = names.has('x') ? ['x', 'y'] : ['lon', 'lat'];
    this.canvas = el('canvas', { role: 'img', 'aria-label': 'Map of the fleet' });
    this.figures = new Figures();
    this.low = el('span', {}, '–');
    this.high = el('span', {}, '–');
    const legend = el('p', { class: 'legend' },
      el('span', {}, el('i', { class: 'key idle' }), 'idle driver'), el('span', {}, el('i', { class: 'key waiting' }), 'waiting order'), el('span', {}, el('i', { class: 'key ring' }), 'sent to an order from here'));
    if (values) legend.append(el('span', {}, 'what a place is worth ', this.low, el('i', { class: 'key heat' }), this.high));
    this.table = new Table('Latest matches', [
      { title: 'At', whole: true }, { title: 'Order', number: true }, { title: 'Driver', number: true }, { title: 'Distance, m', number: true }, { title: 'Reward', number: true }, { title: 'Weight', number: true },
    ]);
    this.root = panel(step, 'who serves whom', el('div', { class: 'beside' },
      el('figure', {}, this.canvas, el('figcaption', {}, legend)),
      el('div', {}, this.figures.root, scroll(`Latest matches of ${step.name}`, this.table))));
    new ResizeObserver(() => this.#soon()).observe(this.canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { this.#heat = null; this.#soon(); });
    follow(`${step.name}.idle`, async () => 'from=snapshot', () => this.#drivers.clear(), (c) => this.#moved(c));
    const since = async () => {
      const { since: oldest, published } = await askJson('/v1/epochs');
      return `after=${Math.max(oldest, published - 100)}`;
    };
    this.begun = performance.now();
    follow(`${step.name}.matches`, since, () => { this.#matches = []; this.begun = performance.now(); }, (c) => this.#matched(c));
  }

  #idOf = (row) => JSON.stringify(this.key.map((k) => row[k]));

  #moved({ key, row }) {
    const id = this.#idOf(key);
    if (row && Number.isFinite(row[this.x]) && Number.isFinite(row[this.y])) {
      const spot = [row[this.x], row[this.y]];
      if (this.#drivers.size < DRIVERS_MAX || this.#drivers.has(id)) this.#drivers.set(id, spot);
      this.#lastSeen.delete(id);
      this.#lastSeen.set(id, spot);
      if (this.#lastSeen.size > 2 * DRIVERS_MAX) this.#lastSeen.delete(this.#lastSeen.keys().next().value);
      this.#include(spot);
    } else {
      this.#drivers.delete(id);
    }
    this.#soon();
  }

  #matched({ row }) {
    if (!row) return;
    this.#matches = [row, ...this.#matches].slice(0, MATCHES_SHOWN);
    const spot = this.#lastSeen.get(this.#idOf(row));
    // What the log tells of the time before the page was opened is no news.
    if (spot && performance.now() - this.begun > 1500) this.#rings.push({ spot, from: performance.now() });
    this.#soon();
  }

  #include([x, y]) {
    const b = (this.#bounds ??= { left: x, right: x, low: y, high: y });
    if (x >= b.left && x <= b.right && y >= b.low && y <= b.high) return;
    [b.left, b.right, b.low, b.high] = [Math.min(b.left, x), Math.max(b.right, x), Math.min(b.low, y), Math.max(b.high, y)];
    this.#heat = null;
  }

  async poll() {
    const { views } = await askJson('/v1/views');
    const count = (suffix) => views.find((v) => v.name === this.step.name + suffix)?.rows;
    const rounds = await rowsOf(`${this.step.name}.rounds`, { limit: 100 });
    const sum = (name) => rounds.reduce((total, r) => total + Number(r[name] ?? 0), 0);
    this.figures.set('Idle drivers', short(count('.idle')));
    this.figures.set('Waiting orders', short(count('.waiting')));
    this.figures.set('Orders', short(sum('orders')));
    this.figures.set('Matched', short(sum('matched')));
    this.figures.set('Expired', short(sum('expired')));
    this.figures.set('Cancelled', short(sum('cancelled')));
    const matched = sum('matched');
    const mean = rounds.reduce((total, r) => total + (r.mean_distance_m ?? 0) * Number(r.matched), 0) / matched;
    this.figures.set('Mean distance', matched ? `${Math.round(mean)} m` : '–');
    this.table.update(this.#matches.map((m) => [clock(m.at), String(m.order), String(m.driver), short(Math.round(m.distance_m)), short(m.reward), short(m.weight)]));
    // Asked for and not followed: a browser has few connections, and each stream keeps one.
    const waiting = await rowsOf(`${this.step.name}.waiting`, { limit: ORDERS_MAX });
    this.#orders = waiting.map((o) => [o[`pickup_${this.x}`], o[`pickup_${this.y}`]]).filter((spot) => spot.every(Number.isFinite));
    for (const spot of this.#orders) this.#include(spot);
    if (this.values && this.#polls % 2 === 0) await this.#readTiles();
    this.#polls += 1;
    // Told every ten seconds, so that it can be read to the end.
    if (this.#polls % 10 === 1) {
      this.canvas.setAttribute('aria-label', `Map of the fleet: ${short(count('.idle'))} idle drivers, ${short(count('.waiting'))} waiting orders. Its figures and latest matches follow as text.`);
    }
    this.#soon();
  }

  async #readTiles() {
    const rows = await rowsOf(this.values.name, { limit: 10000, filter: "cell >= '~'" });
    this.#tiles = new Map(rows.filter((r) => typeof r.value === 'number').map((r) => [r.cell.slice(r.cell.lastIndexOf('~')), r.value]));
    for (const name of this.#bounds ? [] : this.#tiles.keys()) {
      const [x, y] = name.slice(1).split(',').map((n) => Number(n) * this.size);
      this.#include([x, y]);
    }
    this.#heat = null;
  }

  /** What a place is worth by its tiles alone: the mean of the five that hold it. */
  #worth(x, y) {
    let sum = 0;
    for (const [dx, dy] of SHIFTS) sum += this.#tiles.get(`~${rounded(x / this.size + 0.3 * dx)},${rounded(y / this.size + 0.3 * dy)}`) ?? 0;
    return sum / SHIFTS.length;
  }

  #soon() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !this.#bounds) return;
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.#heat = null;
    }
    const pen = this.canvas.getContext('2d');
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    // On the globe a degree of longitude is shorter than one of latitude.
    const b = this.#bounds;
    const squeeze = this.x === 'lon' ? Math.max(0.05, Math.cos(((b.low + b.high) / 2) * (Math.PI / 180))) : 1;
    const margin = 16;
    const scale = Math.min((width - 2 * margin) / Math.max(1e-9, (b.right - b.left) * squeeze), (height - 2 * margin) / Math.max(1e-9, b.high - b.low));
    const [middleX, middleY] = [(b.left + b.right) / 2, (b.low + b.high) / 2];
    const toX = (x) => width / 2 + (x - middleX) * squeeze * scale;
    const toY = (y) => height / 2 - (y - middleY) * scale;
    if (this.values) {
      this.#heat ??= this.#paintHeat(width, height, (px) => middleX + (px - width / 2) / (squeeze * scale), (py) => middleY - (py - height / 2) / scale);
      pen.imageSmoothingEnabled = true;
      pen.drawImage(this.#heat, 0, 0, width, height);
    }
    const [ink, paper, accent] = [colour('--ink'), colour('--paper'), colour('--accent')];
    const many = this.#drivers.size > 1000;
    pen.lineWidth = 1.5;
    pen.fillStyle = ink;
    pen.strokeStyle = paper;
    for (const [x, y] of this.#drivers.values()) {
      pen.beginPath();
      pen.arc(toX(x), toY(y), many ? 2 : 4, 0, 7);
      pen.fill();
      if (!many) pen.stroke();
    }
    pen.fillStyle = accent;
    const side = this.#orders.length > 1000 ? 3 : 6;
    for (const [x, y] of this.#orders) {
      pen.fillRect(toX(x) - side / 2, toY(y) - side / 2, side, side);
      if (side > 3) pen.strokeRect(toX(x) - side / 2, toY(y) - side / 2, side, side);
    }
    const now = performance.now();
    this.#rings = this.#rings.filter((r) => now - r.from < RING_MS).slice(-500);
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    for (const { spot: [x, y], from } of this.#rings) {
      const age = (now - from) / RING_MS;
      for (const [style, wide] of [[paper, 5], [accent, 2.5]]) {
        pen.globalAlpha = still ? 1 : 1 - age;
        pen.strokeStyle = style;
        pen.lineWidth = wide;
        pen.beginPath();
        pen.arc(toX(x), toY(y), still ? 8 : 6 + 8 * age, 0, 7);
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
    if (this.#rings.length) {
      if (still) setTimeout(() => this.#soon(), 1000);
      else this.#soon();
    }
  }

  #paintHeat(width, height, fromX, fromY) {
    const step = 6;
    const [columns, rows] = [Math.ceil(width / step), Math.ceil(height / step)];
    const worth = new Float64Array(columns * rows);
    for (let j = 0; j < rows; j += 1) {
      for (let i = 0; i < columns; i += 1) worth[j * columns + i] = this.#worth(fromX((i + 0.5) * step), fromY((j + 0.5) * step));
    }
    let [low, high] = [0, 0];
    for (const w of worth) [low, high] = [Math.min(low, w), Math.max(high, w)];
    say(this.low, short(low));
    say(this.high, short(high));
    const parse = (name) => colour(name).match(/[\da-f]{2}/gi).map((h) => parseInt(h, 16));
    const [cold, hot] = [parse('--heat-low'), parse('--heat-high')];
    const heat = el('canvas', { width: columns, height: rows });
    const pen = heat.getContext('2d');
    const image = pen.createImageData(columns, rows);
    worth.forEach((w, n) => {
      const share = high > low ? (w - low) / (high - low) : 0;
      for (let c = 0; c < 3; c += 1) image.data[4 * n + c] = cold[c] + share * (hot[c] - cold[c]);
      image.data[4 * n + 3] = 255;
    });
    pen.putImageData(image, 0, 0);
    return heat;
  }
}

/** What states are worth: the greatest values as bars. */
class Values {
  constructor(step) {
    this.step = step;
    this.key = schemaOf(step, '').key;
    this.note = el('p', { class: 'quiet' });
    this.table = new Table('The greatest values', [{ title: this.key.join(', ') }, { title: 'Value', number: true }, { title: 'Visits', number: true }, { title: 'Last moved', whole: true }]);
    this.root = panel(step, 'what a state is worth', this.note, scroll(`The greatest values of ${step.name}`, this.table));
  }

  async poll() {
    const rows = await rowsOf(this.step.name, { limit: 10000 });
    const finite = rows.filter((r) => typeof r.value === 'number').sort((a, b) => b.value - a.value);
    const greatest = finite.length ? Math.max(1e-300, finite[0].value) : 1;
    say(this.note, rows.length === 10000 ? 'Of the first 10,000 states.' : `Of ${short(rows.length)} states.`);
    this.table.update(finite.slice(0, BARS).map((r) => [
      this.key.map((k) => String(r[k])).join(', '), { text: short(r.value), share: r.value / greatest }, short(r.visits), clock(r.updated_at),
    ]));
  }
}

/** A line of the last numbers, told in words by its label. */
class Line {
  #numbers = [];

  constructor(name, format) {
    this.name = name;
    this.format = format;
    this.path = svg('path', { class: 'line' });
    this.drawn = svg('svg', { viewBox: '0 0 240 48', class: 'spark', role: 'img', 'aria-label': name, preserveAspectRatio: 'none' }, this.path);
    this.range = el('span', { class: 'quiet' });
    this.root = el('div', { class: 'spark-box' }, el('span', {}, name), this.drawn, this.range);
  }

  push(number) {
    if (typeof number !== 'number' || !Number.isFinite(number)) return;
    this.#numbers = [...this.#numbers, number].slice(-HISTORY);
    const [low, high] = [Math.min(...this.#numbers), Math.max(...this.#numbers)];
    const x = (i) => (240 * i) / (HISTORY - 1);
    const y = (n) => (high > low ? 44 - (40 * (n - low)) / (high - low) : 24);
    const points = this.#numbers.map((n, i) => `${x(i).toFixed(1)} ${y(n).toFixed(1)}`);
    this.path.setAttribute('d', points.length > 1 ? `M${points.join('L')}` : `M0 ${y(number)}h2`);
    const words = low === high ? `${this.format(low)} all the while` : `${this.format(low)} to ${this.format(high)}`;
    say(this.range, words);
    this.drawn.setAttribute('aria-label', `${this.name} in the last ${this.#numbers.length} seconds: ${words}`);
  }
}

/** An auction: what units cost, how full resources are, and how far from the bound. */
class Auction {
  constructor(step) {
    this.step = step;
    this.key = schemaOf(step, '.prices').key;
    this.figures = new Figures();
    this.lines = { utilisation: new Line('Utilisation', percent), jain_requests: new Line('Jain’s index', short), gap: new Line('Gap', short) };
    this.note = el('p', { class: 'quiet' });
    this.table = new Table('The fullest resources', [
      { title: this.key.join(', ') }, { title: 'Price of a unit', number: true }, { title: 'Utilisation', number: true }, { title: 'Used', number: true }, { title: 'Capacity', number: true }, { title: 'Requests', number: true },
    ]);
    this.root = panel(step, 'who gets what at what price', this.figures.root, el('div', { class: 'sparks' }, ...Object.values(this.lines).map((l) => l.root)), this.note, scroll(`The fullest resources of ${step.name}`, this.table));
  }

  async poll() {
    const [markets, rows] = await Promise.all([rowsOf(`${this.step.name}.fairness`, { limit: 100 }), rowsOf(`${this.step.name}.prices`, { limit: 10000 })]);
    // One row a market; of several the one with the most requests is told.
    const m = markets.sort((a, b) => b.requests - a.requests)[0];
    if (m) {
      this.figures.set('Served', `${short(m.allocated)} of ${short(m.requests)}`);
      this.figures.set('Value', short(m.value), 'The sum of scores');
      this.figures.set('Bound', short(m.bound), 'What no allocation exceeds');
      this.figures.set('Gap', short(m.gap));
      this.figures.set('Satisfaction', percent(m.satisfaction), 'The share of requests served');
      this.figures.set('Utilisation', percent(m.utilisation), 'The share of resources used');
      this.figures.set('Capacity used', percent(m.capacity_utilisation));
      this.figures.set('Jain’s index', short(m.jain_requests), 'Of the scores of all requests');
      this.figures.set('Revenue', short(m.revenue));
      for (const [name, line] of Object.entries(this.lines)) {
        line.root.hidden = typeof m[name] !== 'number';
        line.push(m[name]);
      }
    }
    say(this.note, `${markets.length > 1 ? `The greatest of ${short(markets.length)} markets. ` : ''}${short(rows.length)} resources.`);
    const dearest = Math.max(1e-300, ...rows.map((r) => r.price));
    const fullest = rows.sort((a, b) => b.utilisation - a.utilisation || b.used - a.used).slice(0, BARS);
    this.table.update(fullest.map((r) => [
      this.key.map((k) => String(r[k])).join(', '), { text: short(r.price), share: r.price / dearest }, { text: percent(r.utilisation), share: r.utilisation }, short(r.used), short(r.capacity), short(r.requests),
    ]));
  }
}

/** Features: their scores, and which are in the set. */
class Selection {
  constructor(step) {
    this.step = step;
    this.figures = new Figures();
    this.by = schemaOf(step, '.scores').key.filter((k) => k !== 'feature');
    this.choice = el('select', { id: `of-${step.name}` });
    this.choice.addEventListener('change', () => this.poll());
    this.chooser = el('p', { class: 'bar-of-controls', hidden: true }, el('label', { for: `of-${step.name}` }, this.by.join(', ')), this.choice);
    this.lines = { regret: new Line('Regret', short), statistic: new Line('Drift statistic', short) };
    this.table = new Table('Scores as of the last selection', [
      { title: 'Rank', number: true }, { title: 'Feature' }, { title: 'In the set' }, { title: 'Score', number: true }, { title: 'Relevance, nats', number: true }, { title: 'Weight', number: true }, { title: 'Redundant with' },
    ]);
    this.root = panel(step, 'which features are trusted', this.chooser, this.figures.root, el('div', { class: 'sparks' }, ...Object.values(this.lines).map((l) => l.root)), scroll(`Scores of ${step.name}`, this.table));
  }

  async poll() {
    const [scores, regrets, drifts] = await Promise.all(['.scores', '.regret', '.drift'].map((s) => rowsOf(this.step.name + s, { limit: 10000 })));
    const whose = (row) => this.by.map((k) => String(row[k])).join(', ');
    const all = [...new Set(scores.map(whose))];
    if (all.join('\n') !== [...this.choice.options].map((o) => o.value).join('\n')) {
      const chosen = this.choice.value;
      this.choice.replaceChildren(...all.map((one) => el('option', { value: one }, one)));
      if (all.includes(chosen)) this.choice.value = chosen;
      this.chooser.hidden = all.length < 2;
    }
    const mine = (rows) => rows.filter((r) => whose(r) === this.choice.value);
    const [rows, drift, regret] = [mine(scores), mine(drifts)[0], mine(regrets).find((r) => r.set === 'selection')];
    this.figures.set('In the set', `${rows.filter((r) => r.active).length} of ${rows.length}`);
    this.figures.set('Selections', short(Math.max(0, ...rows.map((r) => r.selection))));
    this.figures.set('Mean loss', short(regret?.mean_loss), 'Half the Brier score of the selection');
    this.figures.set('Regret', short(regret?.regret), 'Below 0 the selection is better than any fixed set');
    this.figures.set('Drifts', short(drift?.drifts));
    this.lines.regret.push(regret?.regret);
    this.lines.statistic.push(drift?.statistic);
    const greatest = Math.max(1e-300, ...rows.map((r) => r.score ?? 0));
    rows.sort((a, b) => (a.rank ?? 1e9) - (b.rank ?? 1e9) || (b.score ?? -1) - (a.score ?? -1));
    this.table.update(rows.map((r) => [
      r.rank === null ? '–' : String(r.rank), r.feature, r.active ? '● yes' : 'no', { text: short(r.score), share: (r.score ?? 0) / greatest }, short(r.relevance), short(r.weight), r.redundant_with ?? '–',
    ]));
  }
}
