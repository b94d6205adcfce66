// SPDX-License-Identifier: MIT
// Latencies as a picture (SVG), drawn so that the rare ones are seen.
//
// From left to right the share of the messages: each step is ten times rarer. Upwards the time: each step is
// ten times longer. Of a program that is never held up the line is flat; each thing that holds it up now and
// then is a step, as far to the right as it is rare. Follows the dark mode of whoever shows it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <span>
#include <string>

#include "latency.hpp"

namespace trading {

/// A line in the picture.
struct curve {
    std::string name;
    histogram const* times = nullptr;
};

/// How the two histograms of a run are called wherever they are shown.
[[nodiscard]] inline std::array<curve, 2> curves(latencies const& times) {
    return {curve{"all messages", &times.all}, curve{"while both threads ran", &times.undisturbed}};
}

/// 1,000,000.
[[nodiscard]] inline std::string grouped(std::uint64_t n) {
    std::string digits = std::to_string(n);
    for (std::size_t i = digits.size(); i > 3;) digits.insert(i -= 3, 1, ',');
    return digits;
}

/// Draws up to two curves. Those without a time are left out. The titles must be plain text.
inline void draw(std::ostream& to, std::string const& title, std::string const& subtitle,
                 std::span<curve const> curves) {
    constexpr double left = 84, top = 72, width = 640, height = 300, bottom = top + height;
    constexpr std::array shares{"0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"};
    constexpr double decades_right = shares.size() - 1;

    auto const log = [](std::uint64_t nanoseconds) {
        return std::log10(static_cast<double>(std::max<std::uint64_t>(nanoseconds, 1)));
    };
    int lowest = 2, highest = 4;  // powers of ten, in nanoseconds
    for (curve const& one : curves) {
        if (one.times->size() == 0) continue;
        lowest = std::min(lowest, static_cast<int>(std::floor(log(one.times->at(0)))));
        highest = std::max(highest, static_cast<int>(std::ceil(log(one.times->max()))));
    }
    double const decades_up = highest - lowest;
    auto const x = [&](double rarity) { return left + width * rarity / decades_right; };
    auto const y = [&](std::uint64_t nanoseconds) {
        return bottom - height * (log(nanoseconds) - lowest) / decades_up;
    };
    auto const text = [&](double at_x, double at_y, char const* anchor, std::string const& what,
                          char const* kind = "") {
        to << "<text x=\"" << at_x << "\" y=\"" << at_y << "\" text-anchor=\"" << anchor << "\" class=\""
           << kind << "\">" << what << "</text>\n";
    };

    to << R"svg(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 440" font-family="system-ui, sans-serif" font-size="12">
<style>
.paper { fill: #fff; } text { fill: #1c1917; } .grid { stroke: #e7e5e4; } .title { font-size: 16px; font-weight: 600; }
.line { fill: none; stroke-width: 2; } .s0 { stroke: #c2410c; } .s1 { stroke: #0b6e99; } .f0 { fill: #c2410c; } .f1 { fill: #0b6e99; }
@media (prefers-color-scheme: dark) {
.paper { fill: #1c1917; } text { fill: #e7e5e4; } .grid { stroke: #44403c; }
.s0 { stroke: #fb923c; } .s1 { stroke: #38bdf8; } .f0 { fill: #fb923c; } .f1 { fill: #38bdf8; } }
</style>
<rect width="780" height="440" class="paper"/>
)svg";
    text(left, 28, "start", title, "title");
    text(left, 48, "start", subtitle);
    for (std::size_t i = 0; i < shares.size(); ++i) {
        double const at = x(static_cast<double>(i));
        to << "<path class=\"grid\" d=\"M" << at << ' ' << top << 'V' << bottom << "\"/>";
        text(at, bottom + 18, "middle", shares[i]);
    }
    text(x(std::log10(2)), bottom + 18, "middle", "50 %");
    std::uint64_t time = 1;
    for (int power = 0; power <= highest; ++power, time *= 10) {
        if (power < lowest) continue;
        to << "<path class=\"grid\" d=\"M" << left << ' ' << y(time) << 'H' << left + width << "\"/>";
        constexpr std::array units{" ns", " µs", " ms", " s"};
        constexpr std::array digits{"1", "10", "100"};
        auto const p = static_cast<std::size_t>(power);
        text(left - 8, y(time) + 4, "end", p < 12 ? std::string(digits[p % 3]) + units[p / 3] : "1000 s");
    }
    text(left + width / 2, bottom + 44, "middle", "this share of the messages took no longer");
    to << "<g transform=\"rotate(-90)\">";
    text(-(top + height / 2), 18, "middle", "time from due to booked");
    to << "</g>\n";

    for (std::size_t c = 0; c < curves.size(); ++c) {
        histogram const& times = *curves[c].times;
        if (times.size() == 0) continue;
        std::string const number = std::to_string(c % 2);
        // There is no rarer one than one of all.
        double const end = std::min(std::log10(static_cast<double>(times.size())), decades_right);
        auto const at = [&](double rarity) { return times.at(1 - std::pow(10.0, -rarity)); };
        to << "<polyline class=\"line s" << number << "\" points=\"";
        for (double rarity = 0; rarity < end; rarity += 0.02) to << x(rarity) << ',' << y(at(rarity)) << ' ';
        to << x(end) << ',' << y(at(end)) << "\"/>\n";
        double const above = c == 0 ? -8 : 18;  // the labels of one line above it, of the other below
        for (double const share : percentiles) {
            double const rarity = -std::log10(1 - std::min(share, 0.999'999'999));
            if (rarity > end) continue;
            to << "<circle r=\"3\" class=\"f" << number << "\" cx=\"" << x(rarity) << "\" cy=\""
               << y(at(rarity)) << "\"/>";
            text(x(rarity), y(at(rarity)) + above, "middle", in_words(at(rarity), "µ"),
                 ("f" + number).c_str());
        }
        text(left + width, 28 + 20 * static_cast<double>(c), "end",
             curves[c].name + ", at most " + in_words(times.max(), "µ") + " &#9632;", ("f" + number).c_str());
    }
    to << "</svg>\n";
}

}  // namespace trading
