// A whole run: how long it takes when devices fail, and where the time goes.

const RUN_PAINTS = { useful: 'blue', checkpoint: 'orange', lost_work: 'red', restart: 'pink', stragglers: 'grey' };

function wholeRunSection(report) {
  const run = report.estimate.whole_run;
  if (!run) return;
  const days = value => duration(value * 86400);
  const host = section('run', 'Whole run', `${si(run.tokens, report.counted_in)} in ${count(run.steps)} steps on ${count(run.devices)} devices: ` +
    `${count(run.monte_carlo.runs)} runs sampled. Without any mishap it would take ${days(run.ideal_days)}.`);
  const between = (spread, show) => `${show(spread.p5)} to ${show(spread.p95)} in 90 % of runs`;
  const cards = [card('Duration', days(run.days.mean), between(run.days, days)),
    card('Device-hours', si(run.device_hours.mean, ''), between(run.device_hours, v => si(v, ''))),
    card('Goodput', percent(run.goodput.mean), between(run.goodput, percent)),
    card('Failures', si(Math.round(run.failures.unexpected.mean), ''), between(run.failures.unexpected, v => si(Math.round(v), '')) +
      `, one in ${duration(run.failures.mtbf_s)}`)];
  if (run.money) cards.push(card('Money', si(run.money.mean, ''), between(run.money, v => si(v, '')) + ` at ${run.price_per_device_hour} per device-hour`));
  if (run.energy_kwh) cards.push(card('Energy', si(run.energy_kwh.mean * 1000, 'Wh'), between(run.energy_kwh, v => si(v * 1000, 'Wh'))));
  host.append(h('div', { class: 'cards' }, cards));
  const parts = Object.entries(RUN_PAINTS).map(([key, paint]) => ({ name: words(key), value: run.split[key] * run.days.mean, paint: `var(--${paint})` }));
  host.append(h('h3', {}, 'Where its time goes'), stackedRows('Time of the run', [{ name: 'mean', parts }], days, 1.01 * run.days.mean),
    legend(parts.map(p => [p.name, p.paint])),
    tableBehind('Time of the run, mean over samples', ['part', '#time', '#share'],
      parts.map(p => [p.name, days(p.value), percent(p.value / run.days.mean)])));
  const saved = run.checkpoint;
  host.append(h('p', { class: 'intro' }, `A checkpoint of ${bytes(saved.state_bytes)} every ${count(saved.interval_steps)} steps (${duration(saved.interval_s)}` +
    `${saved.interval_is === 'best' ? ', the best interval' : ''}); writing one takes ${duration(saved.write_s)}, a restart ${duration(run.restart_s)} in the mean.`));
  host.append(h('h3', {}, 'Failures'), table('Mean number in a run', ['component', 'class', '#mean', '#p5', '#p95'],
    run.failures.by_component.map(c => [words(c.component), words(c.class), ...['mean', 'p5', 'p95'].map(k => c.count[k].toFixed(1))])));
}
