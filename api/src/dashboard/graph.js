// The pipeline as a picture: a layered graph from sources on the left to what reads them on the right.
//
// A node stands one layer behind the last it reads. An edge over several layers passes through empty places in those
// between, which take part in the ordering; layers are ordered by the means of their neighbours, back and forth.

import { perSecond, say, short, svg, Table } from './lib.js';

const WIDTH = 170;
const HEIGHT = 58;
const ACROSS = 64;
const DOWN = 18;
const SWEEPS = 6;

/** The nodes of a pipeline and who reads whom. */
export function parts(pipeline) {
  const nodes = pipeline.sources.map((s) => ({ id: s.name, kind: 'source', what: s.type, detail: s.reads, reads: [], outputs: [s.name] }));
  for (const s of pipeline.steps) {
    const outputs = s.outputs.map((o) => o.name);
    nodes.push({ id: s.name, kind: 'step', what: s.operator, detail: s.detail, reads: [], inputs: s.inputs, outputs });
  }
  for (const s of pipeline.sinks ?? []) {
    nodes.push({ id: `${s.name} (sink)`, kind: 'sink', what: `${s.type} ← ${s.view}`, detail: s.writes, reads: [], inputs: [s.view], outputs: [] });
  }
  const owner = new Map(nodes.flatMap((n) => n.outputs.map((o) => [o, n])));
  for (const node of nodes) {
    node.reads = [...new Set((node.inputs ?? []).map((i) => owner.get(i)).filter((n) => n && n !== node))];
  }
  return nodes;
}

function layered(nodes) {
  const depth = new Map();
  const depthOf = (node) => {
    if (!depth.has(node)) depth.set(node, node.reads.length ? 1 + Math.max(...node.reads.map(depthOf)) : 0);
    return depth.get(node);
  };
  nodes.forEach(depthOf);
  const layers = Array.from({ length: 1 + Math.max(0, ...depth.values()) }, () => []);
  const spot = (node, layer) => {
    const made = { node, before: [], after: [] };
    layers[layer].push(made);
    return made;
  };
  const spots = new Map(nodes.map((n) => [n, spot(n, depth.get(n))]));
  const edges = [];
  for (const node of nodes) {
    for (const read of node.reads) {
      const path = [spots.get(read)];
      for (let layer = depth.get(read) + 1; layer < depth.get(node); layer += 1) path.push(spot(null, layer));
      path.push(spots.get(node));
      for (let i = 1; i < path.length; i += 1) {
        path[i - 1].after.push(path[i]);
        path[i].before.push(path[i - 1]);
      }
      edges.push({ from: read, to: node, path });
    }
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forth = sweep % 2 === 0;
    for (const layer of forth ? layers.slice(1) : layers.slice(0, -1).reverse()) {
      for (const s of layer) {
        const near = (forth ? s.before : s.after).map((n) => n.place ?? 0);
        s.mean = near.length ? near.reduce((a, b) => a + b, 0) / near.length : s.place ?? layer.indexOf(s);
      }
      layer.sort((a, b) => a.mean - b.mean);
      place(layer);
    }
    if (sweep === 0) place(layers[0]);
  }
  layers.forEach(place);
  const height = Math.max(...layers.map((l) => l.height));
  layers.forEach((layer, i) => layer.forEach((s) => {
    s.x = i * (WIDTH + ACROSS);
    s.y = s.place + height / 2;
  }));
  return { layers, spots, edges, height, width: layers.length * (WIDTH + ACROSS) - ACROSS };
}

/** Where the middles of a layer's nodes are, from the layer's middle. */
function place(layer) {
  const tall = (s) => (s.node ? HEIGHT : 8) + DOWN;
  layer.height = layer.reduce((sum, s) => sum + tall(s), 0);
  let at = -layer.height / 2;
  for (const s of layer) {
    s.place = at + tall(s) / 2;
    at += tall(s);
  }
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** The graph and the table that says the same. `stored` are the names of views that can be opened. */
export class Graph {
  #rates = new Map();

  constructor(pipeline, stored) {
    const nodes = parts(pipeline);
    this.nodes = nodes;
    const { spots, edges, width, height } = layered(nodes);
    const drawn = svg('svg', { width: width + 4, height: height + 4, viewBox: `-2 -2 ${width + 4} ${height + 4}`, role: 'group', 'aria-label': `${pipeline.sources.length} sources, ${pipeline.steps.length} steps and ${(pipeline.sinks ?? []).length} sinks` });
    for (const { path } of edges) {
      const middle = path[path.length - 1];
      let d = `M${path[0].x + WIDTH} ${path[0].y}`;
      for (let i = 1; i < path.length; i += 1) {
        const [a, b] = [path[i - 1], path[i]];
        const bend = a.x + WIDTH + ACROSS / 2;
        d += `C${bend} ${a.y} ${bend} ${b.y} ${b.x} ${b.y}`;
        if (b !== middle) d += `H${b.x + WIDTH}`;
      }
      drawn.append(svg('path', { d, class: 'edge', 'aria-hidden': 'true' }));
    }
    for (const node of nodes) drawn.append(this.#node(node, spots.get(node), stored));
    this.root = drawn;
    this.table = new Table('Sources, steps and sinks', [
      { title: 'Name' }, { title: 'Kind' }, { title: 'Reads' }, { title: 'Rate', number: true }, { title: 'Taken in', number: true }, { title: 'Does' },
    ]);
  }

  #node(node, spot, stored) {
    const rate = svg('text', { x: 10, y: 49, class: 'rate' }, '–');
    this.#rates.set(node.id, rate);
    const box = svg('g', { transform: `translate(${spot.x} ${spot.y - HEIGHT / 2})`, class: `node ${node.kind}` },
      svg('title', {}, `${node.kind} ${node.id}: ${cut(node.detail, 600)}`),
      svg('rect', { width: WIDTH, height: HEIGHT, rx: node.kind === 'source' ? HEIGHT / 2 : 6 }),
      svg('text', { x: node.kind === 'source' ? 18 : 10, y: 19, class: 'name' }, cut(node.id, 21)),
      svg('text', { x: node.kind === 'source' ? 18 : 10, y: 34, class: 'what' }, cut(node.what, 24)),
      rate);
    if (node.kind === 'source') rate.setAttribute('x', 18);
    const view = node.outputs.find((o) => stored.has(o));
    return view ? svg('a', { href: `#view/${encodeURIComponent(view)}` }, box) : box;
  }

  /** `rates` by node, and what each took in so far. */
  update(rates, counts) {
    const rows = [];
    for (const node of this.nodes) {
      const rate = perSecond(rates.of(`in ${node.id}`));
      say(this.#rates.get(node.id), rate);
      const taken = counts.get(node.id);
      rows.push([node.id, `${node.kind}: ${node.what}`, node.reads.map((n) => n.id).join(', '), rate, short(taken ?? null), node.detail]);
    }
    this.table.update(rows);
  }
}
