// What a search found: the plans worth having, the best of each tensor x pipeline size, sizes of the cluster.

function heatMap(grid) {
  const tps = [...new Set(grid.map(c => c.tp))].sort((a, b) => a - b), pps = [...new Set(grid.map(c => c.pp))].sort((a, b) => a - b);
  const times = grid.filter(c => c.step_time_s !== null).map(c => c.step_time_s);
  // Within a tenth of the best all are nearly as good.
  const best = Math.min(...times), worst = Math.max(...times, 1.1 * best);
  const cell = (tp, pp) => {
    const c = grid.find(g => g.tp === tp && g.pp === pp);
    if (!c) return h('td', {}, '');
    if (c.step_time_s === null) {
      const shown = !c.fits ? 'none fits' : c.at_least_s !== null ? '> ' + time(c.at_least_s) : '-';
      return h('td', {}, c.reason ? explained(h('span', {}, shown), `tp ${tp}, pp ${pp}: ${shown}\n${c.reason}`) : shown);
    }
    const part = worst > best ? 1 - (c.step_time_s - best) / (worst - best) : 1;
    return h('td', { class: c.step_time_s === best ? 'best' : null, style: `background:${ramp(part)};color:${inkOn(part)}` },
      time(c.step_time_s));
  };
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Best step time by tensor and pipeline parallel size' },
    h('table', { class: 'heat' },
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'tp \\ pp'), pps.map(pp => h('th', { scope: 'col' }, 'pp ' + pp)))),
      h('tbody', {}, tps.map(tp => h('tr', {}, h('th', { scope: 'row' }, 'tp ' + tp), pps.map(pp => cell(tp, pp)))))));
}

const planTexts = p => [(p.best ? 'best: ' : '') + p.strategy, time(p.step_time_s), si(p.tokens_per_s, ''), bytes(p.memory_bytes),
  ...(p.money === null ? [] : [si(p.money, '')])];

function plansPart(search) {
  const priced = search.plans[0].money !== null;
  const text = p => `${p.best ? 'best: ' : ''}${p.strategy}\n${time(p.step_time_s)} per step, ${si(p.tokens_per_s, 'tokens/s')}\n` +
    `${bytes(p.memory_bytes)} of a device${priced ? `, money ${si(p.money, '')}` : ''}`;
  const points = y => [...search.runners_up.map(p => [p, 'var(--grey)']), ...search.plans.map(p => [p, 'var(--blue)'])]
    .map(([p, paint]) => ({ x: p.memory_bytes, y: y(p), strong: p.best, paint, text: text(p) })).sort((a, b) => a.strong - b.strong);
  const plot = (name, y, unit) => scatter(name, points(y), bytes, v => si(v, ''), 'memory of the fullest device', unit);
  const columns = ['strategy', '#step time', '#tokens/s', '#memory', ...(priced ? ['#money'] : [])], kinds = [['best', 'var(--red)']];
  if (search.plans.length > 1) kinds.push(['not beaten in both', 'var(--blue)']);
  if (search.runners_up.length) kinds.push(['next in speed', 'var(--grey)']);
  const throughput = plot('Throughput against memory', p => p.tokens_per_s, 'tokens/s');
  return [h('h3', {}, priced ? 'Throughput and money against memory' : 'Throughput against memory'),
    priced ? h('div', { class: 'columns' }, throughput, plot('Money against memory', p => p.money, 'money of the whole run')) : throughput,
    legend(kinds),
    tableBehind('Plans that no other beats in both throughput and memory', columns, search.plans.map(planTexts)),
    search.runners_up.length ? table('The next in speed', columns, search.runners_up.map(planTexts)) : null];
}

function scalingPart(scaling) {
  const found = scaling.filter(p => p.step_time_s !== null), priced = found.filter(p => p.money !== null), lasting = found.some(p => p.days !== null);
  const days = value => (value === null ? '-' : duration(value * 86400));
  const text = p => `${count(p.nodes)} nodes${p.knee ? ', the knee' : ''}: ${p.strategy}\n${si(p.tokens_per_s, 'tokens/s')}, ${time(p.step_time_s)} per step` +
    (p.days === null ? '' : `\n${days(p.days)}, ${si(p.device_hours, '')} device-hours`) + (p.money === null ? '' : `, money ${si(p.money, '')}`);
  const columns = ['nodes', '#step time', '#tokens/s', '#efficiency', ...(lasting ? ['#duration', '#device-hours'] : []),
    ...(priced.length ? ['#money'] : []), 'strategy'];
  const row = p => [count(p.nodes) + (p.knee ? ' (knee)' : ''), time(p.step_time_s), si(p.tokens_per_s, ''), percent(p.efficiency),
    ...(lasting ? [days(p.days), si(p.device_hours, '')] : []), ...(priced.length ? [si(p.money, '')] : []),
    p.step_time_s === null ? 'no plan fits' : p.strategy];
  const knee = found.some(p => p.knee) ? legend([['size of the cluster', 'var(--blue)'], ['the knee: more nodes gain less', 'var(--red)']]) : null;
  return [h('h3', {}, 'Sizes of the cluster'),
    h('div', { class: 'columns' },
      found.length ? scatter('Throughput by number of nodes', found.map(p => ({ x: p.nodes, y: p.tokens_per_s, strong: p.knee, text: text(p) })),
        v => count(Math.round(v)), v => si(v, ''), 'nodes', 'tokens/s', true) : null,
      priced.length ? scatter('Money against duration', priced.map(p => ({ x: p.days * 86400, y: p.money, strong: p.knee, text: text(p) })),
        duration, v => si(v, ''), 'duration of the run', 'money', true) : null),
    knee, table('Sizes of the cluster', columns, scaling.map(row))];
}

function searchSection(report) {
  const search = report.search;
  if (!search) return;
  const bound = search.best_possible_step_time_s;
  const host = section('search', 'Search', `${count(search.judged)} plans judged, ${count(search.simulated)} simulated. ` +
    (search.proved_optimal ? 'The best one is proved to be the fastest of the space under the model.'
      : bound && search.plans.length ? `No plan of the space takes less than ${time(bound)}: the best is within ${percent(1 - bound / search.plans[0].step_time_s)} of that.` : ''));
  const parts = [];
  if (search.plans.length) parts.push(plansPart(search));
  if (search.grid.length) {
    parts.push([h('h3', {}, 'Tensor by pipeline parallel size'),
      h('p', { class: 'intro' }, 'The best step time of each; \u201c>\u201d is what a bound says of plans that were not simulated.'), heatMap(search.grid)]);
  }
  if (search.scaling.length) parts.push(scalingPart(search.scaling));
  const rejected = Object.entries(search.rejected);
  if (rejected.length) {
    parts.push([h('h3', {}, 'Why others were rejected'), table('Plans rejected, by reason', ['reason', '#plans'], rejected.map(([why, n]) => [why, count(n)]))]);
  }
  host.append(...parts.flat().filter(p => p !== null));
}
