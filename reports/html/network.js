// The network, drawn: units (nodes) in boxes, the fabric above, lines as wide and red as their links are busy.

function networkLayers(network) {
  const n = network.vertices.length, near = Array.from({ length: n }, () => []);
  for (const l of network.links) { near[l.from].push(l.to); near[l.to].push(l.from); }
  const layer = network.vertices.map(v => (v.device ? 0 : -1));
  const queue = layer.flatMap((v, i) => (v === 0 ? [i] : []));
  for (let k = 0; k < queue.length; ++k) {
    for (const v of near[queue[k]]) if (layer[v] < 0) { layer[v] = layer[queue[k]] + 1; queue.push(v); }
  }
  const used = near.map(list => list.length > 0);
  const isAdapter = v => network.vertices[v].unit >= 0 && !network.vertices[v].device &&
    near[v].some(w => network.vertices[w].unit < 0);
  return { layer, used, isAdapter };
}

// From grey to red; what nothing crosses is pale.
const busyPaint = busy => (busy > 0 ? `color-mix(in srgb, var(--red) ${Math.round(100 * Math.min(1, Math.sqrt(busy)))}%, var(--grey))` : 'var(--line)');

const boxWidth = text => 6.4 * text.length + 14;

function networkDrawing(network) {
  const { layer, used, isAdapter } = networkLayers(network);
  const units = [...new Set(network.vertices.map(v => v.unit))].filter(u => u >= 0).sort((a, b) => a - b);
  const short = i => {
    const v = network.vertices[i], name = v.name.replace(/^(node|domain) \d+ /, '');
    return v.unit >= 0 && (v.device || isAdapter(i)) ? name.replace(/^[^\d]*(?=\d)/, '') : name;  // a number will do
  };
  const cell = 25, high = 22, gap = 34;
  const place = [];
  const of = (unit, test) => network.vertices.flatMap((v, i) => (v.unit === unit && used[i] && test(i) ? [i] : []));
  const boxes = [];
  let x = 10;
  for (const unit of units) {
    const rows = [of(unit, isAdapter), of(unit, i => layer[i] === 0)];
    const deepest = Math.max(0, ...of(unit, i => !isAdapter(i)).map(i => layer[i]));
    for (let d = 1; d <= deepest; ++d) rows.push(of(unit, i => layer[i] === d && !isAdapter(i)));
    const wide = Math.max(4, ...rows.map(r => r.length)) * cell;
    const kept = rows.filter(row => row.length);
    kept.forEach((row, r) => row.forEach((v, k) => {
      place[v] = { x: x + wide * (k + 0.5) / row.length, row: r, inUnit: true };
    }));
    boxes.push({ unit, x, wide, rows: kept.length });
    x += wide + 12;
  }
  const fabric = network.vertices.flatMap((v, i) => (v.unit < 0 && used[i] ? [i] : []));
  const tiers = [...new Set(fabric.map(i => layer[i]))].sort((a, b) => b - a);
  const width = Math.max(x, ...tiers.map(t => 10 + fabric.filter(i => layer[i] === t)
    .reduce((sum, i) => sum + boxWidth(short(i)) + 8, 0)));
  const aside = (width - x) / 2;  // units stand in the middle
  const top = tiers.length * 70 + 20;
  for (const v of fabric) {
    const row = fabric.filter(i => layer[i] === layer[v]);
    place[v] = { x: width * (row.indexOf(v) + 0.5) / row.length, y: 18 + tiers.indexOf(layer[v]) * 70 };
  }
  for (const p of place) {
    if (!p || !p.inUnit) continue;
    p.y = top + 18 + p.row * (high + gap);
    p.x += aside;
  }
  const depth = Math.max(0, ...boxes.map(b => b.rows));
  const height = top + 18 + depth * (high + gap) + 8;
  const root = s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': 'Network',
    style: `width:max(${Math.round(0.8 * width)}px, min(100%, ${width}px))` });
  for (const b of boxes) {
    root.append(s('rect', { x: b.x + aside, y: top, width: b.wide, height: height - top - 4, rx: 8, fill: 'var(--panel)', stroke: 'var(--line)' }),
      s('text', { class: 'dim', x: b.x + aside + b.wide / 2, y: height - 12, 'text-anchor': 'middle' }, `${b.wide > 90 ? 'node ' : ''}${b.unit}`));
  }
  for (const l of network.links) {
    const a = place[l.from], b = place[l.to], busy = Math.max(l.there, l.back);
    if (!a || !b) continue;
    const name = network.class_names[l.class];
    root.append(explained(s('line', { x1: a.x, y1: a.y, x2: b.x, y2: b.y,
      stroke: busyPaint(busy), 'stroke-width': busy > 0 ? 1.2 + 5 * Math.min(1, busy) : 1 }),
      `${network.vertices[l.from].name} \u2013 ${network.vertices[l.to].name}\n${name}, ${si(l.bandwidth_bytes_per_s, 'B/s')} each way\n` +
      `busy ${percent(l.there)} of the step there, ${percent(l.back)} back`));
  }
  network.vertices.forEach((v, i) => {
    const p = place[i];
    if (!p) return;
    const text = short(i), wide = v.unit >= 0 && (v.device || isAdapter(i)) ? cell - 4 : boxWidth(text);
    root.append(s('rect', { x: p.x - wide / 2, y: p.y - high / 2, width: wide, height: high, rx: 5, fill: 'var(--page)', stroke: 'var(--dim)' }),
      s('text', { x: p.x, y: p.y + 4, 'text-anchor': 'middle' }, text));
  });
  return root;
}

function networkSection(report) {
  const network = report.network;
  if (!network) return;
  const host = section('network', 'Network', (network.shape ? network.shape + '. ' : '') +
    'A link is busy for as long as its traffic would take if it came as fast as the link carries it: where that comes near 100 %, the link holds the step back.');
  host.append(table('Links by class', ['class', '#links', '#idle', '#bandwidth', '#busiest', '#mean'],
    network.classes.map(c => [c.name, count(c.links), count(c.idle), si(c.bandwidth_bytes_per_s, 'B/s'), percent(c.busiest), percent(c.mean)])));
  host.append(h('p', { class: 'intro' }, network.whole ? ''
    : `Drawn is ${network.vertices[0] ? network.vertices[0].name.replace(/ [^ ]* [^ ]*$/, '') : 'a node'}, which has the busiest link of ${count(network.units)} nodes, with the switches that it leads to.`));
  host.append(h('div', { class: 'chart', tabindex: '0', role: 'region', 'aria-label': 'Drawing of the network' }, networkDrawing(network)));
  host.append(legend([['idle', busyPaint(0)], ['1 % busy', busyPaint(0.01)], ['10 %', busyPaint(0.1)], ['50 %', busyPaint(0.5)], ['100 %', busyPaint(1)]]));
  const busiest = [...network.links].sort((a, b) => Math.max(b.there, b.back) - Math.max(a.there, a.back)).slice(0, 40);
  host.append(tableBehind('The busiest links drawn', ['link', 'class', '#bandwidth', '#there', '#back'],
    busiest.map(l => [`${network.vertices[l.from].name} \u2013 ${network.vertices[l.to].name}`, network.class_names[l.class],
      si(l.bandwidth_bytes_per_s, 'B/s'), percent(l.there), percent(l.back)])));
}
