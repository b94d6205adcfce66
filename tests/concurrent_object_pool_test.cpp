// SPDX-License-Identifier: MIT
#include <cairn/concurrent_object_pool.hpp>
#include <cairn/spsc_queue.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

/// Notices that somebody else has it too, or had it and wrote to it.
struct owned {
    std::uint64_t number, check;
    std::atomic<int> owners{1};
    explicit owned(std::uint64_t n) : number(n), check(~n) {}
    ~owned() {
        if (owners.fetch_sub(1, std::memory_order_relaxed) != 1 || check != ~number) std::abort();
    }
};

template <class Body>
void in_threads(int n, Body body) {
    std::vector<std::thread> threads;
    for (int i = 0; i < n; ++i) threads.emplace_back(body, i);
    for (auto& one : threads) one.join();
}

TEST(ConcurrentObjectPool, EachObjectHasOneOwnerAmongThreadsThatComeAndGo) {
    cairn::concurrent_object_pool<owned> pool;
    std::mutex mutex;
    std::vector<cairn::concurrent_object_pool<owned>::handle> shared;  // ended by whoever
    for (int generation = 0; generation < 8; ++generation)
        in_threads(4, [&](int thread) {
            std::mt19937 random(static_cast<unsigned>(generation * 10 + thread));
            std::vector<cairn::concurrent_object_pool<owned>::handle> mine;
            for (int i = 0; i < 4'000; ++i) {
                switch (random() % 4) {
                    case 0:
                    case 1:
                        mine.push_back(pool.make(random()));
                        break;
                    case 2:
                        if (!mine.empty()) mine.pop_back();
                        break;
                    default: {
                        std::lock_guard const lock(mutex);
                        if (!mine.empty()) {
                            shared.push_back(std::move(mine.back()));
                            mine.pop_back();
                        }
                        if (shared.size() > 500) shared.erase(shared.begin(), shared.begin() + 300);
                    }
                }
            }
        });
    EXPECT_EQ(pool.size(), shared.size());
    shared.clear();
    EXPECT_EQ(pool.size(), 0U);
}

TEST(ConcurrentObjectPool, SlotsThatOneThreadReleasesReachTheOther) {
    cairn::concurrent_object_pool<std::uint64_t> pool;
    cairn::spsc_queue<std::uint64_t*> queue(256);
    constexpr std::uint64_t n = support::sanitized ? 30'000 : 300'000;
    std::uint64_t sum = 0;
    std::thread consumer([&] {
        while (auto const object = queue.pop()) {
            sum += **object;
            pool.destroy(*object);
        }
    });
    for (std::uint64_t i = 0; i < n; ++i) queue.push(pool.construct(i));
    queue.close();
    consumer.join();
    EXPECT_EQ(sum, n * (n - 1) / 2);
    EXPECT_EQ(pool.size(), 0U);
    EXPECT_LE(pool.capacity(), 4'096U);  // they went round, or there would be n
}

TEST(ConcurrentObjectPool, AThreadThatEndsLeavesItsSlotsToTheOthers) {
    cairn::concurrent_object_pool<std::uint64_t> pool;
    for (int i = 0; i < 200; ++i)
        in_threads(1, [&](int) {
            std::vector<std::uint64_t*> out;
            for (std::uint64_t k = 0; k < 100; ++k) out.push_back(pool.construct(k));
            for (auto* const one : out) pool.destroy(one);
        });
    EXPECT_EQ(pool.size(), 0U);
    EXPECT_LE(pool.capacity(), 1'024U);  // 200 threads x 100 objects went through them
}

TEST(ConcurrentObjectPool, ThreadsMayOutliveItAndMeetItsSuccessorAtTheSameAddress) {
    std::optional<cairn::concurrent_object_pool<owned>> pool;
    std::atomic<int> turn{0};
    std::thread longer([&] {
        for (int i = 1; i <= 50; ++i) {
            while (turn.load(std::memory_order_acquire) != 2 * i - 1) std::this_thread::yield();
            std::vector<cairn::concurrent_object_pool<owned>::handle> some;
            for (std::uint64_t k = 0; k < 150; ++k) some.push_back(pool->make(k));
            some.clear();
            turn.store(2 * i, std::memory_order_release);
        }
    });
    for (int i = 1; i <= 50; ++i) {
        pool.emplace();
        {
            auto const mine = pool->make(std::uint64_t{1});
        }
        turn.store(2 * i - 1, std::memory_order_release);
        while (turn.load(std::memory_order_acquire) != 2 * i) std::this_thread::yield();
        EXPECT_EQ(pool->size(), 0U);
        pool.reset();
    }
    longer.join();
}

TEST(ConcurrentObjectPool, ManyPoolsInOneThreadKeepTheirSlotsApart) {
    std::vector<std::unique_ptr<cairn::concurrent_object_pool<std::uint64_t>>> pools;
    for (int i = 0; i < 30; ++i)
        pools.push_back(std::make_unique<cairn::concurrent_object_pool<std::uint64_t>>());
    std::vector<std::vector<std::uint64_t*>> out(pools.size());
    for (std::uint64_t k = 0; k < 500; ++k)
        for (std::size_t p = 0; p < pools.size(); ++p) out[p].push_back(pools[p]->construct(p * 1'000 + k));
    for (std::size_t p = 0; p < pools.size(); ++p) {
        EXPECT_EQ(pools[p]->size(), 500U);
        for (std::uint64_t k = 0; k < 500; ++k) ASSERT_EQ(*out[p][k], p * 1'000 + k);
        for (auto* const one : out[p]) pools[p]->destroy(one);
        if (p % 2 == 0) pools[p].reset();
    }
}

TEST(ConcurrentObjectPool, AllocatesNothingOnceItIsWarm) {
    cairn::concurrent_object_pool<std::array<char, 64>> pool;
    auto const round = [&] {
        std::array<std::array<char, 64>*, 1'000> out;
        for (auto& one : out) one = pool.construct();
        for (auto* const one : out) pool.destroy(one);
    };
    round();
    round();
    std::size_t const before = support::allocations;
    for (int i = 0; i < 10; ++i) round();
    EXPECT_EQ(support::allocations, before);
}

TEST(ConcurrentObjectPool, IsUnharmedByAnAllocatorThatThrowsAtAnyAllocation) {
    for (std::size_t n = 0;; ++n) {
        bool threw = false;
        cairn::concurrent_object_pool<std::uint64_t> pool;
        std::thread([&] {  // a new thread each time: its magazines are allocated too
            std::vector<std::uint64_t*> out;
            out.reserve(2'000);
            {
                support::fail_after const limit(n);
                try {
                    for (std::uint64_t i = 0; i < 2'000; ++i) out.push_back(pool.construct(i));
                } catch (std::bad_alloc const&) {
                    threw = true;
                }
                for (std::uint64_t i = 0; i < out.size(); ++i)
                    if (*out[i] != i) std::abort();
                for (auto* const one : out) pool.destroy(one);  // needs magazines, does without
            }
        })
            .join();
        ASSERT_EQ(pool.size(), 0U) << n;
        pool.destroy(pool.construct(std::uint64_t{1}));
        if (!threw) {
            EXPECT_GT(n, 3U);
            return;
        }
    }
}

TEST(ConcurrentObjectPool, IsUnharmedByAConstructorThatThrows) {
    struct fussy {
        explicit fussy(int i) {
            if (i % 2 == 0) throw std::runtime_error("no");
        }
    };
    cairn::concurrent_object_pool<fussy> pool;
    in_threads(2, [&](int) {
        for (int i = 0; i < 1'000; ++i)
            if (i % 2 == 0)
                EXPECT_THROW((void)pool.make(i), std::runtime_error);
            else
                EXPECT_NE(pool.make(i), nullptr);
    });
    EXPECT_EQ(pool.size(), 0U);
}

TEST(ConcurrentObjectPool, ShrinkGivesBackWhatNoThreadKeeps) {
    cairn::concurrent_object_pool<std::array<char, 64>> pool;
    std::thread([&] {
        std::vector<std::array<char, 64>*> out;
        for (int i = 0; i < 10'000; ++i) out.push_back(pool.construct());
        for (auto* const one : out) pool.destroy(one);
    }).join();
    EXPECT_GE(pool.capacity(), 10'000U);
    pool.shrink();
    EXPECT_EQ(pool.capacity(), 0U);  // the thread is gone, so all was in the depot
}

#if !defined(NDEBUG)
void release_twice_in_two_threads() {
    cairn::concurrent_object_pool<std::uint64_t> pool;
    auto* const one = pool.construct(1U);
    std::thread([&] { pool.destroy(one); }).join();
    pool.destroy(one);
}
void end_while_one_is_out() {
    cairn::concurrent_object_pool<std::uint64_t> pool;
    (void)pool.construct(1U);
}

TEST(ConcurrentObjectPoolDeathTest, CatchesMisuse) {
    if (support::sanitized) GTEST_SKIP() << "the sanitizer reports these first";
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    EXPECT_DEATH(release_twice_in_two_threads(), "released twice");
    EXPECT_DEATH(end_while_one_is_out(), "ends while objects are out");
}
#endif

}  // namespace
