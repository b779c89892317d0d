// What a search found: the plans worth having, the best of each tensor x pipeline size, sizes of the cluster.

function heatMap(grid) {
  const tps = [...new Set(grid.map(c => c.tp))].sort((a, b) => a - b), pps = [...new Set(grid.map(c => c.pp))].sort((a, b) => a - b);
  const times = grid.filter(c => c.step_time_s !== null).map(c => c.step_time_s);
  const best = Math.min(...times), worst = Math.max(...times);
  const cell = (tp, pp) => {
    const c = grid.find(g => g.tp === tp && g.pp === pp);
    if (!c) return h('td', {}, '');
    if (c.step_time_s === null) {
      return h('td', { title: c.reason || null }, c.at_least_s !== null && c.at_least_s !== undefined ? '> ' + time(c.at_least_s)
        : c.reason ? words(c.reason) : 'none fits');
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

function searchSection(report) {
  const search = report.search;
  if (!search) return;
  const bound = search.best_possible_step_time_s;
  const host = section('search', 'Search', `${count(search.judged)} plans judged, ${count(search.simulated)} simulated. ` +
    (search.proved_optimal ? 'The best one is proved to be the fastest of the space under the model.'
      : bound ? `No plan of the space takes less than ${time(bound)}.` : ''));
  if (search.plans.length) {
    const points = search.plans.map(p => ({ x: p.memory_bytes, y: p.tokens_per_s, strong: p.best,
      text: `${p.best ? 'best: ' : ''}${p.strategy}\n${time(p.step_time_s)} per step, ${si(p.tokens_per_s, 'tokens/s')}\n${bytes(p.memory_bytes)} of a device` }));
    points.sort((a, b) => a.strong - b.strong);
    host.append(h('h3', {}, 'Plans that no other beats in both throughput and memory'),
      scatter('Throughput against memory', points, bytes, v => si(v, ''), 'memory of the fullest device', 'tokens/s'),
      legend([['best', 'var(--red)'], ['Pareto set', 'var(--blue)']]),
      tableBehind('Plans', ['strategy', '#step time', '#tokens/s', '#memory'], search.plans.map(p =>
        [(p.best ? 'best: ' : '') + p.strategy, time(p.step_time_s), si(p.tokens_per_s, ''), bytes(p.memory_bytes)])));
  }
  if (search.grid.length) host.append(h('h3', {}, 'Tensor by pipeline parallel size'), 
    h('p', { class: 'intro' }, 'The best step time of each; \u201c>\u201d is what a bound says of plans that were not simulated.'), heatMap(search.grid));
  if (search.scaling.length) {
    host.append(h('h3', {}, 'Sizes of the cluster'),
      scatter('Throughput by number of nodes', search.scaling.map(p => ({ x: p.nodes, y: p.tokens_per_s, strong: p.knee,
        text: `${count(p.nodes)} nodes${p.knee ? ', the knee' : ''}\n${si(p.tokens_per_s, 'tokens/s')}, ${time(p.step_time_s)} per step` })),
      v => count(Math.round(v)), v => si(v, ''), 'nodes', 'tokens/s', true),
      tableBehind('Sizes', ['nodes', '#step time', '#tokens/s', '#efficiency'], search.scaling.map(p =>
        [count(p.nodes) + (p.knee ? ' (knee)' : ''), time(p.step_time_s), si(p.tokens_per_s, ''), percent(p.efficiency)])));
  }
  const rejected = Object.entries(search.rejected);
  if (rejected.length) host.append(h('h3', {}, 'Why others were rejected'),
    table('Plans rejected, by reason', ['reason', '#plans'], rejected.map(([why, n]) => [words(why), count(n)])));
}
