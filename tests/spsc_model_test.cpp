// SPDX-License-Identifier: MIT
// Every interleaving of short sequences on the rings of spsc_queue, with every stale value that a load may
// return under C++'s release and acquire, whatever the machine. See support/interleavings.hpp for the model.
#include <cairn/detail/spsc_rings.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <memory>

#include <gtest/gtest.h>

#include "support/interleavings.hpp"
#include "support/sanitizers.hpp"

namespace {

using support::model::explorer;
using support::model::failure;
using support::model::value;

/// Two items to a block, so that short sequences cross from block to block and around.
struct modelled {
    template <class U>
    using atomic = support::model::atomic<U>;
    static constexpr std::uint32_t start = 0U - 2;  // and across the wrap of the counters
    static constexpr std::size_t per_block(std::size_t, std::size_t) { return 2; }
};

/// The orders that the queue uses, to be weakened one at a time.
struct orders {
    std::memory_order publish = std::memory_order_release;
    std::memory_order look = std::memory_order_acquire;
    std::memory_order retire = std::memory_order_release;
    std::memory_order ask = std::memory_order_acquire;
};

template <class Ring>
class scenario {
  public:
    scenario(std::uint32_t capacity, orders with) : capacity_(capacity), with_(with) {}

    void fresh() {
        ring_ = std::make_unique<Ring>();
        blocks_ = std::make_unique<typename Ring::block[]>(Ring::blocks(capacity_));
        closed_ = std::make_unique<support::model::atomic<int>>(0);
        pushed_ = popped_ = 0;
    }
    /// Pushes up to n items as spsc_queue's batches do: all runs, and of blocks the first one told last.
    void push(std::uint32_t n) {
        n = std::min(n, ring_->free(capacity_, with_.ask));
        bool any = false;
        typename Ring::news news{};
        while (n != 0) {
            std::uint32_t const k = std::min(n, ring_->run(capacity_));
            for (std::uint32_t i = 0; i < k; ++i)
                std::construct_at(ring_->slot(blocks_.get()) + i, pushed_++);
            auto const made = ring_->advance(capacity_, k);
            if (any && Ring::first_block_last)
                ring_->tell(blocks_.get(), made, with_.publish);
            else
                news = made;
            any = true;
            n -= k;
        }
        if (any) ring_->tell(blocks_.get(), news, with_.publish);
    }
    /// Pops up to n items. Returns how many.
    std::uint32_t pop(std::uint32_t n) {
        std::uint32_t const got =
            std::min(n, ring_->row(ring_->ready(blocks_.get(), capacity_, with_.look), capacity_));
        for (std::uint32_t i = 0; i < got; ++i) {
            value* const item = ring_->front(blocks_.get()) + i;
            if (item->get() != popped_++) support::model::current->fail("not the item that was due");
            std::destroy_at(item);
        }
        if (got != 0) ring_->retire(capacity_, got, with_.retire);
        return got;
    }
    void close() { closed_->store(1, std::memory_order_release); }
    /// As spsc_queue::wait_for_items: the end is read before the items.
    void drain_to_the_end() {
        for (int look = 0; look < 3; ++look) {
            bool const last_look = closed_->load(std::memory_order_acquire) != 0;
            if (pop(1) == 0 && last_look) {
                if (popped_ != pushed_) support::model::current->fail("the end came before the last item");
                return;
            }
        }
    }
    void nothing_lost() {
        while (pop(1) != 0) {
        }
        if (popped_ != pushed_) support::model::current->fail("an item is lost");
        if (ring_->size() != 0) support::model::current->fail("size() is wrong");
    }

  private:
    std::uint32_t capacity_;
    orders with_;
    std::unique_ptr<typename Ring::block[]> blocks_;
    std::unique_ptr<Ring> ring_;
    std::unique_ptr<support::model::atomic<int>> closed_;
    int pushed_ = 0, popped_ = 0;
};

/// How many ways there are in which the two threads can interleave; in each of them nothing may be lost.
template <class Ring>
std::size_t every_way(std::uint32_t capacity, orders with, std::function<void(scenario<Ring>&)> producer,
                      std::function<void(scenario<Ring>&)> consumer) {
    scenario<Ring> s(capacity, with);
    return explorer{}.all([&] { s.fresh(); }, {[&] { producer(s); }, [&] { consumer(s); }},
                          [&] { s.nothing_lost(); }, 50'000'000);
}

template <class Ring>
std::size_t single_items(std::uint32_t capacity, int n, orders with = {}) {
    return every_way<Ring>(
        capacity, with,
        [n](auto& s) {
            for (int i = 0; i < n; ++i) s.push(1);
        },
        [n](auto& s) {
            for (int i = 0; i < n; ++i) (void)s.pop(1);
        });
}

template <class Ring>
std::size_t batches(std::uint32_t capacity) {
    return every_way<Ring>(
        capacity, {},
        [](auto& s) {
            for (std::uint32_t const n : {2U, 1U, 3U, 2U, 1U}) s.push(n);
        },
        [](auto& s) {
            for (std::uint32_t const n : {1U, 3U, 2U, 2U, 2U}) (void)s.pop(n);
        });
}

template <class Ring>
std::size_t close_and_drain(std::uint32_t capacity) {
    return every_way<Ring>(
        capacity, {},
        [](auto& s) {
            s.push(1);
            s.push(1);
            s.close();
        },
        [](auto& s) { s.drain_to_the_end(); });
}

template <class Ring>
class SpscModel : public testing::Test {
  protected:
    void SetUp() override {
        if (support::sanitized) GTEST_SKIP() << "the explorer swaps stacks, which sanitizers do not follow";
    }
};
using rings =
    testing::Types<cairn::detail::line_ring<value, modelled>, cairn::detail::array_ring<value, modelled>>;
TYPED_TEST_SUITE(SpscModel, rings);

TYPED_TEST(SpscModel, SingleItemsArriveOnceInOrderWithoutARace) {
    for (std::uint32_t const capacity : {1U, 2U, 3U}) {
        std::size_t const ways = single_items<TypeParam>(capacity, 5);
        std::cout << "capacity " << capacity << ": " << ways << " executions\n";
        EXPECT_GT(ways, 1'000U);
    }
}

TYPED_TEST(SpscModel, BatchesArriveOnceInOrderWithoutARace) {
    for (std::uint32_t const capacity : {2U, 3U, 5U}) EXPECT_GT(batches<TypeParam>(capacity), 100U);
}

TYPED_TEST(SpscModel, TheEndIsSeenAfterTheLastItem) {
    for (std::uint32_t const capacity : {1U, 2U}) EXPECT_GT(close_and_drain<TypeParam>(capacity), 20U);
}

TYPED_TEST(SpscModel, EachOrderIsNeeded) {
    // Weakened one at a time, each of the four lets a race through, and the explorer finds it.
    EXPECT_THROW(single_items<TypeParam>(1, 6, {.publish = std::memory_order_relaxed}), failure);
    EXPECT_THROW(single_items<TypeParam>(1, 6, {.look = std::memory_order_relaxed}), failure);
    EXPECT_THROW(single_items<TypeParam>(1, 6, {.retire = std::memory_order_relaxed}), failure);
    EXPECT_THROW(single_items<TypeParam>(1, 6, {.ask = std::memory_order_relaxed}), failure);
}

}  // namespace
