'use strict';

// Figures as people read them: three digits, decimal prefixes, as the program prints them.

const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P', 'E', 'Z'];

function digits(value) {
  const size = Math.abs(value);
  return value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

function si(value, unit) {
  if (value === null || value === undefined || !isFinite(value)) return '-';
  let prefix = 0;
  while (Math.abs(value) >= 999.5 && prefix + 1 < PREFIXES.length) {
    value /= 1000;
    ++prefix;
  }
  const text = prefix === 0 && Number.isInteger(value) ? String(value) : digits(value);
  const end = PREFIXES[prefix] + (/^[a-z]{3}/.test(unit) && prefix ? ' ' : '') + unit;  // "k tokens", "kB"
  return end ? text + ' ' + end : text;
}

const bytes = value => si(value, 'B');

function time(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return '-';
  for (const [unit, size] of [['s', 1], ['ms', 1e-3], ['us', 1e-6], ['ns', 1e-9]]) {
    if (Math.abs(seconds) >= size * 0.9995) return digits(seconds / size) + ' ' + unit;
  }
  return seconds === 0 ? '0 s' : digits(seconds / 1e-12) + ' ps';
}

const percent = part => (part === null || part === undefined || !isFinite(part) ? '-' : (100 * part).toFixed(1) + ' %');
const signed = part => (part > 0 ? '+' : '') + percent(part);
const count = n => String(n).replace(/\B(?=(\d{3})+$)/g, ',');
const words = key => key.replaceAll('_', ' ');

// Round values from `low` to `top` that an axis is marked with.
function ticks(top, wanted, low = 0) {
  if (!(top > low)) return [top];
  const rough = (top - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough * 0.999);
  const marks = [];
  for (let i = Math.ceil(low / step); i * step <= top * 1.0001; ++i) marks.push(i * step);
  return marks;
}
