// Memory: what each stage holds over the step, and what that is made of.

const KIND_PAINTS = { parameter: 'blue', gradient: 'orange', optimizer_state: 'green', activation: 'sky', communication: 'pink',
  workspace: 'brown', input: 'yellow', parameters: 'blue', gradients: 'orange', master_weights: 'yellow', activations: 'sky',
  logits: 'red' };

// [time in s, bytes, ...] of a role, where its bytes change.
function memoryPoints(report, role) {
  const bars = report.lanes.find(l => l.isCompute && l.rank === role.rank).bars, points = [];
  let bytes = 0;
  role.live.forEach((change, i) => {
    bytes += report.memory.changes[change];
    if (points.at(-1) !== bytes) points.push(bars[i].start * report.pipeline.tick_s, bytes);
  });
  return points;
}

function memoryCurve(report, memory) {
  const roles = memory.roles.map(r => ({ ...r, points: memoryPoints(report, r) }));
  const end = report.pipeline.length_s;
  const limit = memory.shared ? null : memory.capacity_bytes;
  const most = Math.max(limit || 0, ...roles.map(r => r.arena_bytes));
  const at = (role, when) => {
    let value = role.points[1];
    for (let i = 0; i < role.points.length && role.points[i] <= when; i += 2) value = role.points[i + 1];
    return value;
  };
  const paint = i => (roles.length === 1 ? 'var(--blue)'
    : `color-mix(in oklab, var(--last) ${Math.round(100 * i / (roles.length - 1))}%, var(--first))`);
  const host = chart('Memory of each stage over the step', 320, width => {
    const f = frame('Memory of each stage over the step', width, 340, [0, end], [0, most * 1.06], time, bytes, 'time in the step', 'planned bytes in use');
    roles.forEach((role, i) => {
      let path = '', y = 0;
      for (let k = 0; k < role.points.length; k += 2) {
        const px = f.x(k === 0 ? 0 : role.points[k]);
        path += k === 0 ? `M${px},` : `L${px.toFixed(1)},${y.toFixed(1)}L${px.toFixed(1)},`;
        y = f.y(role.points[k + 1]);
        path += y.toFixed(1);
      }
      f.root.append(s('path', { d: path + `H${f.x(end)}`, fill: 'none', stroke: paint(i), 'stroke-width': 1.6 }));
    });
    if (limit) {
      f.root.append(s('line', { x1: f.x(0), x2: f.x(end), y1: f.y(limit), y2: f.y(limit), stroke: 'var(--bad)',
        'stroke-width': 2, 'stroke-dasharray': '6 4' }),
        s('text', { x: f.x(end) - 4, y: f.y(limit) - 6, 'text-anchor': 'end' }, `a device has ${bytes(limit)}`));
    }
    const cursor = s('line', { class: 'axis', y1: 20, y2: 300, visibility: 'hidden' });
    const cover = s('rect', { x: f.x(0), y: 20, width: f.x(end) - f.x(0), height: 280, fill: 'transparent', tabindex: '0',
      role: 'img', 'aria-label': 'Memory over the step; left and right read it. The table below has the peaks.' });
    let when = end / 2;
    const read = (x, y) => {
      cursor.setAttribute('x1', f.x(when));
      cursor.setAttribute('x2', f.x(when));
      cursor.setAttribute('visibility', 'visible');
      const shown = roles.length > 16 ? roles.filter((_, i) => i % Math.ceil(roles.length / 16) === 0) : roles;
      tip.show([time(when), ...shown.map(r => `${r.role}: ${bytes(at(r, when))}`)].join('\n'), x, y);
    };
    cover.addEventListener('pointermove', event => {
      const box = cover.getBoundingClientRect();
      when = Math.max(0, Math.min(end, (event.clientX - box.left) / box.width * end));
      read(event.clientX, event.clientY);
    });
    cover.addEventListener('keydown', event => {
      if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
      when = Math.max(0, Math.min(end, when + (event.key === 'ArrowLeft' ? -1 : 1) * end / 50));
      const box = cover.getBoundingClientRect();
      read(box.left + when / end * box.width, box.top + 60);
      event.preventDefault();
    });
    for (const out of ['pointerleave', 'blur']) {
      cover.addEventListener(out, () => { tip.hide(); cursor.setAttribute('visibility', 'hidden'); });
    }
    f.root.append(cursor, cover);
    return f.root;
  });
  const named = roles.length > 12 ? roles.map((r, i) => [r, i]).filter(([, i]) => i === 0 || i === roles.length - 1 || i % Math.ceil(roles.length / 8) === 0)
    : roles.map((r, i) => [r, i]);
  return [host, legend(named.map(([r, i]) => [r.role, paint(i)]))];
}

function memorySection(report) {
  const memory = report.memory, stages = report.estimate.memory.per_stage;
  if (!memory.roles.length) return;
  const host = section('memory', 'Memory', memory.shared
    ? `All ranks together may take ${bytes(memory.capacity_bytes)}; the executor allocates exactly what is planned here.`
    : 'Planned bytes of one device over the step, and what PyTorch would hold at the peak: tensors, what its caching allocator keeps, the CUDA context and the buffers of communicators.');
  host.append(h('h3', {}, 'Over the step'), ...memoryCurve(report, memory));
  const above = stages.find(st => st.peak_bytes > memory.capacity_bytes && st.device_visible_bytes <= memory.capacity_bytes);
  if (!memory.shared && above) {
    host.append(h('p', { class: 'intro' }, `The plan\u2019s own buffers take ${bytes(above.peak_bytes)} on ${above.role}, PyTorch\u2019s would take ` +
      `${bytes(above.device_visible_bytes)}: whether the job fits is said of the latter.`));
  }
  host.append(h('h3', {}, memory.shared ? 'By stage, at the peak' : 'By stage, at the peak, as PyTorch would hold it'));
  const kindsOf = stage => (memory.shared ? stage.by_kind_bytes : stage.allocated_by_kind_bytes);
  const kinds = Object.keys(kindsOf(stages[0]));
  const held = stage => Object.values(kindsOf(stage)).reduce((sum, v) => sum + v, 0);
  const beyond = stage => Math.max(0, stage.device_visible_bytes - held(stage));
  const rows = stages.map(stage => ({ name: stage.role, parts: [
    ...kinds.map(k => ({ name: words(k), value: kindsOf(stage)[k], paint: `var(--${KIND_PAINTS[k] || 'grey'})` })),
    { name: 'allocator, context, communicators', value: beyond(stage), paint: 'var(--grey)' }] }));
  const limit = memory.shared ? null : memory.capacity_bytes;
  const top = 1.02 * Math.max(limit || 0, ...stages.map(st => held(st) + beyond(st)));
  host.append(stackedRows('Memory by stage', rows, bytes, top, limit ? [['a device has', limit]] : []));
  const shownKinds = kinds.filter(k => stages.some(st => kindsOf(st)[k] > 0));
  host.append(legend([...shownKinds.map(k => [words(k), `var(--${KIND_PAINTS[k] || 'grey'})`]),
    ...(stages.some(beyond) ? [['allocator, context, communicators', 'var(--grey)']] : [])]));
  host.append(tableBehind('Memory of one rank of each stage', ['stage', '#ranks', '#layers', '#planned peak',
    ...shownKinds.map(k => '#' + words(k)), '#on the device in all'],
    stages.map(st => [st.role, count(st.ranks), String(st.layers), bytes(st.peak_bytes),
      ...shownKinds.map(k => bytes(kindsOf(st)[k])), bytes(st.device_visible_bytes)])));

  const place = h('div', {});
  const pick = h('select', { id: 'largest-of', onchange: () => largest() },
    memory.roles.map((r, i) => h('option', { value: i }, r.role)));
  const fullest = memory.roles.findIndex(r => r.role === report.estimate.memory.fullest_role);
  pick.value = String(Math.max(0, fullest));
  function largest() {
    const role = memory.roles[Number(pick.value)];
    const name = `Largest tensors of ${role.role}, all copies`;
    place.replaceChildren(table(name, ['tensor', 'kind', '#bytes', '#of the peak'],
      role.largest.map(b => [b.name, words(b.kind), bytes(b.bytes), percent(b.bytes / role.arena_bytes)])));
  }
  largest();
  host.append(h('h3', {}, 'Largest tensors'));
  if (memory.roles.length > 1) host.append(h('p', { class: 'controls' }, h('label', { for: 'largest-of' }, 'of'), pick));
  host.append(place);
}
