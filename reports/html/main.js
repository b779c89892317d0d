// Puts the page together from the document that it carries.

const PARTS = { compute: 'blue', recompute: 'sky', exposed_tp: 'orange', exposed_dp: 'red', exposed_pp: 'pink', exposed_cp: 'brown',
  exposed_ep: 'yellow', bubble: 'idle', optimizer: 'green', host: 'grey' };
const PART_NAMES = { exposed_tp: 'tensor parallel exchange', exposed_dp: 'data parallel exchange', exposed_pp: 'pipeline exchange',
  exposed_cp: 'context parallel exchange', exposed_ep: 'expert exchange', bubble: 'bubble (waiting for other ranks)' };
const partName = key => PART_NAMES[key] || words(key);

const card = (name, figure, note, tone) => h('div', { class: 'card' }, h('div', { class: 'name' }, name),
  h('div', { class: 'figure ' + (tone || '') }, figure), h('div', { class: 'note' }, note));

function summarySection(report) {
  const e = report.estimate, band = e.error_band, basis = e.mfu_basis;
  const host = section('summary', 'Summary', report.description);
  if (!e.fits) {
    host.append(h('p', { class: 'banner bad', role: 'alert' }, `Does not fit: ${bytes(e.memory.missing_bytes)} are missing on ${e.memory.fullest_role}. ` +
      (e.fixes.length ? 'It fits with ' + e.fixes.map(f => `${f.change} (${bytes(f.demand_bytes)}, ${time(f.step_time_s)} per step)`).join(', or ') + '.' : '')));
  }
  const known = band.low_s !== null && band.high_s !== null;
  host.append(h('div', { class: 'cards' },
    card('Step time', time(e.step_time_s), known ? `${time(band.low_s)} to ${time(band.high_s)}` : 'error band unknown'),
    card(`Throughput, ${report.counted_in}/s`, si(e.tokens_per_s, ''), si(e.tokens_per_s_per_device, '') + ' per device'),
    card('MFU', percent(e.mfu), `HFU ${percent(e.hfu)}, ${si(e.model_tflops_per_device * 1e12, 'FLOP/s')} per device`),
    card('Memory', bytes(e.memory.shared_by_all_ranks ? e.memory.demand_bytes : e.memory.device_visible_bytes),
      `of ${bytes(e.memory.capacity_bytes)}, ${e.memory.shared_by_all_ranks ? 'all ranks' : e.memory.fullest_role}: ${{ FITS: 'fits', TIGHT: 'tight', OOM: 'does not fit' }[e.memory.verdict]}`,
      e.fits ? 'good' : 'bad'),
    card('Devices', count(basis.devices), report.cluster)));
  host.append(h('p', { class: 'intro', style: 'margin-top:12px' }, `Basis: ${band.basis}. Models: ${e.models.compute}, ${e.models.network}. ` +
    `MFU = model FLOPs / (step time \u00d7 ${count(basis.devices)} devices \u00d7 ${si(basis.peak_flops_per_device, 'FLOP/s')}, the dense ${basis.dtype} peak).`));
  for (const note of e.notes) host.append(h('p', { class: 'intro' }, note));
}

function breakdownSection(report) {
  const e = report.estimate;
  const host = section('breakdown', 'Where the step goes',
    'Every instant of a rank belongs to what its compute stream runs, or else to what that stream waits for.');
  const parts = b => Object.keys(PARTS).map(k => ({ name: partName(k), value: b[k] || 0, paint: `var(--${PARTS[k]})` }));
  const roles = e.breakdown_by_role.length > 1 ? e.breakdown_by_role : [];
  const rows = [{ name: 'mean', parts: parts(e.breakdown_s) }, ...roles.map(r => ({ name: r.role, parts: parts(r.breakdown_s) }))];
  const total = b => Object.values(b).reduce((sum, v) => sum + v, 0);
  host.append(stackedRows('Breakdown of the step', rows, time, 1.01 * Math.max(total(e.breakdown_s), ...roles.map(r => total(r.breakdown_s)))));
  const used = Object.keys(PARTS).filter(k => rows.some(r => r.parts.find(p => p.name === partName(k)).value > 0));
  host.append(legend(used.map(k => [partName(k), `var(--${PARTS[k]})`])));
  host.append(tableBehind('Mean over ranks', ['part', '#time', '#of the step'], used.map(k =>
    [partName(k), time(e.breakdown_s[k]), percent(e.breakdown_s[k] / total(e.breakdown_s))])));
}

function comparisonSection(report) {
  const c = report.comparison;
  if (!c) return;
  const host = section('comparison', 'Forecast against reality',
    `Step time: forecast ${time(c.predicted_step_s)}, measured ${time(c.measured_step_s)}: ${signed(c.error)}.`);
  const kinds = c.by_kind.slice(0, 14);
  const name = k => words(k.kind || k.name);
  const rows = kinds.flatMap(k => [
    { name: name(k), parts: [{ name: 'forecast', value: k.predicted_s, paint: 'var(--sky)' }] },
    { name: '', parts: [{ name: 'measured', value: k.measured_s, paint: 'var(--orange)' }] }]);
  host.append(stackedRows('Time by kind of op', rows, time, 1.01 * Math.max(...kinds.map(k => Math.max(k.predicted_s, k.measured_s)))),
    legend([['forecast', 'var(--sky)'], ['measured', 'var(--orange)']]),
    tableBehind('Time of each kind of op, per step and rank', ['kind', '#forecast', '#measured', '#error'],
      c.by_kind.map(k => [name(k), time(k.predicted_s), time(k.measured_s), signed(k.error)])));
}

function jobSection(report) {
  const host = section('job', 'Job', 'The whole job with every default filled in. This page carries it: \u201cforetrain import\u201d gives it back as a file.');
  host.append(h('details', {}, h('summary', {}, 'Show the job file'),
    h('pre', { tabindex: '0' }, JSON.stringify(report.estimate.resolved, null, 2))));
}

function tools(report) {
  const root = document.documentElement, button = document.getElementById('theme');
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : dark.matches);
  const changed = () => {
    button.textContent = isDark() ? 'Light' : 'Dark';
    button.setAttribute('aria-label', `Change to ${isDark() ? 'light' : 'dark'} colours`);
    dispatchEvent(new Event('themechange'));
  };
  button.onclick = () => { root.dataset.theme = isDark() ? 'light' : 'dark'; changed(); };
  dark.addEventListener('change', changed);
  matchMedia('print').addEventListener('change', changed);
  changed();
  document.getElementById('print').onclick = () => print();
  document.getElementById('save').onclick = () => {
    const link = h('a', { download: report.title + '.json',
      href: URL.createObjectURL(new Blob([JSON.stringify(report.estimate.resolved, null, 2) + '\n'], { type: 'application/json' })) });
    link.click();
    URL.revokeObjectURL(link.href);
  };
}

const report = JSON.parse(document.getElementById('foretrain-report').textContent);
report.lanes = decodeLanes(report.pipeline);
document.querySelector('#main noscript').remove();
for (const part of [summarySection, breakdownSection, resourcesSection, pipelineSection, memorySection, networkSection, wholeRunSection, searchSection,
  comparisonSection, jobSection]) {
  part(report);
}
document.getElementById('footer').textContent = `${report.program}. Everything on this page is in it; it asks no network for anything.`;
tools(report);
