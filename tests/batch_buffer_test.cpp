// SPDX-License-Identifier: MIT
#include <cairn/batch_buffer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

struct single {
    template <class T, class Sink>
    using buffer = cairn::single_buffer<T, Sink>;
    static constexpr std::size_t buffers = 1;
};
struct swapping {
    template <class T, class Sink>
    using buffer = cairn::double_buffer<T, Sink>;
    static constexpr std::size_t buffers = 2;
};
struct copying {
    template <class T, class Sink>
    using buffer = cairn::copy_buffer<T, Sink>;
    static constexpr std::size_t buffers = 2;
};

template <class T>
using sink = std::function<void(std::span<T>)>;

struct failure : std::runtime_error {
    failure() : std::runtime_error("the sink fails") {}
};

/// An event of one producer.
struct event {
    unsigned producer;
    unsigned number;
};

/// What a database would hold. Used by one thread at a time, as sinks are.
template <class T>
struct table {
    std::vector<T> rows;
    std::vector<std::size_t> batches;

    void operator()(std::span<T> batch) {
        rows.insert(rows.end(), batch.begin(), batch.end());
        batches.push_back(batch.size());
    }
};

/// Each producer's events are there once each, in its order.
void expect_all(std::vector<event> const& rows, std::vector<unsigned> const& counts) {
    std::vector<unsigned> next(counts.size());
    for (event const& row : rows) {
        ASSERT_LT(row.producer, counts.size());
        ASSERT_EQ(row.number, next[row.producer]++) << "producer " << row.producer;
    }
    EXPECT_EQ(next, counts);
}

/// Lets a sink wait until a test says so.
class gate {
  public:
    void open() {
        {
            std::lock_guard const lock(mutex_);
            open_ = true;
        }
        changed_.notify_all();
    }
    /// Called by the sink.
    void pass() {
        std::unique_lock lock(mutex_);
        ++waiting_;
        changed_.notify_all();
        changed_.wait(lock, [this] { return open_; });
    }
    void wait_until_somebody_waits() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return waiting_ != 0; });
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
    int waiting_ = 0;
};

template <class Condition>
void wait_until(Condition condition) {
    while (!condition()) std::this_thread::yield();
}

/// Gives a thread that should wait the time to show that it does not.
void give_time() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

template <class Kind>
class BatchBuffer : public testing::Test {};
using kinds = testing::Types<single, swapping, copying>;
TYPED_TEST_SUITE(BatchBuffer, kinds);

TYPED_TEST(BatchBuffer, HasTheCommonFace) {
    using buffer = typename TypeParam::template buffer<std::string, sink<std::string>>;
    static_assert(cairn::batch_buffer<buffer, std::string>);
    static_assert(!std::is_copy_constructible_v<buffer> && !std::is_move_constructible_v<buffer>);
}

TYPED_TEST(BatchBuffer, RefusesABatchOfNothing) {
    using buffer = typename TypeParam::template buffer<int, sink<int>>;
    EXPECT_THROW(buffer([](std::span<int>) {}, 0), std::invalid_argument);
}

TYPED_TEST(BatchBuffer, DeliversEachItemOnceInOrderWhateverTheSizes) {
    for (std::size_t const batch : {1U, 2U, 3U, 7U, 64U, 100U}) {
        for (std::size_t const count : {0U, 1U, 2U, 99U, 100U, 101U, 700U}) {
            SCOPED_TRACE(std::to_string(count) + " items in batches of " + std::to_string(batch));
            table<std::string> rows;
            typename TypeParam::template buffer<std::string, sink<std::string>> buffer(std::ref(rows), batch);
            std::vector<std::string> expected;
            for (std::size_t i = 0; i < count; ++i) {
                expected.push_back("a string that is too long to be stored in place " + std::to_string(i));
                ASSERT_TRUE(buffer.push(expected.back()));
            }
            buffer.close();
            EXPECT_EQ(rows.rows, expected);
            EXPECT_EQ(rows.batches.size(), (count + batch - 1) / batch);
            for (std::size_t i = 0; i < rows.batches.size(); ++i)
                EXPECT_EQ(rows.batches[i], std::min(batch, count - i * batch));
            auto const stats = buffer.stats();
            EXPECT_EQ(stats.accepted, count);
            EXPECT_EQ(stats.delivered, count);
            EXPECT_EQ(stats.batches, rows.batches.size());
        }
    }
}

TYPED_TEST(BatchBuffer, BehavesAsAVectorUnderAnySequenceOfCallsAndFailures) {
    for (unsigned seed = 0; seed < 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937 random{seed};
        std::mt19937 sink_random{seed + 1'000};
        std::size_t const batch = 1 + random() % 20;
        std::vector<int> rows;
        int thrown = 0;
        int heard = 0;
        std::vector<int> model;
        {
            auto const insert = [&](std::span<int> items) {
                EXPECT_FALSE(items.empty());
                EXPECT_LE(items.size(), batch);
                if (sink_random() % 3 == 0) {
                    ++thrown;
                    throw failure();
                }
                rows.insert(rows.end(), items.begin(), items.end());
            };
            typename TypeParam::template buffer<int, sink<int>> buffer(insert, batch);
            for (int step = 0; step < 500; ++step) {
                try {
                    if (random() % 20 == 0) {
                        buffer.flush();
                        EXPECT_EQ(buffer.stats().delivered, model.size());
                    } else {
                        EXPECT_TRUE(buffer.push(step));
                        model.push_back(step);  // a push that throws has not taken it
                    }
                } catch (failure const&) {
                    ++heard;
                }
                auto const stats = buffer.stats();
                ASSERT_EQ(stats.accepted, model.size());
                ASSERT_LE(stats.accepted - stats.delivered, TypeParam::buffers * batch);
            }
            for (bool closed = false; !closed;) {
                try {
                    buffer.close();
                    closed = true;
                } catch (failure const&) {
                    ++heard;
                }
            }
        }
        EXPECT_EQ(rows, model);
        EXPECT_EQ(heard, thrown);  // each failure is heard of once
    }
}

TYPED_TEST(BatchBuffer, HandsAFullBatchOverWithoutBeingAsked) {
    table<int> rows;
    typename TypeParam::template buffer<int, sink<int>> buffer(std::ref(rows), 10);
    for (int lap = 1; lap <= 50; ++lap) {
        for (int i = 0; i < 10; ++i) ASSERT_TRUE(buffer.push(i));
        wait_until([&] { return buffer.stats().delivered == static_cast<std::uint64_t>(lap) * 10; });
        EXPECT_EQ(buffer.stats().batches, static_cast<std::uint64_t>(lap));
    }
}

TYPED_TEST(BatchBuffer, KeepsFewerThanABatchUntilItIsFlushed) {
    table<int> rows;
    typename TypeParam::template buffer<int, sink<int>> buffer(std::ref(rows), 10);
    buffer.flush();  // nothing to do
    EXPECT_EQ(buffer.stats().batches, 0U);
    for (int i = 0; i < 9; ++i) ASSERT_TRUE(buffer.push(i));
    give_time();
    EXPECT_EQ(buffer.stats().delivered, 0U);
    buffer.flush();
    EXPECT_EQ(buffer.stats().delivered, 9U);
    EXPECT_EQ(buffer.stats().batches, 1U);
    ASSERT_TRUE(buffer.push(9));
    give_time();
    EXPECT_EQ(buffer.stats().delivered, 9U);  // one flush is one flush
}

TYPED_TEST(BatchBuffer, HoldsExactlyItsBuffersWhileTheSinkIsBusy) {
    if (TypeParam::buffers == 1) GTEST_SKIP() << "the sink runs in push";
    gate door;
    std::vector<int> rows;
    auto const insert = [&](std::span<int> items) {
        door.pass();
        rows.insert(rows.end(), items.begin(), items.end());
    };
    typename TypeParam::template buffer<int, sink<int>> buffer(insert, 10);
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(buffer.push(i));
    std::atomic<bool> returned{false};
    std::thread one_more([&] {
        EXPECT_TRUE(buffer.push(20));
        returned = true;
    });
    give_time();
    EXPECT_FALSE(returned);
    EXPECT_EQ(buffer.stats().accepted, 20U);
    EXPECT_EQ(buffer.stats().delivered, 0U);
    door.open();
    one_more.join();
    buffer.close();
    std::vector<int> expected(21);
    for (int i = 0; i <= 20; ++i) expected[static_cast<std::size_t>(i)] = i;
    EXPECT_EQ(rows, expected);
}

TYPED_TEST(BatchBuffer, StopsAllProducersOnlyWhereThereIsOneBuffer) {
    gate door;
    typename TypeParam::template buffer<int, sink<int>> buffer([&](std::span<int>) { door.pass(); }, 10);
    std::thread filler([&] {
        for (int i = 0; i < 10; ++i) EXPECT_TRUE(buffer.push(i));
    });
    door.wait_until_somebody_waits();  // the sink has the first batch
    std::atomic<bool> returned{false};
    std::thread other([&] {
        EXPECT_TRUE(buffer.push(10));
        returned = true;
    });
    if (TypeParam::buffers == 1) {
        give_time();
        EXPECT_FALSE(returned);
    } else {
        wait_until([&] { return returned.load(); });
    }
    door.open();
    filler.join();
    other.join();
}

TYPED_TEST(BatchBuffer, CloseIsIdempotentAndRefusesItems) {
    table<int> rows;
    typename TypeParam::template buffer<int, sink<int>> buffer(std::ref(rows), 10);
    for (int i = 0; i < 15; ++i) ASSERT_TRUE(buffer.push(i));
    for (int i = 0; i < 3; ++i) {
        buffer.close();
        EXPECT_FALSE(buffer.push(100));
        buffer.flush();
        EXPECT_EQ(buffer.stats().accepted, 15U);
        EXPECT_EQ(buffer.stats().delivered, 15U);
        EXPECT_EQ(buffer.stats().batches, 2U);
    }
}

TYPED_TEST(BatchBuffer, TheDestructorDeliversWhatIsLeft) {
    for (int count = 0; count < 40; ++count) {
        table<int> rows;
        {
            typename TypeParam::template buffer<int, sink<int>> buffer(std::ref(rows), 10);
            for (int i = 0; i < count; ++i) ASSERT_TRUE(buffer.push(i));
        }
        EXPECT_EQ(rows.rows.size(), static_cast<std::size_t>(count));
    }
}

TYPED_TEST(BatchBuffer, CloseWakesAPushThatWaitsAndItsItemIsNotTaken) {
    if (TypeParam::buffers == 1) GTEST_SKIP() << "no push waits for room";
    gate door;
    typename TypeParam::template buffer<int, sink<int>> buffer([&](std::span<int>) { door.pass(); }, 1);
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(buffer.push(i));
    std::thread waits([&] { EXPECT_FALSE(buffer.push(2)); });
    give_time();
    std::thread closes([&] { buffer.close(); });
    waits.join();  // although the sink still has the first
    EXPECT_EQ(buffer.stats().delivered, 0U);
    door.open();
    closes.join();
    EXPECT_EQ(buffer.stats().delivered, 2U);
}

TYPED_TEST(BatchBuffer, KeepsTheOrderOfEachOfManyProducers) {
    constexpr unsigned producers = 4;
    for (std::size_t const batch : {1U, 7U, 100U}) {
        unsigned const count = (support::sanitized ? 500 : 5'000) * (batch == 1 ? 1 : 10);
        table<event> rows;
        std::atomic<int> inside{0};
        auto const insert = [&](std::span<event> items) {
            EXPECT_EQ(inside.fetch_add(1), 0) << "two calls of the sink at a time";
            rows(items);
            inside.fetch_sub(1);
        };
        typename TypeParam::template buffer<event, sink<event>> buffer(insert, batch);
        std::atomic<bool> done{false};
        std::thread watcher([&] {
            while (!done) {
                auto const stats = buffer.stats();
                EXPECT_LE(stats.delivered, stats.accepted);
                EXPECT_LE(stats.accepted - stats.delivered, TypeParam::buffers * batch);
                std::this_thread::yield();
            }
        });
        std::vector<std::thread> threads;
        for (unsigned p = 0; p < producers; ++p)
            threads.emplace_back([&, p] {
                for (unsigned i = 0; i < count; ++i) EXPECT_TRUE(buffer.push({p, i}));
            });
        for (auto& thread : threads) thread.join();
        buffer.close();
        done = true;
        watcher.join();
        expect_all(rows.rows, std::vector<unsigned>(producers, count));
    }
}

TYPED_TEST(BatchBuffer, FlushIsABarrierThatEndsUnderAFlood) {
    std::atomic<std::uint64_t> delivered{0};
    typename TypeParam::template buffer<int, sink<int>> buffer(
        [&](std::span<int> items) { delivered += items.size(); }, 16);
    std::atomic<bool> done{false};
    std::vector<std::thread> flood;
    for (int p = 0; p < 2; ++p)
        flood.emplace_back([&] {
            while (!done) EXPECT_TRUE(buffer.push(0));
        });
    for (int i = 0; i < 100; ++i) {
        EXPECT_TRUE(buffer.push(1));
        auto const accepted = buffer.stats().accepted;
        buffer.flush();
        EXPECT_GE(delivered, accepted);
    }
    done = true;
    for (auto& thread : flood) thread.join();
}

TYPED_TEST(BatchBuffer, ASinkThatThrowsBeforeItCommitsLosesAndRepeatsNothing) {
    constexpr unsigned producers = 4;
    unsigned const count = support::sanitized ? 3'000 : 20'000;
    std::mt19937 random{7};
    table<event> rows;
    int thrown = 0;
    auto const insert = [&](std::span<event> items) {
        if (random() % 10 < 3) {
            ++thrown;
            throw failure();
        }
        rows(items);
    };
    typename TypeParam::template buffer<event, sink<event>> buffer(insert, 10);
    std::atomic<int> heard{0};
    std::vector<std::thread> threads;
    for (unsigned p = 0; p < producers; ++p)
        threads.emplace_back([&, p] {
            for (unsigned i = 0; i < count;) {
                try {
                    EXPECT_TRUE(buffer.push({p, i}));
                    ++i;
                } catch (failure const&) {
                    ++heard;
                }
            }
        });
    for (auto& thread : threads) thread.join();
    for (bool closed = false; !closed;) {
        try {
            buffer.close();
            closed = true;
        } catch (failure const&) {
            ++heard;
        }
    }
    expect_all(rows.rows, std::vector<unsigned>(producers, count));
    EXPECT_GT(thrown, 0);
    EXPECT_EQ(heard, thrown);
}

TYPED_TEST(BatchBuffer, ASinkThatThrowsAfterItCommittedGetsTheSameBatchAgain) {
    table<int> rows;
    std::set<int> keys;
    std::vector<int> last;
    bool failed = false;
    int thrown = 0;
    std::mt19937 random{3};
    auto const insert = [&](std::span<int> items) {
        if (failed) {
            EXPECT_EQ(std::vector<int>(items.begin(), items.end()), last);
        }
        last.assign(items.begin(), items.end());
        rows(items);
        keys.insert(items.begin(), items.end());
        failed = random() % 3 == 0;
        if (failed) {
            ++thrown;
            throw failure();
        }
    };
    typename TypeParam::template buffer<int, sink<int>> buffer(insert, 10);
    for (int i = 0; i < 1'000;) {
        try {
            EXPECT_TRUE(buffer.push(i));
            ++i;
        } catch (failure const&) {
        }
    }
    for (bool closed = false; !closed;) {
        try {
            buffer.close();
            closed = true;
        } catch (failure const&) {
        }
    }
    EXPECT_GT(thrown, 0);
    EXPECT_EQ(keys.size(), 1'000U);
    EXPECT_EQ(rows.rows.size(), 1'000U + static_cast<std::size_t>(thrown) * 10);
}

TYPED_TEST(BatchBuffer, TheNextPushFlushOrCloseHearsOfAFailureAndDoesNothingElse) {
    for (std::string const caller : {"push", "flush", "close"}) {
        SCOPED_TRACE(caller);
        std::atomic<int> calls{0};
        std::atomic<bool> fails{true};
        table<int> rows;
        auto const insert = [&](std::span<int> items) {
            ++calls;
            if (fails) throw failure();
            rows(items);
        };
        typename TypeParam::template buffer<int, sink<int>> buffer(insert, 3);
        std::vector<int> expected{0, 1, 2};
        for (int const i : expected) ASSERT_TRUE(buffer.push(i));
        wait_until([&] { return calls == 1; });
        give_time();
        EXPECT_EQ(calls, 1);  // not tried again before somebody has heard of it
        fails = false;
        if (caller == "push") {
            // Until the flusher has noted the failure there is room for three more.
            bool heard = false;
            for (int i = 3; !heard; ++i) {
                ASSERT_LT(i, 7);
                try {
                    ASSERT_TRUE(buffer.push(i));
                    expected.push_back(i);
                } catch (failure const&) {
                    heard = true;
                }
            }
        } else if (caller == "flush") {
            EXPECT_THROW(buffer.flush(), failure);
        } else {
            EXPECT_THROW(buffer.close(), failure);
            EXPECT_FALSE(buffer.push(100));  // closed nonetheless
        }
        EXPECT_EQ(buffer.stats().accepted, expected.size());
        buffer.flush();
        EXPECT_EQ(rows.rows, expected);
        buffer.close();
    }
}

TYPED_TEST(BatchBuffer, ClosingTwiceTriesTwice) {
    int calls = 0;
    table<int> rows;
    auto const insert = [&](std::span<int> items) {
        if (++calls <= 2) throw failure();
        rows(items);
    };
    typename TypeParam::template buffer<int, sink<int>> buffer(insert, 3);
    ASSERT_TRUE(buffer.push(1));
    EXPECT_THROW(buffer.close(), failure);
    EXPECT_THROW(buffer.close(), failure);
    buffer.close();
    EXPECT_EQ(rows.rows, (std::vector<int>{1}));
    EXPECT_EQ(calls, 3);
}

TYPED_TEST(BatchBuffer, ADestructorThatCannotDeliverAndCannotSayItEndsTheProgram) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    auto const lose = [] {
        auto const fail = [](std::span<int>) { throw failure(); };
        typename TypeParam::template buffer<int, decltype(fail)> buffer(fail, 3);
        (void)buffer.push(1);
    };
    EXPECT_DEATH(lose(), "the sink fails");
}

TYPED_TEST(BatchBuffer, ThatACallerHasHeardOfOneBatchDoesNotExcuseTheNext) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    auto const lose = [] {
        int calls = 0;
        auto const fail = [&](std::span<int>) {
            if (++calls != 2) throw failure();
        };
        typename TypeParam::template buffer<int, decltype(fail)> buffer(fail, 3);
        (void)buffer.push(1);
        try {
            buffer.flush();
        } catch (failure const&) {
        }
        buffer.flush();  // it is delivered now
        (void)buffer.push(2);
    };
    EXPECT_DEATH(lose(), "the sink fails");
}

TYPED_TEST(BatchBuffer, ADestructorDropsWhatACallerHasHeardOf) {
    std::atomic<int> calls{0};
    {
        typename TypeParam::template buffer<int, sink<int>> buffer(
            [&](std::span<int>) {
                ++calls;
                throw failure();
            },
            3);
        ASSERT_TRUE(buffer.push(1));
        EXPECT_THROW(buffer.close(), failure);
    }
    EXPECT_GE(calls, 2);  // it tried once more
}

TYPED_TEST(BatchBuffer, TheDestructorTriesABatchOnceMore) {
    int calls = 0;
    table<int> rows;
    {
        auto const insert = [&](std::span<int> items) {
            if (++calls == 1) throw failure();
            rows(items);
        };
        typename TypeParam::template buffer<int, sink<int>> buffer(insert, 2);
        ASSERT_TRUE(buffer.push(1));
        ASSERT_TRUE(buffer.push(2));
        give_time();  // the failure is there, and nobody hears of it
    }
    EXPECT_EQ(rows.rows, (std::vector<int>{1, 2}));
}

TYPED_TEST(BatchBuffer, PushesThatRaceWithCloseAreDeliveredOrRefused) {
    int const laps = support::sanitized ? 100 : 1'000;
    for (int lap = 0; lap < laps; ++lap) {
        constexpr unsigned producers = 3;
        table<event> rows;
        std::vector<unsigned> accepted(producers);
        typename TypeParam::template buffer<event, sink<event>> buffer(std::ref(rows), 4);
        std::vector<std::thread> threads;
        for (unsigned p = 0; p < producers; ++p)
            threads.emplace_back([&, p] {
                while (accepted[p] < 1'000 && buffer.push({p, accepted[p]})) ++accepted[p];
            });
        std::vector<std::thread> closers;
        for (int c = 0; c < 2; ++c) closers.emplace_back([&] { buffer.close(); });
        for (auto& thread : closers) thread.join();
        // When close returned all that was accepted is delivered, though producers still run.
        std::size_t const delivered = buffer.stats().delivered;
        for (auto& thread : threads) thread.join();
        EXPECT_EQ(rows.rows.size(), delivered);
        expect_all(rows.rows, accepted);
    }
}

TYPED_TEST(BatchBuffer, AMoveThatThrowsLeavesTheBufferAsItWas) {
    struct fragile {
        int number;
        int* until_throw;
        fragile(int n, int* until) : number(n), until_throw(until) {}
        fragile(fragile const& other) = default;
        fragile& operator=(fragile const& other) = default;
        fragile(fragile&& other) : number(other.number), until_throw(other.until_throw) {
            if ((*until_throw)-- == 0) throw std::logic_error("the move fails");
        }
        fragile& operator=(fragile&& other) = default;
        ~fragile() = default;
    };
    int until_throw = -1;
    std::vector<int> rows;
    std::vector<int> expected;
    auto const insert = [&](std::span<fragile> items) {
        for (auto const& item : items) rows.push_back(item.number);
    };
    typename TypeParam::template buffer<fragile, sink<fragile>> buffer(insert, 5);
    int thrown = 0;
    for (int i = 0; i < 100; ++i) {
        fragile const item(i, &until_throw);
        until_throw = i % 7 == 3 ? 0 : -1;
        try {
            EXPECT_TRUE(buffer.push(item));
            expected.push_back(i);
        } catch (std::logic_error const&) {
            ++thrown;
        }
    }
    until_throw = -1;
    buffer.close();
    EXPECT_EQ(thrown, 14);
    EXPECT_EQ(rows, expected);
}

TYPED_TEST(BatchBuffer, AllocatesNothingOnceWarm) {
    std::uint64_t sum = 0;
    std::size_t in_the_sink = 0;  // allocations are counted for each thread
    auto const add = [&](std::span<int> items) {
        for (int const item : items) sum += static_cast<std::uint64_t>(item);
        in_the_sink = support::allocations;
    };
    typename TypeParam::template buffer<int, decltype(add)> buffer(add, 10);
    auto const lap = [&] {
        for (int i = 0; i < 95; ++i) EXPECT_TRUE(buffer.push(i));
        buffer.flush();
    };
    lap();
    std::size_t const before = support::allocations;
    std::size_t const before_in_the_sink = in_the_sink;
    for (int i = 0; i < 100; ++i) lap();
    EXPECT_EQ(support::allocations, before);
    EXPECT_EQ(in_the_sink, before_in_the_sink);
    EXPECT_EQ(sum, 101U * (94 * 95 / 2));
}

TYPED_TEST(BatchBuffer, EndsItemsOnceTheyAreDelivered) {
    auto const counted = std::make_shared<int>(0);
    typename TypeParam::template buffer<std::shared_ptr<int>, sink<std::shared_ptr<int>>> buffer(
        [](std::span<std::shared_ptr<int>>) {}, 4);
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(buffer.push(counted));
    buffer.flush();
    EXPECT_EQ(counted.use_count(), 1);
}

template <class Kind>
class BatchBufferOfMoveOnly : public testing::Test {};
using moving_kinds = testing::Types<single, swapping>;
TYPED_TEST_SUITE(BatchBufferOfMoveOnly, moving_kinds);

TYPED_TEST(BatchBufferOfMoveOnly, TakesThem) {
    std::vector<std::unique_ptr<int>> rows;
    auto const keep = [&](std::span<std::unique_ptr<int>> items) {
        for (auto& item : items) rows.push_back(std::move(item));
    };
    typename TypeParam::template buffer<std::unique_ptr<int>, decltype(keep)> buffer(keep, 3);
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(buffer.push(std::make_unique<int>(i)));
    buffer.close();
    ASSERT_EQ(rows.size(), 10U);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(*rows[static_cast<std::size_t>(i)], i);
}

/// Counts its copies, and throws at the one it is told to.
struct copied {
    static inline std::atomic<int> copies{0};
    static inline std::atomic<int> until_throw{-1};
    static void count() {
        if (until_throw >= 0 && until_throw-- == 0) throw std::logic_error("the copy fails");
        ++copies;
    }
    explicit copied(int n) : number(n) {}
    copied(copied const& other) : number(other.number) { count(); }
    copied(copied&& other) noexcept : number(other.number) {}
    copied& operator=(copied const& other) {
        count();
        number = other.number;
        return *this;
    }
    copied& operator=(copied&& other) noexcept = default;
    ~copied() = default;
    int number;
};

TEST(DoubleBuffer, CopiesNothing) {
    copied::copies = 0;
    auto const ignore = [](std::span<copied>) {};
    cairn::double_buffer<copied, decltype(ignore)> buffer(ignore, 10);
    for (int i = 0; i < 105; ++i) ASSERT_TRUE(buffer.push(copied(i)));
    buffer.close();
    EXPECT_EQ(copied::copies, 0);
}

TEST(CopyBuffer, CopiesEachItemOnce) {
    copied::copies = 0;
    auto const ignore = [](std::span<copied>) {};
    cairn::copy_buffer<copied, decltype(ignore)> buffer(ignore, 10);
    for (int i = 0; i < 105; ++i) ASSERT_TRUE(buffer.push(copied(i)));
    buffer.close();
    EXPECT_EQ(copied::copies, 105);
}

TEST(CopyBuffer, ACopyThatThrowsIsHeardOfAndMadeAgain) {
    for (int at = 0; at < 25; ++at) {
        SCOPED_TRACE("the copy " + std::to_string(at) + " fails");
        copied::until_throw = at;
        std::vector<int> rows;
        std::vector<int> expected;
        auto const insert = [&](std::span<copied> items) {
            for (auto const& item : items) rows.push_back(item.number);
        };
        int heard = 0;
        {
            cairn::copy_buffer<copied, decltype(insert)> buffer(insert, 10);
            for (int i = 0; i < 25;) {
                try {
                    EXPECT_TRUE(buffer.push(copied(i)));
                    expected.push_back(i++);
                } catch (std::logic_error const&) {
                    ++heard;
                }
            }
            try {
                buffer.close();
            } catch (std::logic_error const&) {
                ++heard;
                buffer.close();
            }
        }
        EXPECT_EQ(heard, 1);
        EXPECT_EQ(rows, expected);
        copied::until_throw = -1;
    }
}

}  // namespace
