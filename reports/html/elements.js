// Elements of the page, and the one tip that shows what the pointer or the keyboard is at.

function fillElement(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat().filter(c => c !== null && c !== undefined));
  return element;
}

const h = (tag, attributes, ...children) => fillElement(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fillElement(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

const colour = name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();

const tip = {
  element: document.getElementById('tip'),
  show(text, x, y) {
    this.element.textContent = text;
    this.element.hidden = false;
    const box = this.element.getBoundingClientRect();
    this.element.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 6)) + 'px';
    this.element.style.top = Math.max(4, y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18) + 'px';
  },
  hide() { this.element.hidden = true; },
};
addEventListener('scroll', () => tip.hide(), { passive: true });
addEventListener('keydown', event => event.key === 'Escape' && tip.hide());

// The element shows `text` under the pointer, and when it has the focus.
function explained(element, text) {
  element.setAttribute('tabindex', '0');
  element.setAttribute('role', 'img');
  element.setAttribute('aria-label', text.replaceAll('\n', ', '));
  element.addEventListener('pointermove', event => tip.show(text, event.clientX, event.clientY));
  element.addEventListener('pointerleave', () => tip.hide());
  element.addEventListener('focus', () => {
    if (!element.matches(':focus-visible')) return;
    const box = element.getBoundingClientRect();
    tip.show(text, box.left + box.width / 2, box.bottom - 12);
  });
  element.addEventListener('blur', () => tip.hide());
  return element;
}

function section(id, title, intro) {
  const element = h('section', { id, 'aria-labelledby': id + '-title' }, h('h2', { id: id + '-title' }, title),
    intro ? h('p', { class: 'intro' }, intro) : null);
  document.getElementById('main').append(element);
  document.getElementById('contents').append(h('a', { href: '#' + id }, title));
  return element;
}

// Columns are titles; those of numbers begin with "#".
function table(caption, columns, rows) {
  const isNumber = columns.map(c => c.startsWith('#'));
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption }, h('table', {},
    h('caption', {}, caption),
    h('thead', {}, h('tr', {}, columns.map((c, i) =>
      h('th', { scope: 'col', class: isNumber[i] ? 'number' : null }, c.replace('#', ''))))),
    h('tbody', {}, rows.map(row => h('tr', {}, row.map((cell, i) => i === 0
      ? h('th', { scope: 'row' }, cell) : h('td', { class: isNumber[i] ? 'number' : null }, cell)))))));
}

const tableBehind = (caption, columns, rows) =>
  h('details', {}, h('summary', {}, 'As a table'), table(caption, columns, rows));

const legend = entries => h('ul', { class: 'legend' }, entries.map(([name, paint]) =>
  h('li', {}, h('span', { class: 'swatch', style: 'background:' + paint, 'aria-hidden': 'true' }), name)));
