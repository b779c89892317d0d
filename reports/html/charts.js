// Charts of SVG. Widths follow the window; what is narrower than a chart's least width scrolls.

// Calls draw(width) now and whenever the width has changed; what it returns replaces the host's content.
function responsive(host, least, draw) {
  let last = 0;
  const update = () => {
    const width = Math.max(least, Math.floor(host.clientWidth));
    if (width !== last) {
      last = width;
      host.replaceChildren(draw(width));
    }
  };
  new ResizeObserver(update).observe(host);
  update();
}

const chart = (name, least, draw) => {
  const host = h('div', { class: 'chart', role: 'group', 'aria-label': name });
  queueMicrotask(() => responsive(host, least, draw));
  return host;
};

const textWidth = text => 7 * text.length;

// Text that ends at x, around the middle y; in two lines where it is wider than `most`.
function rowLabel(text, x, y, most) {
  const words = text.split(' '), cuts = words.slice(1).map((_, i) => [words.slice(0, i + 1).join(' '), words.slice(i + 1).join(' ')]);
  const longest = lines => Math.max(...lines.map(line => line.length));
  const lines = textWidth(text) > most && cuts.length > 0 ? cuts.reduce((a, b) => (longest(b) < longest(a) ? b : a)) : [text];
  return s('text', { 'text-anchor': 'end' }, ...lines.map((line, i) =>
    s('tspan', { x, y: y + 4 + 13 * (i - (lines.length - 1) / 2) }, line)));
}

// rows: [{name, parts: [{name, value, paint}], mark}], all on one scale; `mark` is a line across at a value.
function stackedRows(name, rows, show, top, marks) {
  return chart(name, 300, width => {
    const left = Math.min(0.45 * width, 14 + Math.max(...rows.map(r => textWidth(r.name))));
    const scale = (width - left - 70) / top, row = 30;
    const root = s('svg', { width, height: rows.length * row + 26, viewBox: `0 0 ${width} ${rows.length * row + 26}`, role: 'group', 'aria-label': name });
    for (const t of ticks(top, width < 520 ? 3 : 6)) {
      root.append(s('line', { class: 'grid', x1: left + t * scale, x2: left + t * scale, y1: 0, y2: rows.length * row }),
        s('text', { class: 'dim', x: left + t * scale, y: rows.length * row + 16, 'text-anchor': 'middle' }, show(t)));
    }
    const totals = [];
    rows.forEach((r, i) => {
      let x = left;
      root.append(rowLabel(r.name, left - 8, i * row + 15, left - 8));
      let total = 0;
      for (const part of r.parts) {
        total += part.value;
        if (!(part.value > 0)) continue;
        const w = part.value * scale;
        root.append(explained(s('rect', { x, y: i * row + 4, width: Math.max(0.5, w), height: row - 8, fill: part.paint,
          stroke: 'var(--page)', 'stroke-width': w > 3 ? 1 : 0 }), `${r.name}\n${part.name}: ${show(part.value)}`));
        x += w;
      }
      totals.push(s('text', { class: 'dim over', x: x + 6, y: i * row + 19 }, show(total)));
    });
    for (const [what, value] of marks || []) {
      const x = left + value * scale;
      root.append(explained(s('line', { x1: x, x2: x, y1: 0, y2: rows.length * row, stroke: 'var(--bad)', 'stroke-width': 2,
        'stroke-dasharray': '6 4' }), `${what}: ${show(value)}`));
    }
    root.append(...totals);
    return root;
  });
}

// A frame with both axes, each from a least to a greatest value; returns {root, x(value), y(value)}.
function frame(name, width, height, [xLow, xTop], [yLow, yTop], showX, showY, xName, yName) {
  const left = 66, right = 16, top = 20, bottom = 40;
  const x = v => left + (v - xLow) / (xTop - xLow) * (width - left - right);
  const y = v => height - bottom - (v - yLow) / (yTop - yLow) * (height - top - bottom);
  const root = s('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': name });
  for (const t of ticks(yTop, 5, yLow)) {
    root.append(s('line', { class: 'grid', x1: left, x2: width - right, y1: y(t), y2: y(t) }),
      s('text', { class: 'dim', x: left - 6, y: y(t) + 4, 'text-anchor': 'end' }, showY(t)));
  }
  for (const t of ticks(xTop, width < 520 ? 4 : 7, xLow)) {
    root.append(s('line', { class: 'grid', x1: x(t), x2: x(t), y1: top, y2: height - bottom }),
      s('text', { class: 'dim', x: x(t), y: height - bottom + 16, 'text-anchor': 'middle' }, showX(t)));
  }
  root.append(s('text', { class: 'dim', x: width - right, y: height - 6, 'text-anchor': 'end' }, xName),
    s('text', { class: 'dim', x: 4, y: 11 }, yName));
  return { root, x, y };
}

// A little more than all the values; from 0 on where that is near.
function around(values) {
  const low = Math.min(...values), top = Math.max(...values), room = 0.1 * (top - low || top || 1);
  return [low - room < 0.4 * top ? 0 : low - room, top + room];
}

// points: [{x, y, text, strong, paint}]; `line` joins them in order.
function scatter(name, points, showX, showY, xName, yName, line) {
  return chart(name, 320, width => {
    const f = frame(name, width, 320, around(points.map(p => p.x)), around(points.map(p => p.y)), showX, showY, xName, yName);
    if (line) {
      f.root.append(s('polyline', { points: points.map(p => `${f.x(p.x)},${f.y(p.y)}`).join(' '), fill: 'none',
        stroke: 'var(--blue)', 'stroke-width': 1.5 }));
    }
    for (const p of points) {
      f.root.append(explained(s('circle', { cx: f.x(p.x), cy: f.y(p.y), r: p.strong ? 7 : 5,
        fill: p.strong ? 'var(--red)' : p.paint || 'var(--blue)', stroke: 'var(--page)', 'stroke-width': 1.5 }), p.text));
    }
    return f.root;
  });
}

// From dark blue to yellow, even in lightness (viridis, sampled); 0 <= part <= 1.
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function ramp(part) {
  const at = Math.max(0, Math.min(1, part)) * (RAMP.length - 1), i = Math.min(RAMP.length - 2, Math.floor(at));
  const c = RAMP[i].map((v, k) => Math.round(v + (RAMP[i + 1][k] - v) * (at - i)));
  return `rgb(${c.join(',')})`;
}
const inkOn = part => (part > 0.55 ? '#101010' : '#ffffff');
