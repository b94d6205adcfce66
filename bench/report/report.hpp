// SPDX-License-Identifier: MIT
// The results of cairn-compare, turned into what a person reads: tables for a terminal, a page for a browser.
//
// Both functions take the same JSON document (the one that `cairn-compare --json` writes) and are pure:
// no clock, no environment, no files. They are lenient, because a report that fails after five minutes of
// measuring helps nobody: an absent field, one of another type, an empty array, a NaN is left out or shown
// as "-". They are strict about text, because names of nodes and files are the user's: a control character
// or a broken UTF-8 sequence becomes U+FFFD, and the page escapes all text.
#pragma once

#include <iosfwd>
#include <string>

#include <nlohmann/json.hpp>

namespace cairn::report {

/// Writes the tables of `document` as aligned text at most `width` columns wide (a width below 24 counts
/// as 24). The winner of each row carries a `*`. A table that is too wide continues in blocks that repeat
/// its first column; spreads are shown only where the table then still fits one block. `colour` adds
/// ANSI bold and dim, no other escape sequence.
void write_terminal(std::ostream& out, nlohmann::json const& document, bool colour, int width);

/// One HTML page that needs no network: style, script, plotting library and data are inside. All prose
/// and all tables are plain HTML, so the page reads without script too; the script draws the charts.
[[nodiscard]] std::string html_page(nlohmann::json const& document);

}  // namespace cairn::report
