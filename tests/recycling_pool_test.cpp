// SPDX-License-Identifier: MIT
#include <cairn/recycling_pool.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"

namespace {

/// Counts how many there are; says whether it was reset.
struct counted {
    static inline std::atomic<int> alive{0};
    bool clean = true;
    counted() { ++alive; }
    ~counted() { --alive; }
    counted(counted const&) = delete;
    counted& operator=(counted const&) = delete;
    void reset() { clean = true; }
};

struct request {  // no reset of its own: assignment keeps what its members own
    std::string path;
    std::vector<int> numbers;
    bool secure = false;
};

struct with_clear {
    int cleared = 0;
    void clear() { ++cleared; }
};

TEST(RecyclingPool, HandsOutACleanObjectWithItsBuffers) {
    cairn::recycling_pool<request> pool;
    request const* first = nullptr;
    {
        auto const one = pool.acquire();
        first = one.get();
        one->path.assign(500, 'x');
        one->numbers.assign(100, 7);
        one->secure = true;
    }
    std::size_t const before = support::allocations;
    auto const again = pool.acquire();
    EXPECT_EQ(support::allocations, before);
    EXPECT_EQ(again.get(), first);
    EXPECT_TRUE(again->path.empty());
    EXPECT_GE(again->path.capacity(), 500U);
    EXPECT_TRUE(again->numbers.empty());
    EXPECT_GE(again->numbers.capacity(), 100U);
    EXPECT_FALSE(again->secure);
}

TEST(RecyclingPool, ResetsByMemberByClearOrByAFunctionObject) {
    cairn::recycling_pool<counted> by_member;
    by_member.acquire()->clean = false;
    EXPECT_TRUE(by_member.acquire()->clean);

    cairn::recycling_pool<with_clear> by_clear;
    {
        auto const one = by_clear.acquire();
    }
    EXPECT_EQ(by_clear.acquire()->cleared, 1);

    auto const add_one = [](int& n) { ++n; };
    cairn::recycling_pool<int, decltype(add_one)> by_function(10, add_one);
    EXPECT_EQ(*by_function.acquire(), 0);
    EXPECT_EQ(*by_function.acquire(), 1);
    EXPECT_EQ(*by_function.acquire(), 2);
}

TEST(RecyclingPool, KeepsNoMoreThanItsBound) {
    {
        cairn::recycling_pool<counted> pool(100);
        std::vector<cairn::recycling_pool<counted>::handle> out;
        for (int i = 0; i < 1'000; ++i) out.push_back(pool.acquire());
        EXPECT_EQ(counted::alive, 1'000);
        out.clear();
        EXPECT_LE(pool.kept(), 100U + 2 * pool.magazine_size);
        EXPECT_GE(pool.kept(), 96U);
        EXPECT_EQ(static_cast<std::size_t>(counted::alive), pool.kept());
        pool.shrink();
        EXPECT_LE(pool.kept(), 2U * pool.magazine_size);
    }
    EXPECT_EQ(counted::alive, 0);
}

TEST(RecyclingPool, DoesNotKeepWhatKeepRefuses) {
    auto const small = [](std::string const& text) { return text.capacity() <= 1'000; };
    cairn::recycling_pool<std::string, cairn::reset_object, decltype(small)> pool(10, {}, small);
    pool.acquire()->reserve(100);
    EXPECT_EQ(pool.kept(), 1U);
    pool.acquire()->reserve(5'000);
    EXPECT_EQ(pool.kept(), 0U);
}

TEST(RecyclingPool, AResetThatThrowsEndsTheObjectAndReachesTheCaller) {
    auto const refuse = [](counted&) { throw std::runtime_error("no"); };
    cairn::recycling_pool<counted, decltype(refuse)> pool(10, refuse);
    {
        auto const one = pool.acquire();
    }
    EXPECT_EQ(pool.kept(), 1U);
    EXPECT_THROW((void)pool.acquire(), std::runtime_error);
    EXPECT_EQ(pool.kept(), 0U);
    EXPECT_EQ(counted::alive, 0);
    EXPECT_NE(pool.acquire(), nullptr);  // a new one needs no reset
}

/// Does something when it ends, or is reset.
struct with_last_words {
    std::function<void()> last_words;
    with_last_words() = default;
    ~with_last_words() { reset(); }
    with_last_words(with_last_words const&) = delete;
    with_last_words& operator=(with_last_words const&) = delete;
    void reset() {
        if (auto const words = std::exchange(last_words, nullptr)) words();
    }
};

TEST(RecyclingPool, AnObjectMayGiveAnotherOneBackFromWithinItsEnd) {
    cairn::recycling_pool<with_last_words> pool;
    std::vector<cairn::recycling_pool<with_last_words>::handle> outer;
    for (int i = 0; i < 200; ++i) {
        outer.push_back(pool.acquire());
        outer.back()->last_words = [&pool, inner = pool.acquire().release()] { pool.release(inner); };
    }
    outer.clear();  // kept; the inner ones are still out
    EXPECT_EQ(pool.kept(), 200U);
    pool.shrink();  // ends most of them, and each gives its inner one back meanwhile
    EXPECT_LE(pool.kept(), 2U * pool.magazine_size);
    while (pool.kept() != 0) outer.push_back(pool.acquire());
    outer.clear();
}

TEST(RecyclingPool, IsUnharmedByAnyAllocationThatFails) {
    for (std::size_t n = 0;; ++n) {
        cairn::recycling_pool<counted> pool;
        bool threw = false;
        std::thread([&] {
            std::vector<cairn::recycling_pool<counted>::handle> out;
            out.reserve(100);
            support::fail_after const limit(n);
            try {
                for (int i = 0; i < 100; ++i) out.push_back(pool.acquire());
            } catch (std::bad_alloc const&) {
                threw = true;
            }
            out.clear();
        }).join();
        ASSERT_EQ(static_cast<std::size_t>(counted::alive), pool.kept());
        if (!threw) return;
    }
}

TEST(RecyclingPool, ObjectsAreSharedByThreadsThatComeAndGo) {
    {
        cairn::recycling_pool<counted> pool(64);
        for (int generation = 0; generation < 20; ++generation) {
            std::vector<std::thread> threads;
            for (unsigned t = 0; t < 3; ++t)
                threads.emplace_back([&pool, t] {
                    std::mt19937 random(t);
                    std::vector<cairn::recycling_pool<counted>::handle> mine;
                    for (int i = 0; i < 1'000; ++i) {
                        if (mine.size() < 20 && random() % 2 == 0) {
                            mine.push_back(pool.acquire());
                            if (!mine.back()->clean) std::abort();
                            mine.back()->clean = false;
                        } else if (!mine.empty()) {
                            mine.pop_back();
                        }
                    }
                });
            for (auto& one : threads) one.join();
        }
        EXPECT_EQ(static_cast<std::size_t>(counted::alive), pool.kept());
        EXPECT_LE(pool.kept(), 64U);  // no thread is left to keep any
    }
    EXPECT_EQ(counted::alive, 0);
}

}  // namespace
