// SPDX-License-Identifier: MIT
// The page of a run: bars in SVG, in one file that needs no network and no script.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "histogram.hpp"
#include "load.hpp"

namespace gateway {

struct bar {
    std::string label;
    double value;
};

[[nodiscard]] inline std::string rounded(double value, int decimals = 0) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", decimals, value);
    return text;
}

/// Text, where HTML expects some.
[[nodiscard]] inline std::string escaped(std::string_view text) {
    std::string made;
    for (char const c : text) c == '<' ? made += "&lt;" : c == '&' ? made += "&amp;" : made += c;
    return made;
}

class report_page {
  public:
    explicit report_page(std::string_view name) {
        std::string const title = escaped(name);
        text_ = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>";
        text_ += title;
        text_ +=
            "</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem "
            "auto;padding:0 1rem;"
            "color:#222;background:#fff}svg{width:100%;height:auto}rect{fill:#4a78b5}text{font-size:12px;"
            "fill:#444}"
            "table{border-collapse:collapse}td,th{padding:.2rem 1rem;text-align:right;border-bottom:1px "
            "solid #ddd}"
            "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}text{fill:#aaa}"
            "rect{fill:#7aa7e0}td,th{border-color:#444}}</style></head>\n<body><h1>";
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
    /// One bar each; a label below where there is room for it.
    void bars(std::string_view title, std::string_view unit, std::vector<bar> const& all) {
        constexpr double width = 900, height = 220, left = 70, bottom = 30, top = 10;
        double most = 1;
        for (bar const& one : all) most = std::max(most, one.value);
        (((text_ += "<h2>") += title) += "</h2>\n<svg viewBox=\"0 0 ") +=
            rounded(width) + ' ' + rounded(height + top + bottom);
        ((text_ += "\" role=\"img\" aria-label=\"") += title) += "\">\n";
        for (int i = 0; i <= 4; ++i) {
            double const y = top + height * (1 - i / 4.0);
            text_ += "<text x=\"" + rounded(left - 6) + "\" y=\"" + rounded(y + 4) +
                     "\" text-anchor=\"end\">" + rounded(most * i / 4) + "</text>\n";
        }
        double const each = (width - left) / static_cast<double>(std::max<std::size_t>(all.size(), 1));
        std::size_t const every = 1 + all.size() / 14;
        for (std::size_t i = 0; i < all.size(); ++i) {
            double const tall = height * all[i].value / most, x = left + each * static_cast<double>(i);
            text_ += "<rect x=\"" + rounded(x, 1) + "\" y=\"" + rounded(top + height - tall, 1) +
                     "\" width=\"" + rounded(std::max(each - 1, 0.5), 1) + "\" height=\"" + rounded(tall, 1) +
                     "\"><title>" + all[i].label + ": " + rounded(all[i].value) + "</title></rect>\n";
            if (i % every == 0)
                text_ += "<text x=\"" + rounded(x, 1) + "\" y=\"" + rounded(top + height + 18) + "\">" +
                         all[i].label + "</text>\n";
        }
        text_ += "</svg>\n<p>";
        (text_ += unit) += "</p>\n";
    }
    [[nodiscard]] std::string text() && { return std::move(text_) + "</body></html>\n"; }

  private:
    std::string text_;
};

/// A histogram's bars from the first bucket that is not empty to the last one.
[[nodiscard]] inline std::vector<bar> bars_of(std::vector<double> const& bounds,
                                              std::vector<std::uint64_t> const& counts, double scale,
                                              int decimals) {
    std::vector<bar> all;
    for (std::size_t i = 0; i < counts.size(); ++i)
        all.push_back({i < bounds.size() ? rounded(bounds[i] * scale, decimals) : "more",
                       static_cast<double>(counts[i])});
    auto const empty = [](bar const& one) { return one.value == 0; };
    while (!all.empty() && empty(all.back())) all.pop_back();
    all.erase(all.begin(), std::find_if_not(all.begin(), all.end(), empty));
    return all;
}

/// Throughput over time, latencies, and what the batches held.
inline void add_load(report_page& page, load const& of, std::vector<double> const& batch_bounds,
                     std::vector<std::uint64_t> const& batch_counts) {
    std::vector<bar> time;
    double const slots = 1e3 / static_cast<double>(load::slot.count());
    for (std::size_t i = 0; i < of.timeline().size(); ++i)
        time.push_back(
            {rounded(static_cast<double>(i) / slots, 2), static_cast<double>(of.timeline()[i]) * slots});
    page.bars("Throughput", "durable payments per second, over seconds", time);
    auto const& l = of.latencies();
    page.bars(
        "Latency", "payments by milliseconds from request to answer",
        bars_of({l.bounds().begin(), l.bounds().end()}, {l.counts().begin(), l.counts().end()}, 1e3, 2));
    page.bars("Batches", "transactions by the payments in them (up to)",
              bars_of(batch_bounds, batch_counts, 1, 0));
}

}  // namespace gateway
