// SPDX-License-Identifier: MIT
#include <cairn/spsc_queue.hpp>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <memory_resource>
#include <new>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

using support::sanitized;

/// A payload of `Size` bytes in which each word says the same: a torn one contradicts itself.
template <std::size_t Size>
struct payload {
    std::array<std::uint32_t, Size / 4> words;

    static payload of(std::uint32_t number) {
        payload made;
        for (std::size_t i = 0; i < made.words.size(); ++i)
            made.words[i] = number ^ static_cast<std::uint32_t>(i * 0x9E3779B9U);
        return made;
    }
    /// The number, or -1 if the words do not belong together.
    [[nodiscard]] std::int64_t number() const {
        return words == of(words[0]).words ? static_cast<std::int64_t>(words[0]) : -1;
    }
};

template <class T>
T make(std::uint32_t number) {
    if constexpr (std::is_same_v<T, std::string>)
        return std::to_string(number) + (number % 3 == 0 ? " with a tail that is stored on the heap" : "");
    else if constexpr (std::is_same_v<T, std::unique_ptr<int>>)
        return std::make_unique<int>(static_cast<int>(number));
    else if constexpr (std::is_integral_v<T>)
        return static_cast<T>(number);
    else
        return T::of(number);
}

template <class T>
bool is(T const& item, std::uint32_t number) {
    if constexpr (std::is_same_v<T, std::unique_ptr<int>>)
        return item != nullptr && *item == static_cast<int>(number);
    else if constexpr (std::is_same_v<T, std::string> || std::is_integral_v<T>)
        return item == make<T>(number);
    else
        return item.number() == static_cast<std::int64_t>(number);
}

/// Counts its living objects, and throws where it is told to.
struct tracked {
    static inline int alive = 0;
    static inline int until_throw = -1;  // constructions and assignments until one throws; -1: never

    static void may_throw() {
        if (until_throw >= 0 && until_throw-- == 0) throw std::runtime_error("injected");
    }
    explicit(false) tracked(int n) : number(n) {
        may_throw();
        ++alive;
    }
    tracked(tracked const& other) : number(other.number) {
        may_throw();
        ++alive;
    }
    tracked(tracked&& other) : number(other.number) {
        may_throw();
        other.number = -1;
        ++alive;
    }
    tracked& operator=(tracked const& other) {
        may_throw();
        number = other.number;
        return *this;
    }
    tracked& operator=(tracked&& other) {
        may_throw();
        number = other.number;
        other.number = -1;
        return *this;
    }
    ~tracked() { --alive; }
    int number;
};

template <class T>
class SpscQueueOf : public testing::Test {};
using kinds = testing::Types<unsigned char, std::uint32_t, payload<8>, payload<16>, payload<24>, payload<32>,
                             payload<48>, payload<60>, payload<64>, payload<128>, payload<256>, std::string,
                             std::unique_ptr<int>>;
TYPED_TEST_SUITE(SpscQueueOf, kinds);

TYPED_TEST(SpscQueueOf, HoldsExactlyItsCapacityAtEveryPosition) {
    for (std::size_t const capacity : {1U, 2U, 3U, 7U, 14U, 15U, 16U, 17U, 60U, 64U, 100U}) {
        cairn::spsc_queue<TypeParam> queue(capacity);
        EXPECT_EQ(queue.capacity(), capacity);
        std::uint32_t in = 0;
        std::uint32_t out = 0;
        for (int lap = 0; lap < 40; ++lap) {
            for (std::size_t i = 0; i < capacity; ++i) ASSERT_TRUE(queue.try_push(make<TypeParam>(in++)));
            EXPECT_FALSE(queue.try_push(make<TypeParam>(in)));
            EXPECT_EQ(queue.size(), capacity);
            // One out, one in: full again, one slot further on.
            auto const first = queue.try_pop();
            ASSERT_TRUE(first && is(*first, out++));
            ASSERT_TRUE(queue.try_push(make<TypeParam>(in++)));
            EXPECT_FALSE(queue.try_push(make<TypeParam>(in)));
            while (auto const item = queue.try_pop()) ASSERT_TRUE(is(*item, out++));
            EXPECT_EQ(in, out);
            EXPECT_TRUE(queue.empty());
        }
    }
}

TYPED_TEST(SpscQueueOf, BehavesAsADequeUnderAnySequenceOfCalls) {
    for (unsigned seed = 0; seed < 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937 random{seed};
        std::size_t const capacity = 1 + random() % (seed % 2 == 0 ? 20 : 200);
        cairn::spsc_queue<TypeParam> queue(capacity);
        std::deque<std::uint32_t> model;
        std::uint32_t next = 0;
        auto const expect_front = [&](TypeParam const& item) {
            ASSERT_FALSE(model.empty());
            ASSERT_TRUE(is(item, model.front()));
            model.pop_front();
        };
        for (int step = 0; step < 2'000; ++step) {
            std::size_t const n = random() % (capacity + 2);
            switch (random() % 10) {
                case 0: {
                    bool const pushed = queue.try_push(make<TypeParam>(next));
                    ASSERT_EQ(pushed, model.size() < capacity);
                    if (pushed) model.push_back(next++);
                    break;
                }
                case 1: {
                    auto item = queue.try_pop();
                    ASSERT_EQ(item.has_value(), !model.empty());
                    if (item) expect_front(*item);
                    break;
                }
                case 2: {
                    TypeParam item{};
                    bool const popped = queue.try_pop(item);
                    ASSERT_EQ(popped, !model.empty());
                    if (popped) expect_front(item);
                    break;
                }
                case 3: {
                    std::vector<TypeParam> items;
                    for (std::size_t i = 0; i < n; ++i)
                        items.push_back(make<TypeParam>(next + static_cast<std::uint32_t>(i)));
                    std::size_t const pushed = queue.try_push_n(std::make_move_iterator(items.begin()), n);
                    ASSERT_EQ(pushed, std::min(n, capacity - model.size()));
                    for (std::size_t i = 0; i < pushed; ++i) model.push_back(next++);
                    break;
                }
                case 4: {
                    std::vector<TypeParam> items(n);
                    std::size_t const popped = queue.try_pop_n(std::span(items));
                    ASSERT_EQ(popped, std::min(n, model.size()));
                    for (std::size_t i = 0; i < popped; ++i) expect_front(items[i]);
                    break;
                }
                case 5: {
                    std::span<TypeParam> const room = queue.reserve(n);
                    ASSERT_LE(room.size(), std::min({n, queue.max_span(), capacity - model.size()}));
                    ASSERT_EQ(room.empty(), n == 0 || model.size() == capacity);
                    std::size_t const used = room.empty() ? 0 : random() % (room.size() + 1);
                    for (std::size_t i = 0; i < used; ++i) {
                        std::construct_at(&room[i], make<TypeParam>(next));
                        model.push_back(next++);
                    }
                    queue.commit(used);
                    break;
                }
                case 6: {
                    std::span<TypeParam> const items = queue.peek(n);
                    ASSERT_LE(items.size(), std::min({n, queue.max_span(), model.size()}));
                    ASSERT_EQ(items.empty(), n == 0 || model.empty());
                    std::size_t const used = items.empty() ? 0 : random() % (items.size() + 1);
                    for (std::size_t i = 0; i < used; ++i) expect_front(items[i]);
                    queue.release(used);
                    break;
                }
                case 8: {
                    std::size_t at = 0;
                    std::size_t const shown = queue.peek_n(n, [&](std::span<TypeParam> items) {
                        for (TypeParam const& item : items) ASSERT_TRUE(is(item, model[at++]));
                    });
                    ASSERT_EQ(shown, std::min(n, model.size()));
                    std::size_t const used = random() % (shown + 1);
                    queue.release(used);
                    model.erase(model.begin(), model.begin() + static_cast<std::ptrdiff_t>(used));
                    break;
                }
                case 7: {
                    TypeParam const* const front = queue.front();
                    ASSERT_EQ(front != nullptr, !model.empty());
                    if (front != nullptr) {
                        expect_front(*front);
                        queue.pop_front();
                    }
                    break;
                }
                default:
                    ASSERT_EQ(queue.size(), model.size());
                    ASSERT_EQ(queue.empty(), model.empty());
            }
            if (testing::Test::HasFatalFailure()) return;
        }
    }
}

template <class T>
using compact_queue = cairn::spsc_queue<T, cairn::dynamic_capacity, std::allocator<T>, cairn::spin_then_yield,
                                        cairn::compact_layout>;

template <class T, class Queue>
void shows_runs(std::size_t capacity) {
    Queue queue(capacity);
    std::mt19937 random{static_cast<unsigned>(capacity)};
    std::uint32_t in = 0, out = 0;
    for (int step = 0; step < 500; ++step) {
        for (std::size_t n = random() % (capacity + 1); n != 0 && queue.try_push(make<T>(in)); --n) ++in;
        std::size_t const there = in - out;
        std::size_t const n = random() % (capacity + 2);
        // Shown as often as one likes, always the same.
        std::size_t runs = 0;
        for (int again = 0; again < 2; ++again) {
            std::uint32_t next = out;
            runs = 0;
            std::size_t const shown = queue.peek_n(n, [&](std::span<T> items) {
                ++runs;
                ASSERT_LE(items.size(), queue.max_span());
                ASSERT_FALSE(items.empty());
                for (T const& item : items) ASSERT_TRUE(is(item, next++));
            });
            ASSERT_EQ(shown, std::min(n, there));
            ASSERT_EQ(next, out + shown);
        }
        if (queue.max_span() == capacity) {  // an array wraps once at most
            ASSERT_LE(runs, 2U);
        }
        std::size_t const used = random() % (std::min(n, there) + 1);
        queue.release(used);
        out += static_cast<std::uint32_t>(used);
        ASSERT_EQ(queue.size(), in - out);
        if (step % 50 == 0) {
            while (auto const item = queue.try_pop()) ASSERT_TRUE(is(*item, out++));
        }
    }
}

TYPED_TEST(SpscQueueOf, ShowsAllRunsBeforeItReleasesThem) {
    for (std::size_t const capacity : {1U, 2U, 7U, 15U, 16U, 60U, 100U}) {
        SCOPED_TRACE("capacity " + std::to_string(capacity));
        shows_runs<TypeParam, cairn::spsc_queue<TypeParam>>(capacity);
        shows_runs<TypeParam, compact_queue<TypeParam>>(capacity);
    }
}

TYPED_TEST(SpscQueueOf, TakesNotAByteMoreThanItsItemsInTheCompactLayout) {
    compact_queue<TypeParam> queue(1'001);
    EXPECT_EQ(queue.max_span(), 1'001U);
    for (std::uint32_t i = 0; i < 1'001; ++i) ASSERT_TRUE(queue.try_push(make<TypeParam>(i)));
    EXPECT_FALSE(queue.try_push(make<TypeParam>(0)));
    std::span<TypeParam> const all = queue.peek();
    ASSERT_EQ(all.size(), 1'001U);  // one span, so they lie side by side
    for (std::uint32_t i = 0; i < 1'001; ++i) ASSERT_TRUE(is(all[i], i));
}

TEST(SpscQueue, AVisitorThatThrowsHasTakenNothing) {
    cairn::spsc_queue<std::string> queue(10);
    for (std::uint32_t i = 0; i < 10; ++i) ASSERT_TRUE(queue.try_push(make<std::string>(i)));
    EXPECT_THROW(queue.peek_n(10, [](std::span<std::string>) { throw std::runtime_error("injected"); }),
                 std::runtime_error);
    for (std::uint32_t i = 0; i < 10; ++i) EXPECT_TRUE(is(*queue.try_pop(), i));
}

template <class T, class Queue>
void send_and_check(Queue& queue, std::uint32_t n) {
    std::uint32_t wrong = 0;
    std::uint32_t received = 0;
    std::thread consumer([&] {
        T item{};
        for (unsigned turn = 0;; ++turn) {
            if (turn % 7 == 6) {  // some in place, also over several runs; the rest one by one
                std::size_t const shown = queue.peek_n(40, [&](std::span<T> items) {
                    for (T const& one : items) wrong += !is(one, received++);
                });
                queue.release(shown);
            } else if (turn % 5 == 4) {
                std::span<T> const items = queue.peek();
                for (T const& one : items) wrong += !is(one, received++);
                queue.release(items.size());
            } else {
                if (!queue.pop(item)) break;
                wrong += !is(item, received++);
            }
        }
    });
    for (std::uint32_t i = 0; i < n; ++i) ASSERT_TRUE(queue.push(make<T>(i)));
    queue.close();
    consumer.join();
    EXPECT_EQ(received, n);
    EXPECT_EQ(wrong, 0U);
}

TYPED_TEST(SpscQueueOf, LosesNothingBetweenTwoThreads) {
    std::uint32_t const n = sanitized ? 20'000 : 200'000;
    for (std::size_t const capacity : {1U, 2U, 15U, 64U, 1'000U}) {
        SCOPED_TRACE("capacity " + std::to_string(capacity));
        cairn::spsc_queue<TypeParam> queue(capacity);
        send_and_check<TypeParam>(queue, capacity < 10 ? n / 10 : n);
        cairn::spsc_queue<TypeParam, cairn::dynamic_capacity, std::allocator<TypeParam>,
                          cairn::spin_then_sleep>
            sleeping(capacity);
        send_and_check<TypeParam>(sleeping, n / 10);
        compact_queue<TypeParam> compact(capacity);
        send_and_check<TypeParam>(compact, n / 10);
    }
    auto const fixed = std::make_unique<cairn::spsc_queue<TypeParam, 37>>();
    send_and_check<TypeParam>(*fixed, n);
}

TYPED_TEST(SpscQueueOf, LosesNothingInBatchesBetweenTwoThreads) {
    if constexpr (std::is_copy_constructible_v<TypeParam>) {
        std::uint32_t const n = sanitized ? 20'000 : 200'000;
        cairn::spsc_queue<TypeParam> queue(100);
        std::uint32_t wrong = 0;
        std::uint32_t received = 0;
        std::thread consumer([&] {
            std::vector<TypeParam> items(33);
            while (std::size_t const got = queue.pop_n(items))
                for (std::size_t i = 0; i < got; ++i) wrong += !is(items[i], received++);
        });
        std::vector<TypeParam> items;
        for (std::uint32_t i = 0; i < n;) {
            items.clear();
            for (std::uint32_t k = 0; k < 64 && i < n; ++k) items.push_back(make<TypeParam>(i++));
            ASSERT_EQ(queue.push_n(items), items.size());
        }
        queue.close();
        consumer.join();
        EXPECT_EQ(received, n);
        EXPECT_EQ(wrong, 0U);
    }
}

// ---- Wrap-around: the same rings with counters that start shortly before they wrap. ----

struct about_to_wrap : cairn::detail::spsc_traits<false> {
    static constexpr std::uint32_t start = 0U - 21;
};

template <class Ring>
void pass_the_wrap() {
    using T = std::uint32_t;
    for (std::uint32_t capacity = 1; capacity < 40; ++capacity) {
        Ring ring;
        std::vector<typename Ring::block> blocks(Ring::block_count(capacity));
        std::deque<T> model;
        std::mt19937 random{capacity};
        T next = 0;
        for (int step = 0; step < 400; ++step) {
            if (random() % 2 == 0) {
                bool const room = ring.free(capacity) != 0;
                ASSERT_EQ(room, model.size() < capacity);
                if (room) {
                    std::construct_at(ring.slot(blocks.data()), next);
                    ring.publish(blocks.data(), capacity, 1);
                    model.push_back(next++);
                }
            } else {
                bool const any = ring.ready(blocks.data()) != 0;
                ASSERT_EQ(any, !model.empty());
                if (any) {
                    ASSERT_EQ(*ring.front(blocks.data()), model.front());
                    ring.retire(capacity, 1);
                    model.pop_front();
                }
            }
            ASSERT_EQ(ring.size(), model.size());
        }
    }
}

TEST(SpscQueue, CountsPastTheEndOfItsCounters) {
    pass_the_wrap<cairn::detail::spsc_ring<cairn::detail::line_layout<std::uint32_t, about_to_wrap>>>();
    pass_the_wrap<cairn::detail::spsc_ring<cairn::detail::array_layout<std::uint32_t, about_to_wrap>>>();
}

// ---- Closing and waiting. ----

template <class Wait>
using queue_that = cairn::spsc_queue<int, cairn::dynamic_capacity, std::allocator<int>, Wait>;

template <class Wait>
void closes() {
    queue_that<Wait> queue(2);
    EXPECT_TRUE(queue.push(1));
    EXPECT_TRUE(queue.push(2));
    std::thread([&queue] {  // the producer waits for room; the consumer closes
        queue.become_producer();
        EXPECT_FALSE(queue.is_closed());
        std::thread([&queue] { queue.close(); }).join();
        EXPECT_FALSE(queue.push(3));
        EXPECT_FALSE(queue.try_push(3));
        EXPECT_TRUE(queue.reserve(1).empty());
        EXPECT_EQ(queue.push_n(std::array{3, 4}), 0U);
    })
        .join();
    EXPECT_TRUE(queue.is_closed());
    EXPECT_EQ(queue.pop(), 1);
    EXPECT_EQ(queue.pop(), 2);
    EXPECT_EQ(queue.pop(), std::nullopt);
    std::array<int, 2> out{};
    EXPECT_EQ(queue.pop_n(out), 0U);
    queue.close();  // again: nothing happens
}

TEST(SpscQueue, DrainsAfterClosingAndThenReportsTheEnd) {
    closes<cairn::spin>();
    closes<cairn::spin_then_yield>();
    closes<cairn::spin_then_sleep>();
}

template <class Wait>
void wakes() {
    for (int round = 0; round < (sanitized ? 20 : 200); ++round) {
        queue_that<Wait> full(1);
        ASSERT_TRUE(full.push(1));
        std::thread waiting_push([&full] {
            full.become_producer();
            EXPECT_FALSE(full.push(2));
        });
        queue_that<Wait> empty(1);
        std::thread waiting_pop([&empty] { EXPECT_EQ(empty.pop(), std::nullopt); });
        if (round % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50 * (round % 10)));
        full.close();
        empty.close();
        waiting_push.join();
        waiting_pop.join();
    }
}

TEST(SpscQueue, ClosingEndsAWaitOnEitherSide) {
    wakes<cairn::spin>();
    wakes<cairn::spin_then_yield>();
    wakes<cairn::spin_then_sleep>();
}

TEST(SpscQueue, ASleeperIsWokenForEachItem) {
    queue_that<cairn::spin_then_sleep> there(1);
    queue_that<cairn::spin_then_sleep> back(1);
    std::thread echo([&] {
        while (auto const item = there.pop()) {
            if (*item % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
            back.push(*item);
        }
        back.close();
    });
    for (int i = 0; i < (sanitized ? 200 : 2'000); ++i) {
        ASSERT_TRUE(there.push(i));
        ASSERT_EQ(back.pop(), i);
    }
    there.close();
    EXPECT_EQ(back.pop(), std::nullopt);
    echo.join();
}

// ---- Exceptions and lifetimes. ----

TEST(SpscQueue, DestroysWhatIsLeft) {
    {
        cairn::spsc_queue<tracked> queue(40);
        for (int i = 0; i < 30; ++i) EXPECT_TRUE(queue.try_emplace(i));
        for (int i = 0; i < 7; ++i) EXPECT_EQ(queue.try_pop()->number, i);
        EXPECT_EQ(tracked::alive, 23);
        cairn::spsc_queue<tracked, 5> fixed;
        EXPECT_TRUE(fixed.try_emplace(1));
    }
    EXPECT_EQ(tracked::alive, 0);
}

/// Calls `work` with an exception at the first step that can throw, then at the second, until none comes.
template <class Work>
void with_every_exception(Work work) {
    for (int at = 0;; ++at) {
        tracked::until_throw = at;
        bool thrown = false;
        try {
            work();
        } catch (std::runtime_error const&) {
            thrown = true;
        }
        tracked::until_throw = -1;
        if (!thrown) break;
    }
}

TEST(SpscQueue, AThrowingConstructorLeavesItsSlotFree) {
    int rounds = 0;
    with_every_exception([&rounds] {
        ++rounds;
        std::vector<tracked> items;
        {
            int const armed = std::exchange(tracked::until_throw, -1);
            for (int i = 0; i < 20; ++i) items.emplace_back(i);
            tracked::until_throw = armed;
        }
        cairn::spsc_queue<tracked> queue(17);
        int sent = 0;
        try {
            for (; sent < 5; ++sent) EXPECT_TRUE(queue.try_push(items[static_cast<std::size_t>(sent)]));
            sent += static_cast<int>(queue.try_push_n(std::span<tracked const>(items).subspan(5, 10)));
        } catch (...) {
            tracked::until_throw = -1;
            // Whatever was pushed is there in order, and the queue works on.
            int const left = static_cast<int>(queue.size());
            EXPECT_GE(left, std::min(sent, 5));
            for (int i = left; i < 17; ++i) EXPECT_TRUE(queue.try_emplace(i));
            EXPECT_FALSE(queue.try_emplace(99));
            for (int i = 0; i < 17; ++i) EXPECT_EQ(queue.try_pop()->number, i);
            throw;
        }
        EXPECT_EQ(queue.size(), 15U);
    });
    EXPECT_GT(rounds, 15);
    EXPECT_EQ(tracked::alive, 0);
}

TEST(SpscQueue, AThrowingMoveOutLeavesTheItem) {
    int rounds = 0;
    with_every_exception([&rounds] {
        ++rounds;
        int const armed = std::exchange(tracked::until_throw, -1);
        cairn::spsc_queue<tracked> queue(30);
        for (int i = 0; i < 30; ++i) EXPECT_TRUE(queue.try_emplace(i));
        std::vector<tracked> out(20, tracked(0));
        tracked one(0);
        tracked::until_throw = armed;
        int got = 0;
        try {
            (void)queue.try_pop();
            ++got;
            EXPECT_TRUE(queue.try_pop(one));
            ++got;
            EXPECT_EQ(queue.try_pop_n(std::span(out)), 20U);
            got += 20;
        } catch (...) {
            tracked::until_throw = -1;
            int const left = static_cast<int>(queue.size());
            EXPECT_LE(left, 30 - got);
            for (int i = 30 - left; i < 30; ++i) EXPECT_EQ(queue.try_pop()->number, i);
            throw;
        }
        EXPECT_EQ(queue.size(), 8U);
    });
    EXPECT_GT(rounds, 20);
    EXPECT_EQ(tracked::alive, 0);
}

TEST(SpscQueue, RefusesACapacityThatItCannotHave) {
    EXPECT_THROW(cairn::spsc_queue<int>(0), std::invalid_argument);
    EXPECT_THROW(cairn::spsc_queue<int>(std::size_t{1} << 31), std::invalid_argument);
    try {
        cairn::spsc_queue<int> const queue(0);
        FAIL();
    } catch (std::invalid_argument const& error) {
        EXPECT_STREQ(error.what(), "spsc_queue: a capacity of 0 is not between 1 and 2147483647");
    }
}

// ---- Memory. ----

TEST(SpscQueue, OverAlignedItemsStandWhereTheyMust) {
    struct alignas(128) wide {
        int number;
    };
    struct alignas(32) vector {
        int number;
    };
    auto const check = [](auto& queue) {
        for (int lap = 0; lap < 5; ++lap) {
            for (int i = 0; i < 3; ++i) EXPECT_TRUE(queue.try_emplace(i));
            for (int i = 0; i < 3; ++i) {
                auto* const item = queue.front();
                ASSERT_NE(item, nullptr);
                EXPECT_EQ(reinterpret_cast<std::uintptr_t>(item) % alignof(decltype(*item)), 0U);
                EXPECT_EQ(item->number, i);
                queue.pop_front();
            }
        }
    };
    cairn::spsc_queue<wide> dynamic(3);
    cairn::spsc_queue<wide, 3> fixed;
    cairn::spsc_queue<vector> blocks(3);
    check(dynamic);
    check(fixed);
    check(blocks);
}

TEST(SpscQueue, TakesItsMemoryFromAPmrResourceAndNothingElse) {
    std::pmr::monotonic_buffer_resource resource(1 << 20);
    using allocator = std::pmr::polymorphic_allocator<std::pmr::string>;
    cairn::spsc_queue<std::pmr::string, cairn::dynamic_capacity, allocator> queue(100, &resource);
    EXPECT_TRUE(queue.try_emplace("in the queue"));
    EXPECT_EQ(*queue.front(), "in the queue");
}

TEST(SpscQueue, AFixedQueueAllocatesNothing) {
    std::size_t const before = support::allocations;
    cairn::spsc_queue<int, 64> queue;
    for (int i = 0; i < 64; ++i) ASSERT_TRUE(queue.try_push(i));
    while (queue.try_pop()) {
    }
    EXPECT_EQ(support::allocations, before);
}

TEST(SpscQueue, CarriesItemsBetweenTwoProcesses) {
    using queue_type = cairn::spsc_queue<payload<16>, 100>;
    struct shared {
        queue_type there;
        cairn::spsc_queue<payload<64>, 10> back;
    };
    void* const memory =
        mmap(nullptr, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto* const both = ::new (memory) shared;
    std::uint32_t const n = sanitized ? 5'000 : 50'000;
    pid_t const child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        std::uint32_t expected = 0;
        bool good = true;
        while (auto const item = both->there.pop()) {
            good = good && is(*item, expected);
            good = good && both->back.push(make<payload<64>>(expected++));
        }
        both->back.close();
        _exit(good && expected == n ? 0 : 1);
    }
    std::uint32_t answers = 0;
    std::uint32_t wrong = 0;
    for (std::uint32_t i = 0; i < n; ++i) {
        ASSERT_TRUE(both->there.push(make<payload<16>>(i)));
        while (auto const item = both->back.try_pop()) wrong += !is(*item, answers++);
    }
    both->there.close();
    while (auto const item = both->back.pop()) wrong += !is(*item, answers++);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT_EQ(answers, n);
    EXPECT_EQ(wrong, 0U);
    both->~shared();
    munmap(memory, sizeof(shared));
}

// ---- Misuse. ----

#if !defined(NDEBUG) && !defined(__SANITIZE_THREAD__)
TEST(SpscQueueDeathTest, CatchesTheWrongThreadInDebug) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    cairn::spsc_queue<int> queue(4);
    ASSERT_TRUE(queue.try_push(1));
    EXPECT_DEATH(std::thread([&queue] { (void)queue.try_push(2); }).join(), "broken contract");
    (void)queue.try_pop();
    EXPECT_DEATH(std::thread([&queue] { (void)queue.front(); }).join(), "broken contract");
    EXPECT_DEATH(queue.pop_front(), "broken contract");
    EXPECT_DEATH(queue.commit(5), "broken contract");
}
#endif

TEST(SpscQueue, ASideCanBeHandedOver) {
    cairn::spsc_queue<int> queue(4);
    ASSERT_TRUE(queue.try_push(1));
    std::thread([&queue] {
        queue.become_producer();
        EXPECT_TRUE(queue.try_push(2));
    }).join();
    EXPECT_EQ(queue.try_pop(), 1);
    std::thread([&queue] {
        queue.become_consumer();
        EXPECT_EQ(queue.try_pop(), 2);
    }).join();
}

}  // namespace
