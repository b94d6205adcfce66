// SPDX-License-Identifier: MIT
// Three ways from an order's number to the order, and the calls of a real day to race them on.
//
// Each index gets the same calls in the same sequence, and must find the same orders; else its time means
// nothing. The orders themselves come from a pool, as in the books, so that their cache misses count too.
#pragma once

#include <cairn/object_pool.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "itch.hpp"
#include "latency.hpp"
#include "order_book.hpp"
#include "order_index.hpp"

namespace trading {

struct call {
    enum { find, insert, erase } what;
    std::uint64_t id;
};

/// What the books ask their index for. All stocks count as one here, so that a number means one order, as it
/// does in a feed that is whole.
[[nodiscard]] inline std::vector<call> calls_of(std::span<std::byte const> feed) {
    std::vector<call> calls;
    order_books books;
    itch::feed_reader reader(feed);
    while (reader.next([&](auto const& m) {
        if constexpr (requires { translate(m); }) {
            book_message b = translate(m);
            b.locate = 0;
            if (books.apply(b) != outcome::applied || b.what == action::trade) return;
            bool const gone = books.find_order(b.order, b.locate) == nullptr;
            calls.push_back({call::find, b.order});
            if (b.what == action::add) calls.push_back({call::insert, b.order});
            if (gone) calls.push_back({call::erase, b.order});
            if (b.what == action::replace && b.new_order != b.order)
                calls.push_back({call::insert, b.new_order});
        }
    })) {
    }
    return calls;
}
[[nodiscard]] inline std::uint64_t largest_number(std::span<call const> calls) noexcept {
    std::uint64_t largest = 0;
    for (call const& one : calls) largest = std::max(largest, one.id);
    return largest;
}

class map_index {
  public:
    static constexpr auto what = "std::unordered_map";
    [[nodiscard]] order* find(std::uint64_t id) const {
        auto const found = orders_.find(id);
        return found == orders_.end() ? nullptr : found->second;
    }
    void insert(order* one) { orders_.emplace(one->id, one); }
    void erase(order* one) { orders_.erase(one->id); }

  private:
    std::unordered_map<std::uint64_t, order*> orders_;
};
/// For numbers up to `most`: twice that, 8 bytes each, is half a gigabyte.
class array_index {
  public:
    static constexpr auto what = "an array by number";
    static constexpr std::uint64_t most = 30'000'000;
    [[nodiscard]] order* find(std::uint64_t id) const { return id < orders_.size() ? orders_[id] : nullptr; }
    void insert(order* one) {
        if (one->id >= orders_.size()) orders_.resize(2 * one->id + 1'024);
        orders_[one->id] = one;
    }
    void erase(order* one) { orders_[one->id] = nullptr; }

  private:
    std::vector<order*> orders_;
};
class flat_index {
  public:
    static constexpr auto what = "order_index";
    [[nodiscard]] order* find(std::uint64_t id) const { return orders_.find(id, 0); }
    void insert(order* one) {
        orders_.make_room();
        orders_.insert(one);
    }
    void erase(order* one) { orders_.erase(one); }

  private:
    order_index<order> orders_;
};

struct index_result {
    char const* what;
    double nanoseconds;   // a call
    std::uint64_t found;  // the sum of what was found
};
template <class Index>
index_result ask(std::vector<call> const& calls) {
    cairn::object_pool<order> pool;
    Index index;
    std::uint64_t sum = 0;
    std::int64_t const begin = now();
    for (call const& one : calls) {
        if (one.what == call::insert) {
            index.insert(pool.construct(one.id));
            continue;
        }
        order* const found = index.find(one.id);
        sum = sum * 31 + (found == nullptr ? 0 : found->id);
        if (one.what == call::erase && found != nullptr) {
            index.erase(found);
            pool.destroy(found);
        }
    }
    double const took =
        static_cast<double>(now() - begin) / static_cast<double>(std::max<std::size_t>(calls.size(), 1));
    for (call const& one : calls)
        if (order* const left = index.find(one.id)) {
            index.erase(left);
            pool.destroy(left);
        }
    return {Index::what, took, sum};
}
template <class Index>
index_result best_of_three(std::vector<call> const& calls) {
    index_result best = ask<Index>(calls);
    for (int i = 0; i < 2; ++i) best.nanoseconds = std::min(best.nanoseconds, ask<Index>(calls).nanoseconds);
    return best;
}

}  // namespace trading
