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

/// The orders that the queue uses, to be weakened one at a time.
struct orders {
    std::memory_order tell = std::memory_order_release;
    std::memory_order look = std::memory_order_acquire;
    std::memory_order retire = std::memory_order_release;
    std::memory_order ask = std::memory_order_acquire;
};

/// Two items to a block, so that short sequences cross from block to block and around.
template <orders With>
struct modelled {
    template <class U>
    using atomic = support::model::atomic<U>;
    static constexpr std::uint32_t start = 0U - 2;  // and across the wrap of the counters
    static constexpr std::size_t per_block(std::size_t, std::size_t) { return 2; }
    static constexpr std::memory_order tell = With.tell, look = With.look, retire = With.retire,
                                       ask = With.ask;
};

struct in_blocks {
    template <orders With>
    using ring = cairn::detail::spsc_ring<cairn::detail::line_layout<value, modelled<With>>>;
};
struct in_an_array {
    template <orders With>
    using ring = cairn::detail::spsc_ring<cairn::detail::array_layout<value, modelled<With>>>;
};

template <class Ring>
class scenario {
  public:
    explicit scenario(std::uint32_t capacity) : capacity_(capacity) {}

    void fresh() {
        ring_ = std::make_unique<Ring>();
        blocks_ = std::make_unique<typename Ring::block[]>(Ring::block_count(capacity_));
        closed_ = std::make_unique<support::model::atomic<int>>(0);
        pushed_ = popped_ = 0;
    }
    /// Pushes up to n items, a single one as push does, more as push_n does.
    void push(std::uint32_t n) {
        n = std::min(n, ring_->free(capacity_));
        if (n == 1) {
            std::construct_at(ring_->slot(blocks_.get()), pushed_++);
            ring_->publish(blocks_.get(), capacity_, 1);
        } else if (n != 0) {
            ring_->fill(blocks_.get(), capacity_, n,
                        [this](value* slots, std::uint32_t k, std::uint32_t& done) {
                            for (; done < k; ++done) std::construct_at(slots + done, pushed_++);
                        });
        }
    }
    /// Pops up to n items, a single one as pop does, more as pop_n does. Returns how many.
    std::uint32_t pop(std::uint32_t n) {
        auto const due = [this](value& item) {
            if (item.get() != popped_++) support::model::current->fail("not the item that was due");
        };
        if (n > 1)
            return ring_->drain(blocks_.get(), capacity_, n,
                                [&due](value* items, std::uint32_t k, std::uint32_t& done) {
                                    for (; done < k; ++done) due(items[done]);
                                });
        if (ring_->ready(blocks_.get()) == 0) return 0;
        value* const item = ring_->front(blocks_.get());
        due(*item);
        std::destroy_at(item);
        ring_->retire(capacity_, 1);
        return 1;
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
    std::unique_ptr<typename Ring::block[]> blocks_;
    std::unique_ptr<Ring> ring_;
    std::unique_ptr<support::model::atomic<int>> closed_;
    int pushed_ = 0, popped_ = 0;
};

/// How many ways there are in which the two threads can interleave; in each of them nothing may be lost.
template <class Ring>
std::size_t every_way(std::uint32_t capacity, std::function<void(scenario<Ring>&)> producer,
                      std::function<void(scenario<Ring>&)> consumer) {
    scenario<Ring> s(capacity);
    return explorer{}.all([&] { s.fresh(); }, {[&] { producer(s); }, [&] { consumer(s); }},
                          [&] { s.nothing_lost(); }, 50'000'000);
}

template <class Layout, orders With = orders{}>
std::size_t single_items(std::uint32_t capacity, int n) {
    return every_way<typename Layout::template ring<With>>(
        capacity,
        [n](auto& s) {
            for (int i = 0; i < n; ++i) s.push(1);
        },
        [n](auto& s) {
            for (int i = 0; i < n; ++i) (void)s.pop(1);
        });
}

template <class Layout, orders With = orders{}>
std::size_t batches(std::uint32_t capacity) {
    return every_way<typename Layout::template ring<With>>(
        capacity,
        [](auto& s) {
            for (std::uint32_t const n : {2U, 1U, 3U, 2U, 1U}) s.push(n);
        },
        [](auto& s) {
            for (std::uint32_t const n : {1U, 3U, 2U, 2U, 2U}) (void)s.pop(n);
        });
}

template <class Layout>
std::size_t close_and_drain(std::uint32_t capacity) {
    return every_way<typename Layout::template ring<orders{}>>(
        capacity,
        [](auto& s) {
            s.push(1);
            s.push(1);
            s.close();
        },
        [](auto& s) { s.drain_to_the_end(); });
}

template <class Layout>
class SpscModel : public testing::Test {
  protected:
    void SetUp() override {
        if (support::sanitized) GTEST_SKIP() << "the explorer swaps stacks, which sanitizers do not follow";
    }
};
using layouts = testing::Types<in_blocks, in_an_array>;
TYPED_TEST_SUITE(SpscModel, layouts);

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
    constexpr auto weak = std::memory_order_relaxed;
    EXPECT_THROW((single_items<TypeParam, orders{.tell = weak}>(1, 6)), failure);
    EXPECT_THROW((single_items<TypeParam, orders{.look = weak}>(1, 6)), failure);
    EXPECT_THROW((single_items<TypeParam, orders{.retire = weak}>(1, 6)), failure);
    EXPECT_THROW((single_items<TypeParam, orders{.ask = weak}>(1, 6)), failure);
    EXPECT_THROW((batches<TypeParam, orders{.tell = weak}>(3)), failure);
    EXPECT_THROW((batches<TypeParam, orders{.look = weak}>(3)), failure);
    EXPECT_THROW((batches<TypeParam, orders{.retire = weak}>(3)), failure);
    EXPECT_THROW((batches<TypeParam, orders{.ask = weak}>(3)), failure);
}

}  // namespace
