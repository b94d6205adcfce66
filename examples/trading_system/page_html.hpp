// SPDX-License-Identifier: MIT
// The page: one file, no library, nothing from elsewhere. The browser opens one connection for the events and
// opens it again by itself when it breaks.
#pragma once

#include <string_view>

namespace trading {

inline constexpr std::string_view page_html = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The books</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c1917; }
h1 { font-size: 1.4rem; } #state { color: #57534e; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { text-align: right; padding: .15rem .6rem; border-bottom: 1px solid #e7e5e4; }
th:first-child, td:first-child { text-align: left; }
td.up { background: #dcfce7; } td.down { background: #fee2e2; }
td { transition: background .6s; } img { max-width: 100%; }
</style></head><body>
<h1>The books</h1><p id="state" aria-live="polite">connecting …</p>
<table><thead><tr><th>stock<th>bid shares<th>bid<th>ask<th>ask shares<th>traded<th>orders<th>messages</tr></thead>
<tbody id="books"></tbody></table>
<table><thead><tr><th>from tick to book<th>messages<th>50 %<th>90 %<th>99 %<th>99.9 %<th>max</tr></thead>
<tbody id="times"></tbody></table>
<img id="picture" alt="Share of the messages against the time from when they were due to when they were in their book">
<script>
const $ = id => document.getElementById(id), shown = new Map();
const n = x => x.toLocaleString('en'), price = x => x ? (x / 1e4).toFixed(2) : '';
function row(cells) {
  const tr = document.createElement('tr');
  for (const cell of cells) tr.appendChild(document.createElement('td')).textContent = cell;
  return tr;
}
const events = new EventSource('/events');
events.addEventListener('books', event => {
  const now = JSON.parse(event.data);
  $('state').textContent = `day ${now.day}: ${n(now.messages)} messages, ${n(now.rate)} a second`;
  const rows = now.books.map(b => {
    const tr = row([b[0], n(b[2]), price(b[1]), price(b[3]), n(b[4]), n(b[5]), n(b[6]), n(b[7])]);
    const before = shown.get(b[0]) ?? b;
    for (const [i, cell] of [[1, 2], [3, 3]])
      if (b[i] !== before[i]) tr.children[cell].className = b[i] > before[i] ? 'up' : 'down';
    shown.set(b[0], b);
    return tr;
  });
  $('books').replaceChildren(...rows);
});
events.addEventListener('times', event => {
  const now = JSON.parse(event.data);
  $('times').replaceChildren(...now.rows.map(row));
  $('picture').src = '/latency.svg?day=' + now.day;
});
events.onerror = () => { $('state').textContent = 'no connection; trying again …'; };
</script></body></html>
)html";

}  // namespace trading
