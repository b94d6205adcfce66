// SPDX-License-Identifier: MIT
// How long it took, a million times over: a histogram that adds in a few instructions, and its picture.
//
// A mean hides what matters, and a sorted list of all times is as large as the day. So times are counted in
// buckets, 32 to each doubling: no value is off by more than 3 %, from a nanosecond to an hour, in 10 KiB.
//
// What is added must be the time since the message was DUE, not since it was taken up. A program that stands
// still for 1 ms at 1,000,000 messages/s takes up the next one late and handles it at once: by its own clock
// one message waited, in truth a thousand did ("coordinated omission": Tene, 2013).
// Source: HdrHistogram (Tene). Thread safety: none; one thread at a time.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <vector>

namespace trading {

/// steady_clock's nanoseconds.
[[nodiscard]] inline std::int64_t now() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

class histogram {
  public:
    /// Counts a time, in nanoseconds; one below zero as zero. O(1).
    void add(std::int64_t nanoseconds) noexcept {
        auto const value = static_cast<std::uint64_t>(std::max<std::int64_t>(nanoseconds, 0));
        ++counts_[bucket(value)];
        ++size_;
        max_ = std::max(max_, value);
    }
    void merge(histogram const& other) noexcept {
        for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
        size_ += other.size_;
        max_ = std::max(max_, other.max_);
    }
    void clear() noexcept { *this = {}; }

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] std::uint64_t max() const noexcept { return max_; }
    /// The time that this share of all did not exceed, rounded up to the end of its bucket. 0 if empty.
    [[nodiscard]] std::uint64_t at(double share) const noexcept {
        auto const rank = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(size_)));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i)
            if ((seen += counts_[i]) >= rank && seen != 0) return std::min(last_of(i), max_);
        return max_;
    }

    /// The bucket of a value: exact below 32, then 32 to each doubling.
    [[nodiscard]] static constexpr std::size_t bucket(std::uint64_t value) noexcept {
        int const shift = std::max(0, static_cast<int>(std::bit_width(value)) - 6);
        std::size_t const i = static_cast<std::size_t>(shift) * 32 + static_cast<std::size_t>(value >> shift);
        return std::min(i, buckets - 1);
    }
    /// The largest value of a bucket.
    [[nodiscard]] static constexpr std::uint64_t last_of(std::size_t i) noexcept {
        if (i < 64) return i;
        std::size_t const shift = i / 32 - 1;
        return ((i % 32 + 33) << shift) - 1;
    }

  private:
    static constexpr std::size_t buckets = 38 * 32;  // to 2^42 ns, more than an hour
    std::array<std::uint64_t, buckets> counts_{};
    std::uint64_t size_ = 0;
    std::uint64_t max_ = 0;
};

inline constexpr std::array percentiles{0.5, 0.9, 0.99, 0.999, 1.0};

/// From a moment to another.
struct span_of_time {
    std::int64_t begin = 0, end = 0;
};

/// When a thread that does nothing but look at the clock was not running: its core was taken by the system,
/// the hypervisor or another program. Two looks with an empty loop in between that are further apart than
/// `noticeable` can mean nothing else. What happens while the thread works is not seen, and so counts as the
/// thread's own time.
class core_watch {
  public:
    static constexpr std::int64_t noticeable = 5'000;  // ns

    /// Begins anew: the time until the next look is work.
    void work_until(std::int64_t time) noexcept { last_ = time; }
    /// Nothing was done since the last call of either.
    void look(std::int64_t time) {
        if (time - last_ > noticeable) taken_.push_back({last_, time});
        last_ = time;
    }
    /// In order.
    [[nodiscard]] std::span<span_of_time const> taken() const noexcept { return taken_; }
    void clear(std::size_t room) {
        taken_.clear();
        taken_.reserve(room);
    }

  private:
    std::int64_t last_ = 0;
    std::vector<span_of_time> taken_;
};

/// The latencies of a run.
struct latencies {
    histogram all;
    histogram undisturbed;  ///< of the messages that met no taken core, nor waited behind one that did
};

/// @param samples  of one worker, in order: from when a message was due to when it was in its book.
/// @param feed, worker  when the cores of these threads were taken.
inline void sort_out(std::span<span_of_time const> samples, std::span<span_of_time const> feed,
                     std::span<span_of_time const> worker, latencies& into) {
    std::int64_t busy_until = 0;  // with messages that met a taken core, and those behind them
    auto const met = [](std::span<span_of_time const>& taken, span_of_time const& one) {
        while (!taken.empty() && taken.front().end < one.begin) taken = taken.subspan(1);
        return !taken.empty() && taken.front().begin < one.end;
    };
    for (span_of_time const& one : samples) {
        into.all.add(one.end - one.begin);
        bool const by_feed = met(feed, one), by_worker = met(worker, one);
        if (by_feed || by_worker || one.begin < busy_until)
            busy_until = one.end;
        else
            into.undisturbed.add(one.end - one.begin);
    }
}

/// A line in the picture.
struct curve {
    std::string name;
    histogram const* times = nullptr;
};

/// 850 ns, 12.3 us, 4.5 ms.
[[nodiscard]] inline std::string in_words(std::uint64_t nanoseconds) {
    std::ostringstream text;
    auto const value = static_cast<double>(nanoseconds);
    if (nanoseconds < 1'000)
        text << nanoseconds << " ns";
    else
        text << std::setprecision(3) << (nanoseconds < 1'000'000 ? value / 1e3 : value / 1e6)
             << (nanoseconds < 1'000'000 ? " us" : " ms");
    return text.str();
}

/// An SVG: from left to right the share of messages, each step ten times rarer; upwards the time, each step
/// ten times longer.
inline void draw(std::ostream& to, std::string const& title, std::span<curve const> curves) {
    constexpr double left = 70, top = 50, width = 640, height = 300;
    constexpr double decades_right = 5, first_decade = 2, decades_up = 6;  // to 99.999 %; 100 ns to 100 ms
    constexpr std::array colours{"#0b6e99", "#c2410c", "#4d7c0f", "#6b21a8"};
    auto const x = [&](double rarity) {
        return left + width * std::min(rarity, decades_right) / decades_right;
    };
    auto const y = [&](double nanoseconds) {
        double const up = (std::log10(std::max(nanoseconds, 100.0)) - first_decade) / decades_up;
        return top + height * (1 - std::min(up, 1.0));
    };
    to << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 740 420\" font-family=\"sans-serif\" "
          "font-size=\"12\">\n<rect width=\"740\" height=\"420\" fill=\"#fff\"/>\n"
       << "<text x=\"" << left << "\" y=\"28\" font-size=\"15\">" << title << "</text>\n";
    constexpr std::array shares{"0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"};
    for (std::size_t i = 0; i < shares.size(); ++i) {
        double const at = x(static_cast<double>(i));
        to << "<path d=\"M" << at << ' ' << top << 'V' << top + height << "\" stroke=\"#ddd\"/><text x=\""
           << at << "\" y=\"" << top + height + 18 << "\" text-anchor=\"middle\">" << shares[i]
           << "</text>\n";
    }
    constexpr std::array times{"100 ns", "1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms"};
    for (std::size_t i = 0; i < times.size(); ++i) {
        double const at = top + height - height * static_cast<double>(i) / decades_up;
        to << "<path d=\"M" << left << ' ' << at << 'H' << left + width << "\" stroke=\"#ddd\"/><text x=\""
           << left - 8 << "\" y=\"" << at + 4 << "\" text-anchor=\"end\">" << times[i] << "</text>\n";
    }
    for (std::size_t c = 0; c < curves.size(); ++c) {
        char const* const colour = colours[c % colours.size()];
        to << "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" << colour << "\" points=\"";
        for (double rarity = 0; rarity <= decades_right; rarity += 0.05)
            to << x(rarity) << ',' << y(static_cast<double>(curves[c].times->at(1 - std::pow(10.0, -rarity))))
               << ' ';
        to << "\"/><text x=\"" << left + 12 << "\" y=\"" << top + 18 + 16 * static_cast<double>(c)
           << "\" fill=\"" << colour << "\">" << curves[c].name << "</text>\n";
    }
    to << "<text x=\"" << left + width / 2 << "\" y=\"" << top + height + 42
       << "\" text-anchor=\"middle\">share of the messages that took no longer</text>\n</svg>\n";
}

}  // namespace trading
