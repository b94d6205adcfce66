// SPDX-License-Identifier: MIT
// The page of a run: bars in SVG, in one file that needs no network and no script.
#pragma once

#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "histogram.hpp"
#include "load.hpp"

namespace gateway {

[[nodiscard]] inline std::string rounded(double value, int decimals = 0) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", decimals, value);
    return text;
}
/// 12345.6: "12,346". Precondition: not negative.
[[nodiscard]] inline std::string grouped(double value) {
    std::string digits = rounded(value);
    for (std::size_t i = digits.size(); i > 3;) digits.insert(i -= 3, 1, ',');
    return digits;
}
/// Text, where HTML expects some.
[[nodiscard]] inline std::string escaped(std::string_view text) {
    std::string made;
    for (char const c : text)
        c == '<' ? made += "&lt;" : c == '&' ? made += "&amp;" : c == '"' ? made += "&quot;" : made += c;
    return made;
}
/// 1, 2 or 5, and zeros: not less than `least`, which is positive.
[[nodiscard]] inline double round_step(double least) {
    double const ten = std::pow(10, std::floor(std::log10(least)));
    for (double const of : {1.0, 2.0, 5.0})
        if (of * ten >= least) return of * ten;
    return 10 * ten;
}
/// What a number of this page was measured on.
[[nodiscard]] inline std::string machine() {
    std::string model = "unknown processor";
    std::ifstream cpus("/proc/cpuinfo");
    for (std::string line; std::getline(cpus, line);)
        if (line.starts_with("model name")) {
            model = line.substr(line.find(':') + 2);
            break;
        }
    utsname system{};
    (void)::uname(&system);
    return model + ", " + std::to_string(std::thread::hardware_concurrency()) +
           " cores for service and clients together; " + system.sysname + " " + system.release +
#ifdef __clang__
           "; clang " __clang_version__;
#else
           "; g++ " __VERSION__;
#endif
}

struct bar {
    std::string label;
    double value;
};
/// A line across the bars. @param at  in bars from the left
struct mark {
    std::string label;
    double at;
};
struct chart {
    std::string title, across, up;  ///< what the axes count
    std::vector<bar> bars;
    double label_at = 0;  ///< where in its bar: 0 at its left edge, 1 at its right one
    std::vector<mark> marks{};
};

class report_page {
  public:
    explicit report_page(std::string_view name) {
        std::string const title = escaped(name);
        text_ = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>)";
        text_ += title;
        text_ += R"(</title>
<style>
:root{--ink:#222;--faint:#666;--line:#ddd;--page:#fff;--bar:#4a78b5;--mark:#b5452a}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--faint:#aaa;--line:#3a3a3a;--page:#181818;--bar:#7aa7e0;--mark:#f0906f}}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:var(--ink);background:var(--page)}
svg{width:100%;height:auto}rect{fill:var(--bar)}line{stroke:var(--line)}line.mark{stroke:var(--mark);stroke-dasharray:4 3}
text{font-size:12px;fill:var(--faint)}text.mark{fill:var(--mark)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid var(--line)}td:first-child,th:first-child{text-align:left;padding-left:0}
</style></head>
<body><h1>)";
        text_ += title;
        text_ += "</h1>\n";
    }
    void paragraph(std::string_view words) { ((text_ += "<p>") += escaped(words)) += "</p>\n"; }
    void table(std::vector<std::vector<std::string>> const& rows) {
        text_ += "<table>\n";
        for (std::size_t i = 0; i < rows.size(); ++i) {
            text_ += "<tr>";
            for (std::string const& cell : rows[i])
                ((text_ += i == 0 ? "<th>" : "<td>") += escaped(cell)) += i == 0 ? "</th>" : "</td>";
            text_ += "</tr>\n";
        }
        text_ += "</table>\n";
    }
    void add(chart const& what) {
        constexpr double width = 900, left = 64, right = 24, top = 36, height = 220, bottom = 48;
        constexpr double base = top + height;
        double most = 1;
        for (bar const& one : what.bars) most = std::max(most, one.value);
        double const step = std::max(round_step(most / 5), 1.0), ceiling = step * std::ceil(most / step);
        std::string const title = escaped(what.title);
        text_ += "<h2>" + title + "</h2>\n<svg viewBox=\"0 0 " + rounded(width) + ' ' +
                 rounded(base + bottom) + "\" role=\"img\" aria-label=\"" + title + "\">\n";
        for (double value = 0; value <= ceiling; value += step) {
            double const y = base - height * value / ceiling;
            line("", left, y, width - right, y);
            write("", "end", left - 6, y + 4, grouped(value));
        }
        write("", "start", 0, 14, what.up);
        write("", "middle", (left + width - right) / 2, base + 42, what.across);
        double const each =
            (width - left - right) / static_cast<double>(std::max<std::size_t>(what.bars.size(), 1));
        auto const every = static_cast<std::size_t>(
            std::max(round_step(std::max(static_cast<double>(what.bars.size()), 1.0) / 14), 1.0));
        for (std::size_t i = 0; i < what.bars.size(); ++i) {
            auto const& [label, value] = what.bars[i];
            double const tall = height * value / ceiling, x = left + each * static_cast<double>(i);
            text_ += "<rect x=\"" + rounded(x, 1) + "\" y=\"" + rounded(base - tall, 1) + "\" width=\"" +
                     rounded(std::max(each - 1, 0.5), 1) + "\" height=\"" + rounded(tall, 1) + "\"><title>" +
                     escaped(label) + ": " + grouped(value) + "</title></rect>\n";
            if (i % every == 0) write("", "middle", x + each * what.label_at, base + 18, label);
        }
        for (mark const& one : what.marks) {
            double const x = left + each * one.at;
            line(" class=\"mark\"", x, top - 8, x, base);
            bool const is_right = x > width / 2;
            write(" class=\"mark\"", is_right ? "end" : "start", is_right ? x - 4 : x + 4, top, one.label);
        }
        text_ += "</svg>\n";
    }
    [[nodiscard]] std::string text() && { return std::move(text_) + "</body></html>\n"; }

  private:
    void line(char const* kind, double x1, double y1, double x2, double y2) {
        text_ += std::string("<line") + kind + " x1=\"" + rounded(x1, 1) + "\" y1=\"" + rounded(y1, 1) +
                 "\" x2=\"" + rounded(x2, 1) + "\" y2=\"" + rounded(y2, 1) + "\"/>\n";
    }
    void write(char const* kind, char const* anchor, double x, double y, std::string_view what) {
        text_ += std::string("<text") + kind + " x=\"" + rounded(x, 1) + "\" y=\"" + rounded(y, 1) +
                 "\" text-anchor=\"" + anchor + "\">" + escaped(what) + "</text>\n";
    }

    std::string text_;
};

/// How many payments a second became durable, over time.
[[nodiscard]] inline chart throughput(load const& of) {
    chart made{"Throughput", "seconds since the start", "durable payments/s", {}};
    double const slots = 1e3 / static_cast<double>(load::slot.count());
    for (std::size_t i = 0; i < of.timeline().size(); ++i)
        made.bars.push_back(
            {rounded(static_cast<double>(i) / slots, 2), static_cast<double>(of.timeline()[i]) * slots});
    return made;
}

/// From the first bucket that is not empty to the last one; an edge of each is its bound, so the axis is
/// logarithmic, as the bounds are.
[[nodiscard]] inline chart latency(load const& of) {
    chart made{"Latency",
               "milliseconds from request to answer (each bar 5 % wider than the one before)",
               "payments",
               {},
               1};
    auto const bounds = of.latencies().bounds();
    auto const counts = of.latencies().counts();
    std::size_t first = 0, end = counts.size();
    while (first != end && counts[first] == 0) ++first;
    while (first != end && counts[end - 1] == 0) --end;
    for (std::size_t i = first; i != end; ++i) {
        double const ms = i < bounds.size() ? bounds[i] * 1e3 : 0;
        made.bars.push_back({i < bounds.size() ? rounded(ms, ms < 1    ? 2
                                                             : ms < 10 ? 1
                                                                       : 0)
                                               : "more",
                             static_cast<double>(counts[i])});
    }
    for (auto const& [name, share] : {std::pair("half", 0.5), std::pair("99 %", 0.99)}) {
        double const at = of.latencies().quantile(share);
        auto const bucket = std::lower_bound(bounds.begin(), bounds.end(), at) - bounds.begin();
        if (end != 0)
            made.marks.push_back({std::string(name) + " within " + rounded(at * 1e3, 1) + " ms",
                                  static_cast<double>(bucket - static_cast<std::ptrdiff_t>(first) + 1)});
    }
    return made;
}

/// What the batches held. @param bounds, counts  as /stats has them
[[nodiscard]] inline chart batches(std::vector<double> const& bounds,
                                   std::vector<std::uint64_t> const& counts) {
    chart made{"Batches", "payments in one transaction", "transactions", {}, 0.5};
    std::size_t end = counts.size();
    while (end != 0 && counts[end - 1] == 0) --end;
    for (std::size_t i = 0; i != end; ++i) {
        double const least = i == 0 ? 1 : bounds[i - 1] + 1;
        std::string label = rounded(least);
        if (i == bounds.size())
            label = "from " + label;
        else if (bounds[i] != least)
            label += " to " + rounded(bounds[i]);
        made.bars.push_back({label, static_cast<double>(counts[i])});
    }
    return made;
}

/// The three charts of a run.
inline void add_load(report_page& page, load const& of, std::vector<double> const& batch_bounds,
                     std::vector<std::uint64_t> const& batch_counts) {
    page.add(throughput(of));
    page.add(latency(of));
    page.add(batches(batch_bounds, batch_counts));
}

}  // namespace gateway
