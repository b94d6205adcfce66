// SPDX-License-Identifier: MIT
#include <cairn/pool_resource.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <memory_resource>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

/// Counts what is out, and lets a request fail when told to.
struct upstream : std::pmr::memory_resource {
    std::size_t out = 0, requests = 0, left = static_cast<std::size_t>(-1);
    void* do_allocate(std::size_t n, std::size_t alignment) override {
        if (left == 0) throw std::bad_alloc();
        --left;
        ++requests;
        out += n;
        return std::pmr::new_delete_resource()->allocate(n, alignment);
    }
    void do_deallocate(void* p, std::size_t n, std::size_t alignment) override {
        out -= n;
        std::pmr::new_delete_resource()->deallocate(p, n, alignment);
    }
    [[nodiscard]] bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }
};

TEST(PoolResource, BlocksOfAllSizesAndAlignmentsAreAlignedAndApart) {
    upstream up;
    {
        cairn::pool_resource pool(&up);
        struct block {
            std::size_t bytes, alignment;
            unsigned char mark;
        };
        std::map<std::byte*, block> live;
        std::mt19937 random(20'261'124);
        for (int i = 0; i < 40'000; ++i) {
            if (live.size() < 500 || random() % 2 == 0) {
                block const b{random() % 5'000, std::size_t{1} << (random() % 4 == 0 ? random() % 14 : 3),
                              static_cast<unsigned char>(random())};
                auto* const at = static_cast<std::byte*>(pool.allocate(b.bytes, b.alignment));
                ASSERT_EQ(reinterpret_cast<std::uintptr_t>(at) % b.alignment, 0U);
                std::memset(at, b.mark, b.bytes);
                auto const [where, fresh] = live.emplace(at, b);
                ASSERT_TRUE(fresh);
                if (auto const next = std::next(where); next != live.end()) {
                    ASSERT_LE(at + b.bytes, next->first);
                }
                if (where != live.begin()) {
                    ASSERT_LE(std::prev(where)->first + std::prev(where)->second.bytes, at);
                }
            } else {
                auto const which = std::next(live.begin(), static_cast<std::ptrdiff_t>(random() % 20));
                auto const& [at, b] = *which;
                for (std::size_t k = 0; k < b.bytes; ++k) ASSERT_EQ(at[k], std::byte{b.mark});
                pool.deallocate(at, b.bytes, b.alignment);
                live.erase(which);
            }
        }
        for (auto const& [at, b] : live) pool.deallocate(at, b.bytes, b.alignment);
        EXPECT_EQ(pool.size(), 0U);
        pool.shrink();
    }
    EXPECT_EQ(up.out, 0U);
}

TEST(PoolResource, ServesStandardContainers) {
    upstream up;
    {
        cairn::pool_resource pool(&up);
        std::pmr::map<int, std::pmr::string> map(&pool);
        std::pmr::list<int> list(&pool);
        std::pmr::unordered_map<int, int> unordered(&pool);
        for (int i = 0; i < 10'000; ++i) {
            map.emplace(i, std::pmr::string(static_cast<std::size_t>(i % 300), 'x', &pool));
            list.push_front(i);
            unordered[i] = i;
        }
        for (int i = 0; i < 10'000; i += 2) {
            map.erase(i);
            list.pop_back();
            unordered.erase(i);
        }
        EXPECT_EQ(map.size(), 5'000U);
        EXPECT_EQ(map.at(4'999).size(), 4'999U % 300);
        EXPECT_EQ(list.front(), 9'999);
        EXPECT_EQ(unordered.at(7'777), 7'777);
        EXPECT_GT(pool.size(), 15'000U - 1);
    }
    EXPECT_EQ(up.out, 0U);
}

TEST(PoolResource, AsksTheUpstreamForNothingOnceItIsWarm) {
    upstream up;
    cairn::pool_resource pool(&up);
    auto const round = [&] {
        std::pmr::list<std::array<char, 100>> list(&pool);
        list.resize(5'000);
    };
    round();
    std::size_t const before = up.requests;
    for (int i = 0; i < 5; ++i) round();
    EXPECT_EQ(up.requests, before);
}

TEST(PoolResource, PassesLargeBlocksOn) {
    upstream up;
    cairn::pool_resource pool(&up);
    void* const large = pool.allocate(cairn::pool_resource::largest_block + 1);
    EXPECT_EQ(up.requests, 1U);
    EXPECT_EQ(pool.size(), 0U);
    pool.deallocate(large, cairn::pool_resource::largest_block + 1);
    EXPECT_EQ(up.out, 0U);
    EXPECT_EQ(pool.upstream_resource(), &up);
    cairn::pool_resource const other(&up);
    EXPECT_TRUE(pool.is_equal(pool));
    EXPECT_FALSE(pool.is_equal(other));
}

TEST(PoolResource, ReleaseGivesAllBackAndItCanBeUsedAgain) {
    upstream up;
    cairn::pool_resource pool(&up);
    for (int i = 0; i < 1'000; ++i) (void)pool.allocate(40);
    EXPECT_EQ(pool.size(), 1'000U);
    pool.release();
    EXPECT_EQ(pool.size(), 0U);
    EXPECT_EQ(up.out, 0U);
    void* const again = pool.allocate(40);
    EXPECT_EQ(pool.size(), 1U);
    pool.deallocate(again, 40);
}

TEST(PoolResource, IsUnharmedByAnUpstreamThatThrowsAtAnyRequest) {
    for (std::size_t n = 0;; ++n) {
        upstream up;
        up.left = n;
        {
            cairn::pool_resource pool(&up);
            std::pmr::list<std::array<char, 60>> list(&pool);
            bool threw = false;
            try {
                for (int i = 0; i < 1'000; ++i) list.emplace_back();
            } catch (std::bad_alloc const&) {
                threw = true;
            }
            EXPECT_EQ(pool.size(), list.size());
            up.left = static_cast<std::size_t>(-1);
            list.emplace_back();
            if (!threw) {
                EXPECT_GT(n, 3U);
                return;
            }
        }
        ASSERT_EQ(up.out, 0U);
    }
}

#if !defined(NDEBUG)
void release_with_another_size() {
    cairn::pool_resource pool;
    void* const small = pool.allocate(32);
    (void)pool.allocate(64);
    pool.deallocate(small, 64);
}
void release_a_block_twice() {
    cairn::pool_resource pool;
    void* const block = pool.allocate(32);
    pool.deallocate(block, 32);
    pool.deallocate(block, 32);
}

TEST(PoolResourceDeathTest, CatchesMisuse) {
    if (support::sanitized) GTEST_SKIP() << "the sanitizer reports these first";
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    EXPECT_DEATH(release_with_another_size(), "did not come from");
    EXPECT_DEATH(release_a_block_twice(), "released twice");
}
#endif

}  // namespace
