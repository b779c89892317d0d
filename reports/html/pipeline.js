// The pipeline as a Gantt chart on a canvas: a row for each stage, zoomed with buttons, keys, Ctrl and wheel, or a pinch;
// moved by dragging.

const ACTIVITY_PAINTS = ['blue', 'orange', 'pink', 'sky', 'green', 'grey'];

function decodeLanes(pipeline) {
  return pipeline.lanes.map(lane => {
    const bars = [];
    const last = pipeline.activities.map(() => 0);  // texts, by activity
    let at = 0;
    for (const row of lane.bars) {
      const [gap, length, busy, activity, on] = pipeline.rows[row], start = at + gap;
      at = start + length;
      last[activity] += on;
      bars.push({ start, end: at, busy, text: last[activity], activity });
    }
    return { ...lane, bars, isCompute: lane.kind === 'compute',
      paint: lane.kind === 'compute' ? null : lane.kind === 'collective' ? 'red' : lane.kind === 'point_to_point' ? 'brown' : 'yellow' };
  });
}

function pipelineSection(report) {
  const pipeline = report.pipeline, tick = pipeline.tick_s, total = Math.round(pipeline.length_s / tick);
  const all = report.lanes;
  const compute = all.filter(l => l.isCompute);
  if (!compute.length) return;
  const nameOf = lane => compute.filter(l => l.role === lane.role).length > 1 ? `${lane.role}, rank ${lane.rank}` : lane.role;
  const host = section('pipeline', 'Pipeline',
    'What each stage does in the steady step. A bar is a pass of one microbatch, waits inside it included; gaps are bubble.' +
    (pipeline.period > 1 ? ` Steps are not alike: this is the last one of ${pipeline.period}, of which the step time is the mean.` : ''));
  const view = { from: 0, to: total, streams: false, row: 0, bar: -1 };
  const canvas = h('canvas', { tabindex: '0', role: 'img',
    'aria-label': `Gantt chart of ${compute.length} pipeline stages. Arrow keys go from bar to bar, plus and minus zoom, 0 shows the whole step. The table below has the figures.` });
  const range = h('output', {});
  let rows = compute, width = 0, left = 0, tops = [], height = 0;

  const x = t => left + (t - view.from) / (view.to - view.from) * (width - left);
  const t = px => view.from + (px - left) / (width - left) * (view.to - view.from);

  function layout() {
    rows = view.streams ? all : compute;
    width = canvas.clientWidth;
    const high = compute.length > 40 ? 12 : compute.length > 16 ? 17 : 24;
    height = 22;
    tops = rows.map(l => {
      const row = { top: height, high: l.isCompute ? high : 9 };
      height += row.high + (l.isCompute ? 3 : 2);
      return row;
    });
    left = Math.min(width * 0.3, 14 + Math.max(...rows.map(l => textWidth(rowName(l)))));
  }
  const rowName = l => l.isCompute ? nameOf(l) : '  ' + l.stream;

  function draw() {
    layout();
    const ratio = devicePixelRatio || 1;
    canvas.style.height = height + 'px';
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext('2d');
    pen.scale(ratio, ratio);
    pen.font = '11px ' + colour('font');
    pen.textBaseline = 'middle';
    const ink = colour('ink'), dim = colour('dim'), idle = colour('idle'), line = colour('grid');
    const paints = ACTIVITY_PAINTS.map(colour);
    const span = view.to - view.from;
    for (const mark of ticks(total * tick, Math.min(4000, 8 * total / span)).map(v => v / tick)) {
      if (mark < view.from || mark > view.to) continue;
      pen.fillStyle = line;
      pen.fillRect(x(mark), 16, 1, height);
      pen.fillStyle = dim;
      pen.textAlign = mark > view.to - span * 0.04 ? 'right' : mark < view.from + span * 0.02 ? 'left' : 'center';
      pen.fillText(time(mark * tick), x(mark), 8);
    }
    rows.forEach((lane, i) => {
      const { top, high } = tops[i];
      pen.textAlign = 'left';
      pen.fillStyle = lane.isCompute ? ink : dim;
      pen.fillText(rowName(lane), 0, top + high / 2 + 0.5, left - 6);
      pen.fillStyle = idle;
      if (lane.isCompute) pen.fillRect(left, top, width - left, high);
      const paint = lane.paint && colour(lane.paint);
      let drawn = -1;
      for (let b = firstAfter(lane.bars, view.from); b < lane.bars.length && lane.bars[b].start < view.to; ++b) {
        const bar = lane.bars[b], from = Math.max(left, x(bar.start)), to = Math.min(width, x(bar.end));
        if (to < drawn + 0.4) continue;  // nothing of it would be seen
        drawn = to;
        pen.fillStyle = paint || paints[bar.activity];
        const gap = to - from > 4 ? 1 : 0;
        pen.fillRect(from, top, Math.max(0.5, to - from - gap), high);
        if (lane.isCompute && to - from > 22 && high >= 12) {
          const number = /microbatch (.*)/.exec(pipeline.texts[bar.text]);
          const label = number ? number[1].replace(' and ', '+') : pipeline.texts[bar.text];
          if (pen.measureText(label).width < to - from - 4) {
            pen.fillStyle = bar.activity === 0 || bar.activity === 4 || bar.activity === 5 ? '#ffffff' : '#101010';
            pen.textAlign = 'center';
            pen.fillText(label, (from + to) / 2, top + high / 2 + 0.5);
          }
        }
        if (i === view.row && b === view.bar) {
          pen.strokeStyle = ink;
          pen.lineWidth = 2;
          pen.strokeRect(from + 1, top + 1, Math.max(2, to - from - 2), high - 2);
        }
      }
    });
    range.textContent = `${time(view.from * tick)} to ${time(view.to * tick)}`;
    for (const button of [zoomOut, whole]) button.disabled = span >= total;
  }

  // Index of the first bar that ends after a time.
  function firstAfter(bars, at) {
    let low = 0, high = bars.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (bars[middle].end <= at) low = middle + 1; else high = middle;
    }
    return low;
  }

  const barText = (lane, bar) =>
    `${nameOf(lane)}${lane.isCompute ? '' : ', ' + lane.stream}: ${pipeline.texts[bar.text]}\n` +
    `${lane.isCompute ? pipeline.activities[bar.activity] : words(lane.kind)}, ${time((bar.end - bar.start) * tick)}` +
    ` from ${time(bar.start * tick)}\nat work ${time(bar.busy * tick)} (${percent(bar.busy / (bar.end - bar.start))})` +
    (lane.ranks > 1 ? `\nrank ${lane.rank}, the same on ${count(lane.ranks)} ranks` : `\nrank ${lane.rank}`);

  function show(from, to) {
    const span = Math.max(20, Math.min(total, to - from));
    view.from = Math.max(0, Math.min(total - span, from));
    view.to = view.from + span;
    draw();
  }
  const zoom = (factor, at) => show(at - (at - view.from) * factor, at + (view.to - at) * factor);
  const middle = () => (view.from + view.to) / 2;

  const zoomIn = h('button', { type: 'button', 'aria-label': 'Zoom in', onclick: () => zoom(0.5, middle()) }, '+');
  const zoomOut = h('button', { type: 'button', 'aria-label': 'Zoom out', onclick: () => zoom(2, middle()) }, '\u2212');
  const whole = h('button', { type: 'button', onclick: () => show(0, total) }, 'Whole step');
  const streams = all.length === compute.length ? null : h('label', {}, h('input', { type: 'checkbox',
    onchange: event => { view.streams = event.target.checked; view.row = 0; view.bar = -1; draw(); } }), 'communication streams');
  host.append(h('div', { class: 'controls' }, zoomIn, zoomOut, whole, streams, range), canvas);

  let drag = null;
  canvas.addEventListener('pointerdown', event => {
    drag = { x: event.clientX, from: view.from, to: view.to };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointerup', () => { drag = null; });
  canvas.addEventListener('pointercancel', () => { drag = null; });
  canvas.addEventListener('pointermove', event => {
    const box = canvas.getBoundingClientRect();
    if (drag && Math.abs(event.clientX - drag.x) > 2) {
      const moved = (drag.x - event.clientX) / (width - left) * (drag.to - drag.from);
      tip.hide();
      show(drag.from + moved, drag.to + moved);
      return;
    }
    const i = tops.findIndex(r => event.clientY - box.top >= r.top && event.clientY - box.top < r.top + r.high);
    const at = t(event.clientX - box.left);
    const bar = i < 0 || event.clientX - box.left < left ? null : rows[i].bars[firstAfter(rows[i].bars, at)];
    if (bar && bar.start <= at) tip.show(barText(rows[i], bar), event.clientX, event.clientY); else tip.hide();
  });
  canvas.addEventListener('pointerleave', () => tip.hide());
  canvas.addEventListener('dblclick', event => zoom(0.4, t(event.clientX - canvas.getBoundingClientRect().left)));
  canvas.addEventListener('wheel', event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, t(event.clientX - canvas.getBoundingClientRect().left));
  }, { passive: false });
  canvas.addEventListener('keydown', event => {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (event.key === '+' || event.key === '=') zoom(0.5, middle());
    else if (event.key === '-') zoom(2, middle());
    else if (event.key === '0') show(0, total);
    else if (moves[event.key]) go(...moves[event.key]);
    else return;
    event.preventDefault();
  });
  function go(down, on) {
    const old = rows[view.row].bars[view.bar];
    view.row = Math.max(0, Math.min(rows.length - 1, view.row + down));
    const bars = rows[view.row].bars;
    view.bar = down && old ? firstAfter(bars, old.start) : view.bar + on;
    view.bar = Math.max(0, Math.min(bars.length - 1, view.bar));
    const bar = bars[view.bar], span = view.to - view.from;
    if (bar.start < view.from || bar.end > view.to) show(bar.start - span / 3, bar.start + span * 2 / 3); else draw();
    const box = canvas.getBoundingClientRect();
    tip.show(barText(rows[view.row], bar), box.left + Math.max(left, x(bar.start)), box.top + tops[view.row].top + tops[view.row].high);
  }

  const used = new Set(compute.flatMap(l => l.bars.map(b => b.activity)));
  host.append(legend([...[...used].sort().map(a => [pipeline.activities[a], `var(--${ACTIVITY_PAINTS[a]})`]),
    ['bubble', 'var(--idle)'], ...(streams ? [['collectives', 'var(--red)'], ['messages', 'var(--brown)']] : [])]));
  host.append(tableBehind('Each stage\u2019s compute stream in the step',
    ['stage', '#rank', '#ranks', '#passes', '#first start', '#last end', '#at work', '#of the step'],
    compute.map(l => {
      const busy = l.bars.reduce((sum, b) => sum + b.busy, 0);
      return [nameOf(l), count(l.rank), count(l.ranks), count(l.bars.length), time(l.bars[0].start * tick),
        time(l.bars[l.bars.length - 1].end * tick), time(busy * tick), percent(busy / total)];
    })));
  new ResizeObserver(draw).observe(canvas.parentElement);
  addEventListener('themechange', draw);
  draw();
}
