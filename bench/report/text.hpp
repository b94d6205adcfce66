// SPDX-License-Identifier: MIT
// Text for two media: what may reach a terminal or a page, how wide it is, and how it wraps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::report::text {

/// Valid UTF-8 without anything that steers a terminal: tab, newline and carriage return become a space;
/// other control characters, bidirectional overrides, line separators and malformed sequences become U+FFFD.
[[nodiscard]] std::string clean(std::string_view bytes);

/// Terminal columns that `clean` text takes: 0 for combining marks, 2 for East Asian wide characters and
/// emoji, 1 for the rest.
[[nodiscard]] std::size_t width(std::string_view clean);

/// `clean` text cut to at most `columns` (at least 1), the last of them an ellipsis where it was cut.
[[nodiscard]] std::string shorten(std::string_view clean, std::size_t columns);

/// `clean` text with spaces before (after) it up to `columns`.
[[nodiscard]] std::string right(std::string_view clean, std::size_t columns);
[[nodiscard]] std::string left(std::string_view clean, std::size_t columns);

/// Lines of at most `columns`, broken at spaces; a word longer than a line is broken inside.
[[nodiscard]] std::vector<std::string> wrap(std::string_view clean, std::size_t columns);

/// Cleaned, and with & < > " ' escaped: fit for HTML text and for a quoted attribute.
[[nodiscard]] std::string html(std::string_view bytes);

/// Three significant digits, thousands grouped: 0.00980, 1.23, 12.3, 123, 12,300. "-" when not finite.
[[nodiscard]] std::string number(double value);

/// A whole number below 10^15 exactly and grouped (262,144), anything else as `number` gives it.
[[nodiscard]] std::string quantity(double value);

/// 262144 as 262,144.
[[nodiscard]] std::string grouped(std::uint64_t value);

}  // namespace cairn::report::text
