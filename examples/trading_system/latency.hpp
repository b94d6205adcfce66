// SPDX-License-Identifier: MIT
// How long it took, a million times over: a histogram that adds in a few instructions, and whose fault it
// was.
//
// A mean hides what matters, and a sorted list of all times is as large as the day. So times are counted in
// buckets, 32 to each doubling: no value is off by more than 1/32, from a nanosecond to an hour, in 10 KiB.
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
#include <span>
#include <sstream>
#include <string>
#include <string_view>
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
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] std::uint64_t max() const noexcept { return max_; }
    /// The time that this share of all did not exceed, rounded up to the end of its bucket. 0 if empty.
    [[nodiscard]] std::uint64_t at(double share) const noexcept {
        auto const rank = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(size_)));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i + 1 < counts_.size(); ++i)
            if ((seen += counts_[i]) >= rank && seen != 0) return std::min(last_of(i), max_);
        return max_;  // the last bucket has no end
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

/// 850 ns, 12.3 us, 4.52 ms, 3.00 s: three digits. `micro` is what the millionth is written with.
[[nodiscard]] inline std::string in_words(std::uint64_t nanoseconds, std::string_view micro = "u") {
    if (nanoseconds < 1'000) return std::to_string(nanoseconds) + " ns";
    double value = static_cast<double>(nanoseconds) / 1e3;
    std::size_t unit = 0;
    for (; unit < 2 && value >= 999.5; ++unit) value /= 1e3;
    std::ostringstream text;
    text << std::fixed
         << std::setprecision(value < 9.995   ? 2
                              : value < 99.95 ? 1
                                              : 0)
         << value << ' ' << std::array{micro, std::string_view("m"), std::string_view()}[unit] << 's';
    return text.str();
}

}  // namespace trading
