// The dashboard itself: asks once a second how things are, and shows it. Pictures of decisions are in pictures.js, the
// graph of the pipeline is in graph.js.

import { ask, askJson, duration, el, Figures, follow, give, parseCsv, perSecond, Rates, say, short, Table, viewPath } from './lib.js';
import { Graph } from './graph.js';
import { picturesOf } from './pictures.js';

const PAGE_ROWS = 50;
const FAULTS_SHOWN = 20;
// What a fault keeps of a record: one that is as long may have been longer.
const RAW_BYTES = 4096;

const at = (id) => document.getElementById(id);
const rates = new Rates();
const figures = new Figures(at('figures'));
let graph = null;
let pictures = [];
let views = new Map();

/** Metrics with one label of interest: name, label's value, number. */
function* metrics(text) {
  const line = /^(thalweg_\w+)\{(?:component|view)="((?:[^"\\]|\\.)*)"\} (\S+)$/gm;
  for (const [, name, label, value] of text.matchAll(line)) yield [name, label.replace(/\\(.)/g, '$1'), Number(value)];
}

async function begin() {
  const [{ pipelines }, list] = await Promise.all([askJson('/v1/pipelines'), askJson('/v1/views')]);
  const pipeline = pipelines[0];
  say(at('name'), pipeline.name);
  document.title = `${pipeline.name} · Thalweg`;
  const stored = new Set(list.views.map((v) => v.name));
  graph = new Graph(pipeline, stored);
  at('graph').replaceChildren(graph.root);
  at('parts').replaceChildren(graph.table.root);
  pictures = picturesOf(pipeline, stored);
  at('pictures-body').replaceChildren(...pictures.map((p) => p.root));
  at('pictures').hidden = at('to-pictures').hidden = pictures.length === 0;
}

async function tick() {
  if (!graph) await begin();
  const [epochs, { sources }, { sinks }, text, list] = await Promise.all([
    askJson('/v1/epochs'), askJson('/v1/sources'), askJson('/v1/sinks'), ask('/metrics', 'text/plain').then((r) => r.text()), askJson('/v1/views'),
  ]);
  const now = performance.now();
  const counts = new Map();
  const freshness = new Map();
  for (const [name, label, value] of metrics(text)) {
    if (name === 'thalweg_component_received_events_total') counts.set(label, value);
    if (name === 'thalweg_freshness_seconds') freshness.set(label, value);
    if (name === 'thalweg_view_changes_total') rates.push(`view ${label}`, value, now);
  }
  for (const s of sources) counts.set(s.name, s.records);
  pushed = new Set(sources.filter((s) => s.pushed).map((s) => s.name));
  for (const s of sinks) counts.set(`${s.name} (sink)`, s.records);
  for (const [name, count] of counts) rates.push(`in ${name}`, count, now);
  rates.push('records', sources.reduce((sum, s) => sum + (s.records ?? 0), 0), now);

  await phase(epochs);
  figures.set('Epoch', short(epochs.published), 'The newest epoch that can be read');
  figures.set('Records', perSecond(rates.of('records')), 'Taken in from all sources');
  figures.set('Freshness', duration(Math.max(...freshness.values())), 'From sealing an epoch to its being readable: the slowest view, each at its last change');
  figures.set('In flight', short(epochs.sealed - epochs.published), 'Epochs sealed and not yet readable; where they are at the pipeline’s limit, sources wait');
  graph.update(rates, counts);
  listViews(list.views, freshness);
  await Promise.all([...pictures.map((p) => p.poll()), showFaults(list.views.find((v) => v.kind === 'faults')), open?.poll()]);
}

/** Says in words how the engine is. It is read out when it changes, so it holds no counters. */
async function phase(epochs) {
  const words = { live: 'Live', ended: 'Ended: every source is at its end', failed: `Failed: ${epochs.reason ?? ''}` };
  let text = words[epochs.phase] ?? epochs.phase;
  if (epochs.phase === 'rehydrating') text = 'Rebuilding the dataflow; views are as they were';
  say(at('status'), text);
  at('status').dataset.phase = epochs.phase;
}

const viewTable = new Table('Stored relations, all as of one epoch', [
  { title: 'View' }, { title: 'Kind' }, { title: 'Rows', number: true }, { title: 'Changes', number: true }, { title: 'Freshness', number: true },
]);
const viewLinks = new Map();
at('view-list').append(viewTable.root);

function listViews(list, freshness) {
  views = new Map(list.map((v) => [v.name, v]));
  viewTable.update(list.map((v) => {
    if (!viewLinks.has(v.name)) viewLinks.set(v.name, el('a', { href: `#view/${encodeURIComponent(v.name)}` }, v.name));
    return [viewLinks.get(v.name), v.append_only ? 'stream' : v.kind, short(v.rows), perSecond(rates.of(`view ${v.name}`)), duration(freshness.get(v.name))];
  }));
}

/** An open view: pages of rows. The first follows the newest epoch; later ones are of the epoch it was left at. */
class OpenView {
  #cursors = [null];
  #filter = '';
  #digest = null;

  constructor(view) {
    this.view = view;
    const numbers = new Set(['int64', 'float64', 'decimal']);
    this.table = new Table(`Rows of ${view.name}, by ${view.key.join(', ') || 'no key: one row'}`, view.columns.map((c) => ({ title: c.name, number: numbers.has(c.type), whole: c.type === 'timestamp' })));
    this.title = el('h3', { id: 'view-title', tabindex: '-1' }, view.name);
    this.note = el('p', { class: 'quiet' });
    this.fault = el('p', { class: 'problem', role: 'alert' });
    this.input = el('input', { id: 'filter', type: 'text', autocomplete: 'off', spellcheck: 'false', placeholder: `${view.columns[0].name} = …` });
    const form = el('form', { class: 'bar-of-controls' }, el('label', { for: 'filter' }, 'Filter'), this.input, el('button', { type: 'submit' }, 'Apply'));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#filter = this.input.value.trim();
      this.#go([null]);
    });
    this.first = this.#button('First page', () => this.#go([null]));
    this.previous = this.#button('Previous', () => this.#go(this.#cursors.slice(0, -1)));
    this.next = this.#button('Next', () => this.#go([...this.#cursors, this.cursor]));
    const close = el('a', { href: '#views', class: 'close' }, 'Close');
    this.root = [
      el('div', { class: 'title' }, this.title, close), form, this.fault, this.note,
      el('div', { class: 'scroll', role: 'region', 'aria-label': `Rows of ${view.name}`, tabindex: '0' }, this.table.root),
      el('div', { class: 'bar-of-controls', role: 'group', 'aria-label': 'Pages' }, this.first, this.previous, this.next),
    ];
  }

  #button(text, work) {
    const button = el('button', { type: 'button' }, text);
    // Not `disabled`, which would take the focus away from who holds it.
    button.addEventListener('click', () => button.getAttribute('aria-disabled') !== 'true' && work());
    return button;
  }

  #go(cursors) {
    this.#cursors = cursors;
    this.#digest = null;
    this.poll();
  }

  async poll() {
    const cursor = this.#cursors.at(-1);
    const digest = `${cursor} ${cursor ? '' : views.get(this.view.name)?.digest}`;
    if (digest === this.#digest) return;
    const query = new URLSearchParams({ limit: PAGE_ROWS });
    if (cursor) query.set('cursor', cursor);
    if (this.#filter) query.set('filter', this.#filter);
    try {
      const response = await ask(`${viewPath(this.view.name)}?${query}`, 'text/csv');
      const rows = parseCsv(await response.text()).slice(1);
      if (cursor !== this.#cursors.at(-1)) return;
      this.#digest = digest;
      this.cursor = response.headers.get('thalweg-cursor');
      this.table.update(rows);
      const page = this.#cursors.length;
      const epoch = response.headers.get('thalweg-epoch');
      say(this.note, page === 1 ? 'Page 1, kept current' : `Page ${page}, as of epoch ${epoch}`);
      say(this.fault, '');
    } catch (error) {
      this.#digest = digest;
      this.cursor = null;
      say(this.fault, error.message);
    }
    const is = (button, can) => button.setAttribute('aria-disabled', can ? 'false' : 'true');
    is(this.first, this.#cursors.length > 1);
    is(this.previous, this.#cursors.length > 1);
    is(this.next, this.cursor !== null);
  }
}

let open = null;

/** Opens the view that the address names. */
function route() {
  const [, escaped] = /^#view\/(.*)$/.exec(location.hash) ?? [];
  const name = escaped === undefined ? null : [...views.keys()].find((v) => encodeURIComponent(v) === escaped) ?? '';
  if (name === null && location.hash !== '#views') return;
  const view = views.get(name);
  open = view ? new OpenView(view) : null;
  at('view').hidden = open === null;
  at('view').replaceChildren(...(open?.root ?? []));
  for (const [known, link] of viewLinks) {
    if (known === name) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
  }
  if (open) {
    open.title.focus();
    open.poll();
  }
}
window.addEventListener('hashchange', route);

const faultCounts = new Table('How many, by place and reason', [{ title: 'Source' }, { title: 'At' }, { title: 'Reason' }, { title: 'Count', number: true }]);
const faultRows = new Table('The latest, newest first', [{ title: 'Source' }, { title: 'Record', number: true }, { title: 'At' }, { title: 'Reason' }, { title: 'Detail' }, { title: 'Where' }, { title: 'Record as it came' }, { title: 'Again' }]);
const noFaults = el('p', { class: 'quiet' }, 'None: every record was processed.');
let faultsSeen = null;
let latestFaults = [];

async function showFaults(view) {
  if (!view || view.digest === faultsSeen) return;
  faultsSeen = view.digest;
  if (view.rows === 0) return at('faults-body').replaceChildren(noFaults);
  const { faults } = await askJson('/v1/faults/summary');
  faultCounts.update(faults.sort((a, b) => b.count - a.count).map((f) => [f.source, f.at, f.reason, short(f.count)]));
  if (faultRows.root.isConnected) return;
  const region = (label, table) => el('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: '0' }, table.root);
  at('faults-body').replaceChildren(region('Counts of faults', faultCounts), region('Latest faults', faultRows), again.root);
  followFaults(view.name);
}

/** Whether a text is one JSON object, whole: what a fault keeps of a longer record is cut. */
function isObject(text) {
  try {
    return text.trimStart().startsWith('{') && JSON.parse(text) !== null;
  } catch {
    return false;
  }
}

/** A record that was refused, mended by hand and pushed again. The fault stays: it tells what came. */
class Again {
  #buttons = new WeakMap();
  #fault = null;

  constructor() {
    this.title = el('h3', { id: 'again-title' });
    this.text = el('textarea', { id: 'again-text', rows: '4', spellcheck: 'false', autocomplete: 'off' });
    this.note = el('p', { role: 'status' });
    const close = el('button', { type: 'button' }, 'Close');
    close.addEventListener('click', () => { this.root.hidden = true; });
    this.root = el('form', { class: 'again', 'aria-labelledby': 'again-title', hidden: true },
      this.title, el('label', { for: 'again-text' }, 'Record, to be mended'), this.text,
      el('div', { class: 'bar-of-controls' }, el('button', { type: 'submit' }, 'Push'), close), this.note);
    this.root.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#push();
    });
  }

  /** What opens it for a fault; nothing where the source takes no pushes, or the record is not there whole. */
  button(fault) {
    const isWhole = new TextEncoder().encode(fault.raw).length < RAW_BYTES;
    if (!pushed.has(fault.source) || !isWhole || (!isObject(fault.raw) && fault.reason !== 'bad_json')) return '';
    if (!this.#buttons.has(fault)) {
      const button = el('button', { type: 'button', 'aria-label': `Mend record ${fault.seq} of ${fault.source}` }, 'Mend');
      button.addEventListener('click', () => this.#open(fault));
      this.#buttons.set(fault, button);
    }
    return this.#buttons.get(fault);
  }

  #open(fault) {
    this.#fault = fault;
    say(this.title, `Record ${fault.seq} of ${fault.source}: ${fault.reason}`);
    say(this.note, fault.detail);
    this.text.value = fault.raw;
    this.root.hidden = false;
    this.text.focus();
  }

  async #push() {
    const { source, seq } = this.#fault;
    const text = this.text.value.trim();
    // Pushed twice by mistake it is taken once; mended once more it is another record.
    let mark = 2166136261;
    for (let i = 0; i < text.length; i += 1) mark = Math.imul(mark ^ text.charCodeAt(i), 16777619);
    const key = `mended-${encodeURIComponent(source).slice(0, 100)}-${seq}-${(mark >>> 0).toString(16)}`;
    const path = `/v1/sources/${encodeURIComponent(source)}/records`;
    let answer;
    try {
      answer = await give(path, 'application/json', text, { 'idempotency-key': key });
    } catch (error) {
      return say(this.note, `Not taken: ${error.message}`);
    }
    const taken = answer.repeated ? 'It was taken before' : 'It is taken';
    say(this.note, `${taken}, in epoch ${answer.epoch}. Looking what came of it …`);
    try {
      const after = await faultsOf(source, `min_epoch=${answer.epoch}&wait_ms=60000`);
      const before = await faultsOf(source, `as_of=${answer.epoch - 1}`).catch(() => null);
      const again = answer.repeated || before === null ? '' : after > before ? ' There is a fault more than before.' : ' There is no fault more than before.';
      return say(this.note, `${taken}, in epoch ${answer.epoch}.${again}`);
    } catch (error) {
      return say(this.note, `${taken}, in epoch ${answer.epoch}. What came of it is not known: ${error.message}`);
    }
  }
}

/** How many faults a source has, as of the epoch that the query names. */
async function faultsOf(source, query) {
  const { faults } = await askJson(`/v1/faults/summary?${query}`);
  return faults.filter((f) => f.source === source).reduce((sum, f) => sum + f.count, 0);
}
const again = new Again();
let pushed = new Set();

/** The latest faults come from the changes of the epochs that are retained: the view itself is in the order of sources. */
function followFaults(view) {
  const start = async () => {
    const { since, published } = await askJson('/v1/epochs');
    return `after=${Math.max(since, published - 500)}`;
  };
  follow(view, start, () => { latestFaults = []; }, ({ row }) => {
    if (!row) return;
    latestFaults = [row, ...latestFaults].slice(0, FAULTS_SHOWN);
    faultRows.update(latestFaults.map((f) => [f.source, String(f.seq), f.at, f.reason, f.detail, f.provenance, f.raw, again.button(f)]));
  });
}

async function run() {
  for (;;) {
    const began = performance.now();
    if (!document.hidden) {
      try {
        const first = graph === null;
        await tick();
        if (first) route();
      } catch (error) {
        say(at('status'), `Not answering: ${error.message}`);
        at('status').dataset.phase = 'failed';
      }
    }
    await new Promise((done) => setTimeout(done, Math.max(200, 1000 - (performance.now() - began))));
  }
}
run();
