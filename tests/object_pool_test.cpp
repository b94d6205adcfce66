// SPDX-License-Identifier: MIT
#include <cairn/object_pool.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <memory_resource>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

/// An object of `Size` bytes, aligned so, that knows whether it is the one that was made.
template <std::size_t Size, std::size_t Alignment = 1>
struct alignas(Alignment) block {
    std::array<unsigned char, Size> bytes;

    explicit block(std::uint32_t number) {
        std::generate(bytes.begin(), bytes.end(), [number, i = 0U]() mutable { return mark(number, i++); });
    }
    [[nodiscard]] bool is(std::uint32_t number) const {
        std::uint32_t i = 0;
        return std::all_of(bytes.begin(), bytes.end(),
                           [&](unsigned char c) { return c == mark(number, i++); });
    }
    static unsigned char mark(std::uint32_t number, std::uint32_t i) {
        return static_cast<unsigned char>((number + i) * 2'654'435'761U >> 24);
    }
};

template <class T>
class ObjectPoolOf : public testing::Test {};
using kinds = testing::Types<block<1>, block<4>, block<8>, block<16>, block<24>, block<64>, block<200>,
                             block<5'000>, block<40, 8>, block<64, 64>, block<96, 32>, block<256, 256>>;
TYPED_TEST_SUITE(ObjectPoolOf, kinds);

TYPED_TEST(ObjectPoolOf, KeepsItsObjectsApartInAnyOrderOfCalls) {
    std::random_device::result_type const seed = 20'261'124;
    std::mt19937 random(seed);
    cairn::object_pool<TypeParam> pool;
    std::map<TypeParam*, std::uint32_t> live;  // ordered by address, so overlaps are neighbours
    std::vector<TypeParam*> order;
    for (std::uint32_t i = 0; i < 30'000; ++i) {
        bool const growing = i / 5'000 % 2 == 0;  // waves, deeper than the arrays of free slots
        if (order.empty() || random() % 100 < (growing ? 75U : 25U)) {
            TypeParam* const made = pool.construct(i);
            ASSERT_EQ(reinterpret_cast<std::uintptr_t>(made) % alignof(TypeParam), 0U);
            auto const [at, fresh] = live.emplace(made, i);
            ASSERT_TRUE(fresh);
            if (auto const next = std::next(at); next != live.end()) {
                ASSERT_LE(made + 1, next->first);
            }
            if (at != live.begin()) {
                ASSERT_LE(std::prev(at)->first + 1, made);
            }
            order.push_back(made);
        } else {
            std::swap(order[random() % order.size()], order.back());
            ASSERT_TRUE(order.back()->is(live.at(order.back())));
            live.erase(order.back());
            pool.destroy(order.back());
            order.pop_back();
        }
        if (i % 7'000 == 6'999) pool.shrink();
        ASSERT_EQ(pool.size(), order.size()) << "seed " << seed;
        ASSERT_GE(pool.capacity(), pool.size());
    }
    for (auto const& [object, number] : live) {
        EXPECT_TRUE(object->is(number));
        pool.destroy(object);
    }
    pool.shrink();
    EXPECT_EQ(pool.size(), 0U);
    EXPECT_EQ(pool.capacity(), 0U);
}

TYPED_TEST(ObjectPoolOf, HandsAReleasedSlotOutNext) {
    cairn::object_pool<TypeParam> pool;
    TypeParam* const first = pool.construct(1U);
    TypeParam* const second = pool.construct(2U);
    pool.destroy(first);
    EXPECT_EQ(pool.construct(3U), first);
    pool.destroy(second);
    EXPECT_EQ(pool.construct(4U), second);
    pool.destroy(first);
    pool.destroy(second);
}

TEST(ObjectPool, UsesNoByteBeyondTheSlotsASlabsHeaderAndTheHotArrays) {
    if (cairn::detail::checked) GTEST_SKIP() << "slots carry a word where contracts are checked";
    struct counting : std::pmr::memory_resource {
        std::size_t bytes = 0;
        void* do_allocate(std::size_t n, std::size_t alignment) override {
            bytes += n;
            return std::pmr::new_delete_resource()->allocate(n, alignment);
        }
        void do_deallocate(void* p, std::size_t n, std::size_t alignment) override {
            bytes -= n;
            std::pmr::new_delete_resource()->deallocate(p, n, alignment);
        }
        [[nodiscard]] bool do_is_equal(memory_resource const& other) const noexcept override {
            return this == &other;
        }
    } resource;
    {
        using pmr = std::pmr::polymorphic_allocator<block<48>>;
        cairn::object_pool<block<48>, pmr> pool{pmr(&resource)};
        EXPECT_EQ(resource.bytes, 0U);
        pool.reserve(100'000);
        EXPECT_LE(resource.bytes, 100'000 * 48 + 128 + 2 * 8'192 * sizeof(void*));
        std::size_t const before = resource.bytes;
        std::vector<decltype(pool)::handle> all;
        for (std::uint32_t i = 0; i < 100'000; ++i) all.push_back(pool.make(i));
        EXPECT_EQ(resource.bytes, before);
        EXPECT_EQ(pool.size(), 100'000U);
    }
    EXPECT_EQ(resource.bytes, 0U);
}

TEST(ObjectPool, AllocatesNothingOnceItIsWarm) {
    cairn::object_pool<block<64>> pool;
    std::vector<block<64>*> out(3'000);
    auto const round = [&] {
        for (auto& object : out) object = pool.construct(7U);
        for (auto* const object : out) pool.destroy(object);
    };
    round();
    std::size_t const before = support::allocations;
    for (int i = 0; i < 10; ++i) round();
    EXPECT_EQ(support::allocations, before);
}

TEST(ObjectPool, IsUnharmedByAConstructorThatThrows) {
    struct fussy {
        std::string text;
        explicit fussy(int i) : text(std::to_string(i)) {
            if (i % 3 == 0) throw std::runtime_error("no");
        }
    };
    cairn::object_pool<fussy> pool;
    std::vector<cairn::object_pool<fussy>::handle> kept;
    for (int i = 0; i < 1'000; ++i) {
        if (i % 3 == 0)
            EXPECT_THROW((void)pool.make(i), std::runtime_error);
        else
            kept.push_back(pool.make(i));
        ASSERT_EQ(pool.size(), kept.size());
    }
    for (auto const& one : kept) EXPECT_NE(std::stoi(one->text) % 3, 0);
}

TEST(ObjectPool, IsUnharmedByAnAllocatorThatThrowsAtAnyAllocation) {
    for (std::size_t n = 0;; ++n) {
        cairn::object_pool<block<64>> pool;
        std::vector<block<64>*> out;
        out.reserve(2'000);
        bool threw = false;
        {
            support::fail_after const limit(n);
            try {
                for (std::uint32_t i = 0; i < 2'000; ++i) out.push_back(pool.construct(i));
            } catch (std::bad_alloc const&) {
                threw = true;
            }
        }
        ASSERT_EQ(pool.size(), out.size());
        for (std::uint32_t i = 0; i < out.size(); ++i) ASSERT_TRUE(out[i]->is(i));
        auto* const more = pool.construct(5U);  // it goes on
        pool.destroy(more);
        for (auto* const one : out) pool.destroy(one);
        if (!threw) {
            EXPECT_GT(n, 3U);  // several slabs were tried
            return;
        }
    }
}

TEST(ObjectPool, ReserveIsOneAllocationAndRefusesWhatCannotBe) {
    cairn::object_pool<block<64>> pool;
    pool.shrink();  // nothing to give back yet
    EXPECT_THROW(pool.reserve(static_cast<std::size_t>(-1) / 2), std::bad_alloc);
    EXPECT_EQ(pool.capacity(), 0U);
    pool.reserve(10);
    EXPECT_EQ(pool.capacity(), 10U);
    pool.reserve(5);
    EXPECT_EQ(pool.capacity(), 10U);
    pool.reserve(1'000);
    EXPECT_EQ(pool.capacity(), 1'000U);
    std::set<void*> slots;
    for (int i = 0; i < 1'000; ++i) slots.insert(pool.allocate());
    EXPECT_EQ(slots.size(), 1'000U);
    EXPECT_EQ(pool.capacity(), 1'000U);
    for (void* const slot : slots) pool.deallocate(static_cast<block<64>*>(slot));
}

TEST(ObjectPool, ShrinkKeepsWhatIsInUse) {
    cairn::object_pool<block<64>> pool;
    std::vector<block<64>*> out;
    for (std::uint32_t i = 0; i < 10'000; ++i) out.push_back(pool.construct(i));
    std::size_t const full = pool.capacity();
    // One object stays, somewhere in the middle.
    for (std::uint32_t i = 0; i < out.size(); ++i)
        if (i != 4'321) pool.destroy(out[i]);
    pool.shrink();
    EXPECT_LT(pool.capacity(), full);
    EXPECT_GE(pool.capacity(), 1U);
    EXPECT_EQ(pool.size(), 1U);
    EXPECT_TRUE(out[4'321]->is(4'321));
    std::set<block<64>*> again{out[4'321]};
    while (pool.size() != pool.capacity()) EXPECT_TRUE(again.insert(pool.construct(1U)).second);
    for (auto* const one : again) pool.destroy(one);
}

TEST(ObjectPool, HandlesMoveAndEndTheirObjectOnce) {
    auto const counter = std::make_shared<int>(0);
    cairn::object_pool<std::shared_ptr<int>> pool;
    auto a = pool.make(counter);
    EXPECT_EQ(counter.use_count(), 2);
    auto b = std::move(a);
    EXPECT_EQ(a, nullptr);
    EXPECT_EQ(pool.size(), 1U);
    a = pool.make(counter);
    b = std::move(a);
    EXPECT_EQ(counter.use_count(), 2);
    b.reset();
    EXPECT_EQ(counter.use_count(), 1);
    EXPECT_EQ(pool.size(), 0U);
    decltype(pool)::handle const none;
    EXPECT_EQ(none, nullptr);
}

#if !defined(NDEBUG)
namespace misuse {

using number = std::uint64_t;
using pool_of_numbers = cairn::object_pool<number>;

void twice() {
    pool_of_numbers pool;
    number* const one = pool.construct(1U);
    pool.destroy(one);
    pool.destroy(one);
}
void to_another_pool() {
    pool_of_numbers pool;
    pool_of_numbers other;
    other.destroy(pool.construct(1U));
}
void foreign() {
    pool_of_numbers pool;
    std::array<number, 4> numbers{};
    pool.deallocate(numbers.data());
}
void still_out() {
    pool_of_numbers pool;
    (void)pool.construct(1U);
}
void after_the_end() {
    alignas(pool_of_numbers) static std::array<std::byte, sizeof(pool_of_numbers)> memory;
    auto* const pool = ::new (static_cast<void*>(memory.data())) pool_of_numbers;
    number* const one = pool->construct(1U);
    pool->destroy(one);
    pool_of_numbers* const volatile same = pool;  // or the compiler sees it, and says so
    std::destroy_at(pool);
    same->destroy(one);
}

}  // namespace misuse

TEST(ObjectPoolDeathTest, CatchesMisuse) {
    if (support::sanitized) GTEST_SKIP() << "the sanitizer reports these first";
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    EXPECT_DEATH(misuse::twice(), "released twice");
    EXPECT_DEATH(misuse::to_another_pool(), "did not come from");
    EXPECT_DEATH(misuse::foreign(), "did not come from");
    EXPECT_DEATH(misuse::still_out(), "ends while objects are out");
    EXPECT_DEATH(misuse::after_the_end(), "the pool has ended");
}
#endif

#if defined(CAIRN_POISONS_FREE_SLOTS)
TEST(ObjectPoolDeathTest, AUseAfterReleaseIsReportedByAddressSanitizer) {
    cairn::object_pool<std::uint64_t> pool;
    std::uint64_t* const one = pool.construct(1U);
    pool.destroy(one);
    EXPECT_DEATH(*static_cast<std::uint64_t volatile*>(one) = 2, "use-after-poison");
}
#endif

}  // namespace
