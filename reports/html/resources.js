// What a little more of each resource would buy.

function resourcesSection(report) {
  const all = report.resources;
  if (!all && !report.no_resources) return;
  const host = section('resources', 'What more would buy', all
    ? 'The job simulated again on a machine with a tenth more of one thing, or a tenth less of what costs time: how much shorter a step becomes.'
    : report.no_resources);
  if (!all) return;
  const more = r => (r.factor > 1 ? '+' : '\u2212') + Math.round(100 * Math.abs(r.factor - 1)) + ' %';
  const rows = all.map(r => ({ name: r.words, parts: [{ name: `${more(r)}, a step of ${time(r.step_time_s)}`, value: r.gain, paint: 'var(--green)' }] }));
  host.append(stackedRows('Step time saved by more of each resource', rows, percent, 1.05 * Math.max(0.01, ...all.map(r => r.gain))),
    tableBehind('What more of each resource would buy', ['resource', '#more', '#step time', '#shorter by', ''],
      all.map(r => [r.words, more(r), time(r.step_time_s), percent(r.gain), r.why || ''])));
}
