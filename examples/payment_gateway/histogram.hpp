// SPDX-License-Identifier: MIT
// How often a value fell between two bounds: for latencies, and for the sizes of batches.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace gateway {

class histogram {
  public:
    /// @param bounds  ascending; a value belongs to the first that is not less. Behind the last is one more.
    explicit histogram(std::vector<double> bounds)
        : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
    /// Bounds that grow by a factor: an equal relative error everywhere.
    [[nodiscard]] static histogram growing(double first, double factor, std::size_t bounds) {
        std::vector<double> all(bounds, first);
        for (std::size_t i = 1; i < bounds; ++i) all[i] = all[i - 1] * factor;
        return histogram(std::move(all));
    }

    void add(double value) {
        ++counts_[static_cast<std::size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) -
                                           bounds_.begin())];
        ++count_;
        sum_ += value;
        most_ = std::max(most_, value);
    }
    /// The bound below which this share of the values lies; exact to the width of a bucket.
    [[nodiscard]] double quantile(double share) const {
        auto const wanted = static_cast<double>(count_) * share;
        double seen = 0;
        for (std::size_t i = 0; i < bounds_.size(); ++i)
            if ((seen += static_cast<double>(counts_[i])) >= wanted) return std::min(bounds_[i], most_);
        return most_;
    }
    [[nodiscard]] std::span<double const> bounds() const noexcept { return bounds_; }
    [[nodiscard]] std::span<std::uint64_t const> counts() const noexcept { return counts_; }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    [[nodiscard]] double sum() const noexcept { return sum_; }
    [[nodiscard]] double most() const noexcept { return most_; }
    [[nodiscard]] double mean() const noexcept {
        return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
    }

  private:
    std::vector<double> bounds_;
    std::vector<std::uint64_t> counts_;
    std::uint64_t count_ = 0;
    double sum_ = 0, most_ = 0;
};

}  // namespace gateway
