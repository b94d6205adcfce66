// SPDX-License-Identifier: MIT
// How long the calls of a batcher's sink took: a histogram that one thread fills while others read it.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "batch_lanes.hpp"

namespace cairn::detail {

/// How long things took, in steps of an eighth of a power of two. One thread adds, others read.
class batch_times {
  public:
    void add(std::chrono::nanoseconds time) noexcept {
        auto const ns = static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 0));
        counts_[slot(ns)].add(1);
    }
    [[nodiscard]] std::chrono::nanoseconds quantile(double share) const noexcept {
        std::uint64_t all = 0;
        for (tally const& count : counts_) all += count.get();
        if (all == 0) return {};
        auto const wanted = static_cast<std::uint64_t>(share * static_cast<double>(all - 1)) + 1;
        std::uint64_t below = 0;
        for (std::size_t i = 0; i != counts_.size(); ++i)
            if ((below += counts_[i].get()) >= wanted)
                return std::chrono::nanoseconds(static_cast<std::int64_t>(upper(i)));
        return {};
    }

  private:
    static constexpr std::size_t slot(std::uint64_t ns) noexcept {
        if (ns < 8) return ns;
        auto const power = static_cast<std::size_t>(std::bit_width(ns)) - 4;  // ns >> power is 8 to 15
        return 8 * power + (ns >> power);
    }
    static constexpr std::uint64_t upper(std::size_t slot) noexcept {
        if (slot < 16) return slot;
        std::size_t const power = slot / 8 - 1;
        return ((slot % 8 + 9) << power) - 1;
    }
    std::array<tally, 8 * 62> counts_{};
};

}  // namespace cairn::detail
