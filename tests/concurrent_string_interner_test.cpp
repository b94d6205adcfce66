// SPDX-License-Identifier: MIT
#include <cairn/concurrent_string_interner.hpp>

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

using cairn::concurrent_string_interner;
using cairn::symbol;

[[nodiscard]] std::vector<std::string> words(int n) {
    std::vector<std::string> all;
    for (int i = 0; i < n; ++i)
        all.push_back((i % 50 == 0 ? std::string(static_cast<std::size_t>(i), 'l') : "word") +
                      std::to_string(i));
    return all;
}

TEST(ConcurrentStringInterner, AllThreadsGetOneSymbolForAString) {
    auto const texts = words(support::sanitized ? 4'000 : 20'000);
    concurrent_string_interner names;
    constexpr std::size_t threads = 4;
    std::vector<std::vector<symbol>> symbols(threads, std::vector<symbol>(texts.size()));
    std::vector<std::thread> running;
    for (std::size_t t = 0; t < threads; ++t)
        running.emplace_back([&, t] {
            std::mt19937 random(static_cast<unsigned>(t));
            for (std::size_t i = 0; i < 3 * texts.size(); ++i) {
                std::size_t const k = random() % texts.size();
                symbol const s = names.intern(texts[k]);
                if (names.view(s) != texts[k]) std::abort();
                if (symbols[t][k].has_value() && symbols[t][k] != s) std::abort();
                if (names.find(texts[k]) != s) std::abort();
                symbols[t][k] = s;
            }
            for (std::size_t k = 0; k < texts.size(); ++k) symbols[t][k] = names.intern(texts[k]);
        });
    for (auto& one : running) one.join();
    EXPECT_EQ(names.size(), texts.size());
    for (std::size_t t = 1; t < threads; ++t) EXPECT_EQ(symbols[t], symbols[0]);
    EXPECT_EQ(std::unordered_set<symbol>(symbols[0].begin(), symbols[0].end()).size(), texts.size());
    std::size_t bytes = 0;
    for (auto const& text : texts) bytes += text.size();
    EXPECT_EQ(names.bytes(), bytes);
}

TEST(ConcurrentStringInterner, AThreadThatIsHandedASymbolCanReadItsString) {
    concurrent_string_interner names;
    constexpr std::uint32_t n = support::sanitized ? 5'000 : 50'000;
    std::atomic<std::uint32_t> handed{0};  // a symbol's number, by release and acquire
    std::thread reader([&] {
        std::uint32_t last = 0;
        for (std::uint32_t i = 0; i < n;) {
            std::uint32_t const value = handed.load(std::memory_order_acquire);
            if (value == last) {
                std::this_thread::yield();
                continue;
            }
            last = value;
            if (names.view(symbol::of(value)) != "number " + std::to_string(i)) std::abort();
            ++i;
            handed.store(0, std::memory_order_release);
            last = 0;
        }
    });
    for (std::uint32_t i = 0; i < n; ++i) {
        handed.store(names.intern("number " + std::to_string(i)).value(), std::memory_order_release);
        while (handed.load(std::memory_order_acquire) != 0) std::this_thread::yield();
    }
    reader.join();
}

TEST(ConcurrentStringInterner, InternsManyAsOneByOne) {
    auto const texts = words(60'003);  // beyond table_in_cache
    std::vector<std::string_view> const views(texts.begin(), texts.end());
    concurrent_string_interner names;
    std::vector<symbol> symbols(views.size());
    names.intern_n(std::span(views).first(50'000), symbols);
    names.intern_n(views, symbols);
    EXPECT_EQ(names.size(), texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
        ASSERT_EQ(names.view(symbols[i]), texts[i]);
        ASSERT_EQ(names.intern(texts[i]), symbols[i]);
    }
}

TEST(ConcurrentStringInterner, ReserveSavesTheGrowing) {
    concurrent_string_interner grown, reserved;
    reserved.reserve(20'000);
    std::vector<std::string> texts;
    for (int i = 0; i < 20'000; ++i) texts.push_back(std::to_string(i));
    for (auto const& text : texts) {
        grown.intern(text);
        reserved.intern(text);
    }
    EXPECT_LT(reserved.memory(), grown.memory());
    for (auto const& text : texts) ASSERT_EQ(reserved.view(reserved.intern(text)), text);
}

TEST(ConcurrentStringInterner, AHitWritesNothingAndAllocatesNothing) {
    concurrent_string_interner names;
    auto const texts = words(1'000);
    for (auto const& text : texts) names.intern(text);
    std::size_t const before = support::allocations;
    for (auto const& text : texts) (void)names.intern(text);
    EXPECT_EQ(support::allocations, before);
}

TEST(ConcurrentStringInterner, IsUnharmedByAnyAllocationThatFails) {
    auto const texts = words(1'000);
    for (std::size_t n = 0;; ++n) {
        concurrent_string_interner names(1);
        std::size_t interned = 0;
        bool threw = false;
        {
            support::fail_after const limit(n);
            try {
                for (auto const& text : texts) {
                    (void)names.intern(text);
                    ++interned;
                }
            } catch (std::bad_alloc const&) {
                threw = true;
            }
        }
        ASSERT_EQ(names.size(), interned);
        for (std::size_t i = 0; i < texts.size(); ++i) {
            ASSERT_EQ(names.contains(texts[i]), i < interned);
            ASSERT_EQ(names.view(names.intern(texts[i])), texts[i]);
        }
        if (!threw) {
            EXPECT_GT(n, 20U);
            return;
        }
    }
}

}  // namespace
