// What every part of the dashboard uses: elements, numbers, requests, rates, tables.
// Text from the server becomes text nodes and attributes, never markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children);
  return node;
}

/** An element with attributes and children; strings become text. */
export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

/** The same in SVG. */
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** Sets a text only if it is another, so that selections last. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A number for reading: four digits, thousands apart. */
export function short(number) {
  if (typeof number !== 'number' || !Number.isFinite(number)) return number === null || number === undefined ? '–' : String(number);
  if (Number.isInteger(number)) return number.toLocaleString('en');
  return number.toLocaleString('en', { maximumSignificantDigits: 4 });
}

/** A share as a percentage. */
export const percent = (share) => (typeof share === 'number' ? `${(100 * share).toFixed(share !== 0 && Math.abs(share) < 0.001 ? 3 : 1)} %` : '–');

/** Seconds in the unit that suits them. */
export function duration(secs) {
  if (!Number.isFinite(secs)) return '–';
  if (secs < 0.001) return `${Math.round(secs * 1e6)} µs`;
  if (secs < 1) return `${(secs * 1000).toFixed(secs < 0.01 ? 1 : 0)} ms`;
  return `${short(secs)} s`;
}

/** A row's time, to the second. */
export const clock = (time) => (typeof time === 'string' ? time.slice(0, 19).replace('T', ' ') : '–');

/** Asks the API. The error's message is the refusal's. */
export async function ask(path, accept = 'application/json') {
  const response = await fetch(path, { headers: { accept }, cache: 'no-store', signal: AbortSignal.timeout(15000) });
  // 503 from /healthz/ready is an answer too, and says why in the same shape as other refusals.
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.message ?? `${path} answered ${response.status}`);
  }
  return response;
}

/** Gives a body to the API; answers what it was answered. */
export async function give(path, type, body, headers = {}) {
  const options = { method: 'POST', headers: { 'content-type': type, ...headers }, body, signal: AbortSignal.timeout(60000) };
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.message ?? `${path} answered ${response.status}`);
  return answer;
}

export const askJson = async (path) => (await ask(path)).json();

/** The path of a view. */
export const viewPath = (name) => `/v1/views/${encodeURIComponent(name)}`;

/**
 * Follows a view's changes while the page is seen: `begin` is called whenever it starts anew, then `change` for each of
 * the events. `start` gives the query to start with.
 */
export function follow(view, start, begin, change) {
  let source = null;
  let again = 0;
  async function open() {
    clearTimeout(again);
    if (source || document.hidden) return;
    source = {};
    const query = await Promise.resolve(start()).catch(() => null);
    if (document.hidden || query === null) return close(2000);
    begin();
    source = new EventSource(`${viewPath(view)}/changes?${query}`);
    for (const kind of ['snapshot', 'change']) source.addEventListener(kind, (event) => change(JSON.parse(event.data)));
    // An error without data is the connection's: the browser goes on by itself unless the stream is closed for good.
    source.addEventListener('error', (event) => {
      if (event.data || source?.readyState === EventSource.CLOSED) close(2000);
    });
  }
  function close(ms) {
    if (source instanceof EventSource) source.close();
    source = null;
    again = setTimeout(open, ms);
  }
  document.addEventListener('visibilitychange', () => (document.hidden ? close(1e9) : open()));
  open();
}

/** Rates of counters over the last seconds. */
export class Rates {
  #seen = new Map();

  push(name, value, now = performance.now()) {
    const samples = this.#seen.get(name) ?? [];
    // A counter that falls is that of a new process.
    if (samples.length > 0 && samples.at(-1).value > value) samples.length = 0;
    samples.push({ value, now });
    while (samples.length > 2 && now - samples[0].now > 5000) samples.shift();
    this.#seen.set(name, samples);
  }

  /** A second; null where nothing is known yet. */
  of(name) {
    const samples = this.#seen.get(name);
    if (!samples || samples.length < 2) return null;
    const [first, last] = [samples[0], samples.at(-1)];
    return ((last.value - first.value) * 1000) / (last.now - first.now);
  }
}

/** A rate for reading. */
export const perSecond = (rate) => (rate === null ? '–' : `${short(rate >= 10 ? Math.round(rate) : Math.round(rate * 10) / 10)}/s`);

/**
 * A table that is updated in place. A column is {title, number, whole}, `whole` cells are not broken into lines; a cell a text, null (shown as such), a node that stays, or
 * {text, share} with a bar behind it.
 */
export class Table {
  constructor(caption, columns) {
    this.columns = columns;
    this.body = el('tbody');
    const heads = columns.map((c) => el('th', { scope: 'col', class: c.number ? 'number' : null }, c.title));
    this.root = el('table', {}, el('caption', {}, caption), el('thead', {}, el('tr', {}, ...heads)), this.body);
  }

  update(rows) {
    while (this.body.rows.length > rows.length) this.body.deleteRow(-1);
    while (this.body.rows.length < rows.length) {
      const row = this.body.insertRow();
      for (const column of this.columns) row.append(el('td', { class: column.number ? 'number' : column.whole ? 'whole' : null }));
    }
    rows.forEach((cells, i) => cells.forEach((cell, j) => Table.#set(this.body.rows[i].cells[j], cell)));
  }

  static #set(td, cell) {
    if (cell instanceof Node) {
      if (td.firstChild !== cell) td.replaceChildren(cell);
    } else if (cell !== null && typeof cell === 'object') {
      if (td.firstChild?.className !== 'bar') {
        td.replaceChildren(el('span', { class: 'bar', 'aria-hidden': 'true' }), el('span'));
      }
      td.firstChild.style.width = `${100 * Math.max(0, Math.min(1, cell.share || 0))}%`;
      say(td.lastChild, cell.text);
    } else {
      td.classList.toggle('null', cell === null);
      say(td, cell === null ? 'null' : String(cell));
    }
  }
}

/** A list of names and values that is updated in place. */
export class Figures {
  #values = new Map();

  constructor(root = el('dl', { class: 'figures' })) {
    this.root = root;
  }

  set(name, text, title = null) {
    if (!this.#values.has(name)) {
      const value = el('dd', {}, '–');
      this.root.append(el('div', { title }, el('dt', {}, name), value));
      this.#values.set(name, value);
    }
    say(this.#values.get(name), text);
  }
}

/** Rows of RFC 4180, each with its line end: cells are texts, absent ones (empty, without quotes) null. */
export function parseCsv(text) {
  const stop = /[,\r\n]/g;
  const rows = [];
  let row = [];
  for (let at = 0; at < text.length; ) {
    let cell = null;
    if (text[at] === '"') {
      cell = '';
      for (at += 1; ; at += 1) {
        const end = text.indexOf('"', at);
        cell += text.slice(at, end);
        at = end + 1;
        if (text[at] !== '"') break;
        cell += '"';
      }
    } else {
      stop.lastIndex = at;
      const end = stop.exec(text)?.index ?? text.length;
      cell = text.slice(at, end) || null;
      at = end;
    }
    row.push(cell);
    if (text[at] === ',') {
      at += 1;
    } else {
      rows.push(row);
      row = [];
      at += text[at] === '\r' ? 2 : 1;
    }
  }
  return rows;
}
