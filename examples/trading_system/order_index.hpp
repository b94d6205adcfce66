// SPDX-License-Identifier: MIT
// From an order's number to the order: the table that nearly every message asks.
//
// A message says "order 4,711 was cancelled", not where that order is. The index finds it, and as the other
// work on a message is a few nanoseconds, the index and its cache misses are most of what a book costs.
//
// A hash table of pairs in one array, open addressing: no node to follow, mostly one line of the cache.
//
//     number ─▶ hash ─▶ ┌ 4710 ┬      ┬ 4711 ┬ 9 ┬      ┐   16 bytes each. If the place is taken, the next
//                       └──────┴──────┴──▲───┴───┴──────┘   one that is free.
//
//   operation   costs                                                memory
//   ---------   --------------------------------------------------   ----------------------------------
//   find        O(1)                                                 32 to 64 bytes an order
//   insert      O(1); make_room() doubles it when it is half full    none while there is room
//   erase       O(1): moves those behind it up, leaves no tombstone  none
//
// The chapter measures it against std::unordered_map, which is slower, and against an array by order number,
// which is faster: numbers are given out in sequence, so there is nothing to search. But the array never
// forgets: 8 bytes for each order of the day, and a feed with one number of 2^60 in it is the end.
// Not faster was a hash that keeps neighbouring numbers in one line: they crowd each other out.
//
// When not to use it: for numbers that an enemy may choose. Who picks them to share a home makes each search
// O(n), and the hash has no secret. An exchange counts.
//
// An order is found by number and locate: of a broken feed, in which two stocks have an order of one number,
// each stock keeps its own, whether one thread keeps both books or two.
// Source: Knuth, "The Art of Computer Programming", vol. 3, 6.4, algorithm R, for erase.
// Thread safety: none; one thread at a time.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace trading {

/// @tparam Order has `id` and `locate`.
template <class Order>
class order_index {
  public:
    /// The order of that number, or null.
    [[nodiscard]] Order* find(std::uint64_t id, std::uint16_t locate) const noexcept {
        for (std::size_t i = home(id); slots_[i].order != nullptr; i = next(i))
            if (slots_[i].id == id && slots_[i].order->locate == locate) return slots_[i].order;
        return nullptr;
    }
    /// So that the next insert() has room. @throws std::bad_alloc; nothing has changed then.
    void make_room() { reserve(size_ + 1); }
    /// So that there is room for n in all. @throws std::bad_alloc; nothing has changed then.
    void reserve(std::size_t n) {
        while (2 * n > slots_.size()) grow();
    }
    /// Preconditions: it is not there, and there is room.
    void insert(Order* order) noexcept {
        put({order->id, order});
        ++size_;
    }
    /// Precondition: it is there.
    void erase(Order const* order) noexcept {
        std::size_t hole = home(order->id);
        while (slots_[hole].order != order) hole = next(hole);
        // What follows without a gap may have been pushed on from the hole or before it: it moves up.
        for (std::size_t i = next(hole); slots_[i].order != nullptr; i = next(i))
            if (distance(home(slots_[i].id), i) >= distance(hole, i)) {
                slots_[hole] = slots_[i];
                hole = i;
            }
        slots_[hole] = {};
        --size_;
    }
    /// Asks the memory for what find() will read.
    void prefetch(std::uint64_t id) const noexcept { __builtin_prefetch(&slots_[home(id)]); }
    /// What lies at the order's home: mostly the order, sometimes another one or null. Reads one line.
    [[nodiscard]] Order const* guess(std::uint64_t id) const noexcept { return slots_[home(id)].order; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

  private:
    struct slot {
        std::uint64_t id = 0;
        Order* order = nullptr;
    };
    static constexpr std::size_t first_size = 1'024;

    /// The high bits of the product depend on all bits of the number (Fibonacci hashing: Knuth, 6.4).
    [[nodiscard]] std::size_t home(std::uint64_t id) const noexcept {
        return static_cast<std::size_t>(id * 0x9E37'79B9'7F4A'7C15U >> shift_);
    }
    [[nodiscard]] std::size_t next(std::size_t i) const noexcept { return (i + 1) & (slots_.size() - 1); }
    [[nodiscard]] std::size_t distance(std::size_t from, std::size_t to) const noexcept {
        return (to - from) & (slots_.size() - 1);
    }
    void put(slot one) noexcept {
        std::size_t i = home(one.id);
        while (slots_[i].order != nullptr) i = next(i);
        slots_[i] = one;
    }
    void grow() {
        std::vector<slot> before(2 * slots_.size());
        slots_.swap(before);
        --shift_;
        for (slot const& one : before)
            if (one.order != nullptr) put(one);
    }

    // Invariant: slots_.size() is a power of two, at least half of them are free, and from the home of each
    // order to its place there is no free one.
    std::vector<slot> slots_ = std::vector<slot>(first_size);
    int shift_ = 64 - std::countr_zero(first_size);
    std::size_t size_ = 0;
};

}  // namespace trading
