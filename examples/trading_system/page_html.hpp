// SPDX-License-Identifier: MIT
// The page: one file, no library, nothing from elsewhere. The browser opens one connection for the events.
// When that breaks, the page says so, greys what it shows, and opens another one each second.
#pragma once

#include <string_view>

namespace trading {

inline constexpr std::string_view page_html = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Order books</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1917; --faint: #57534e; --rule: #e7e5e4;
  --bid: #15803d; --ask: #b91c1c; --up: #86efac; --down: #fca5a5; }
@media (prefers-color-scheme: dark) { :root { --paper: #1c1917; --ink: #e7e5e4; --faint: #a8a29e; --rule: #44403c;
  --bid: #4ade80; --ask: #f87171; --up: #166534; --down: #991b1b; } }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 64rem; padding: 0 1rem;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 0; }
p { margin: .3rem 0; } .faint { color: var(--faint); font-size: .9em; } #note { color: var(--ask); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { text-align: right; padding: .15rem .6rem; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--faint); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
#books td:nth-child(3) { color: var(--bid); font-weight: 600; } #books td:nth-child(4) { color: var(--ask); font-weight: 600; }
img { display: block; width: 100%; min-width: 36rem; max-width: 48rem; } img:not([src]) { display: none; }
.stale main { opacity: .4; } .stale #state { color: var(--ask); }
</style></head><body class="stale">
<h1>Order books</h1><p id="state" role="status">connecting …</p><p id="note"></p>
<main>
<div class="scroll"><table><thead>
<tr><th>stock<th>bid shares<th>bid $<th>ask $<th>ask shares<th>traded today<th>orders waiting<th>messages<th>worker</tr>
</thead><tbody id="books"></tbody></table></div>
<p class="faint">The busiest <span id="shown">0</span> of <span id="stocks">0</span> stocks, ten times a second. Bid: the
most that somebody would pay; ask: the least that somebody would take.</p>
<h2>From tick to book</h2>
<div class="scroll"><table><thead>
<tr><th id="day"><th>messages<th>50 %<th>90 %<th>99 %<th>99.9 %<th>max</tr>
</thead><tbody id="times"><tr><td colspan="7">in two seconds …</tr></tbody></table></div>
<p class="faint">From the moment when a message was due to the moment when it was in its book; every two seconds. The second
row leaves out what met a moment when another program, or the system, had the core.</p>
<div class="scroll"><img id="picture" alt="Which share of the messages took no longer than which time"></div>
</main>
<script>
const $ = id => document.getElementById(id), rows = new Map();
const n = x => x.toLocaleString('en'), price = x => x ? (x / 1e4).toFixed(2) : '';
function row(cells) {
  const tr = document.createElement('tr');
  for (const cell of cells) tr.appendChild(document.createElement('td')).textContent = cell;
  return tr;
}
function flash(cell, change) {
  cell.animate([{ background: change > 0 ? 'var(--up)' : 'var(--down)' }, { background: 'transparent' }], 800);
}
function show(book) {  // stock, worker, bid, bid shares, ask, ask shares, traded, orders, messages
  const [stock, worker, bid, bids, ask, asks, traded, orders, messages] = book;
  const cells = [stock, n(bids), price(bid), price(ask), n(asks), n(traded), n(orders), n(messages), worker + 1];
  const known = rows.get(stock) ?? { tr: row(cells), bid, ask };
  rows.set(stock, { tr: known.tr, bid, ask });
  cells.forEach((cell, i) => { known.tr.children[i].textContent = cell; });
  if (bid !== known.bid) flash(known.tr.children[2], bid - known.bid);
  if (ask !== known.ask) flash(known.tr.children[3], ask - known.ask);
  return known.tr;
}
function onBooks(event) {
  const now = JSON.parse(event.data);
  $('state').textContent = `day ${n(now.day)}: ${n(now.messages)} messages` + (now.rate ? `, ${n(now.rate)} a second` : '');
  $('shown').textContent = now.books.length;
  $('stocks').textContent = n(now.stocks);
  const wanted = now.books.map(show), there = $('books').children;
  if (wanted.length !== there.length || wanted.some((tr, i) => tr !== there[i])) $('books').replaceChildren(...wanted);
}
function onTimes(event) {
  const now = JSON.parse(event.data);
  $('note').textContent = now.note;
  $('day').textContent = `day ${n(now.day)}`;
  $('times').replaceChildren(...now.rows.map(r => row([r[0], n(r[1]), ...r.slice(2)])));
  $('picture').src = '/latency.svg?' + now.picture;
}
function connect() {
  const events = new EventSource('/events');
  events.addEventListener('books', onBooks);
  events.addEventListener('times', onTimes);
  events.onopen = () => document.body.classList.remove('stale');
  events.onerror = () => {
    document.body.classList.add('stale');
    $('state').textContent = 'no connection; trying again …';
    events.close();
    setTimeout(connect, 1000);
  };
}
connect();
</script></body></html>
)html";

}  // namespace trading
