// SPDX-License-Identifier: MIT
// What every batcher offers to who uses it: acknowledgements, figures, no allocation. For all ways in.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "batching.hpp"
#include "batching_promises.hpp"
#include "count_allocations.hpp"

namespace support {

template <class Way>
class BatchingUse : public testing::Test {};
TYPED_TEST_SUITE_P(BatchingUse);

TYPED_TEST_P(BatchingUse, AnAcknowledgementComesAfterTheCommitAndNamesThePushedSequence) {
    auto options = small(100, 7);
    options.retry.attempts = 1'000;
    std::map<std::uint32_t, std::uint64_t> durable;
    std::atomic<std::uint64_t> acknowledged = 0;
    std::size_t wrong = 0;
    int call = 0;
    batch_hooks<event> hooks;
    hooks.on_committed = [&](std::uint32_t producer, std::uint64_t sequence) {
        wrong += durable[producer] != sequence || sequence <= acknowledged;
        acknowledged = sequence;
    };
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const& info) {
            if (++call % 3 == 0) throw std::runtime_error("not now");
            std::size_t at = 0;
            for (auto const& s : info.sections) {
                for (std::size_t i = 0; i < s.count; ++i) wrong += events[at++].number != s.first + i;
                durable[s.producer] = s.first + s.count - 1;
            }
        },
        options, hooks);
    auto in = TypeParam::enter(batcher);
    EXPECT_EQ(in.sequence(), 0U);
    for (std::uint32_t i = 1; i <= 1'000; ++i) {
        ASSERT_EQ(in.push(event{0, i}), push_result::ok);
        ASSERT_EQ(in.sequence(), i);
    }
    batcher.close();
    EXPECT_EQ(acknowledged, 1'000U);
    EXPECT_EQ(wrong, 0U);
}

TYPED_TEST_P(BatchingUse, TheFiguresTellWhatHappened) {
    auto options = small(200, 50);
    options.linger = 1h;
    typename TypeParam::template of<event> batcher(
        [](std::span<event>, batch_info const& info) {
            std::this_thread::sleep_for(1ms);
            if (info.id == 2 && info.attempt < 3) throw std::runtime_error("the last error");
        },
        options);
    auto in = TypeParam::enter(batcher);
    EXPECT_EQ(batcher.stats().last_error, "");
    EXPECT_EQ(batcher.stats().flush_p50, 0ns);
    for (int i = 0; i < 3; ++i) {
        for (int k = 0; k < 30; ++k) EXPECT_EQ(in.push(event{}), push_result::ok);
        EXPECT_EQ(batcher.stats().buffered, 30U);
        EXPECT_EQ(batcher.flush(), flush_result::ok);
    }
    auto const s = batcher.stats();
    EXPECT_EQ(s.batches, 3U);
    EXPECT_DOUBLE_EQ(s.fill, 0.6);
    EXPECT_EQ(s.retries, 2U);
    EXPECT_EQ(s.delivered, 90U);
    EXPECT_EQ(s.max_depth, 30U);
    EXPECT_EQ(s.blocked, 0U);
    EXPECT_EQ(s.last_error, "the last error");
    EXPECT_GE(s.flush_p50, 1ms);
    EXPECT_GE(s.flush_p99, s.flush_p50);
}

TYPED_TEST_P(BatchingUse, NothingIsAllocatedOnceWarm) {
    struct wide {
        std::array<std::uint64_t, 8> words{};
    };
    // Allocations are counted by thread: the sink says how many the flusher has made.
    std::atomic<std::size_t> flusher = 0;
    typename TypeParam::template of<wide> batcher(
        [&](std::span<wide>, batch_info const&) { flusher = allocations; }, small(1'000, 300));
    auto one = TypeParam::enter(batcher);
    auto two = TypeParam::enter(batcher);
    auto const use = [&] {
        for (int i = 0; i < 20'000; ++i) {
            EXPECT_EQ(one.push(wide{}), push_result::ok);
            EXPECT_EQ(two.push(wide{}), push_result::ok);
        }
        EXPECT_EQ(batcher.flush(), flush_result::ok);
    };
    use();
    std::size_t const before = allocations, flusher_before = flusher;
    use();
    EXPECT_EQ(allocations, before);
    EXPECT_EQ(flusher, flusher_before);
}

TYPED_TEST_P(BatchingUse, OptionsThatMakeNoSenseAreRefusedByName) {
    auto const refuses = [](auto change, std::string const& message, auto kind) {
        batch_options options;
        change(options);
        try {
            typename TypeParam::template of<decltype(kind)> const batcher(
                [](std::span<decltype(kind)>, batch_info const&) {}, options);
            ADD_FAILURE() << "accepted: " << message;
        } catch (std::invalid_argument const& error) {
            EXPECT_EQ(error.what(), message);
        }
    };
    refuses([](batch_options& o) { o.max_batch = 0; }, "batcher: max_batch must be at least 1, not 0", 0);
    refuses([](batch_options& o) { o.capacity = 0; },
            "batcher: capacity must be between 1 and 2147483647, not 0", 0);
    refuses([](batch_options& o) { o.linger = -1ns; }, "batcher: linger must not be negative, not -1", 0);
    refuses([](batch_options& o) { o.retry.attempts = 0; },
            "batcher: retry.attempts must be at least 1, not 0", 0);
    refuses([](batch_options& o) { o.retry.jitter = 2; },
            "batcher: retry.jitter must be between 0 and 1, not 2.000000", 0);
    refuses([](batch_options& o) { o.max_bytes = 9; },
            "batcher: max_bytes needs the hook size_of; it must be 0, not 9", 0);
    struct moves_with_care {
        moves_with_care() = default;
        moves_with_care(moves_with_care&&) {}
    };
    refuses([](batch_options& o) { o.on_full = overflow_policy::drop_oldest; },
            "batcher: drop_oldest needs events whose move does not throw", moves_with_care{});
}

REGISTER_TYPED_TEST_SUITE_P(BatchingUse, AnAcknowledgementComesAfterTheCommitAndNamesThePushedSequence,
                            TheFiguresTellWhatHappened, NothingIsAllocatedOnceWarm,
                            OptionsThatMakeNoSenseAreRefusedByName);

}  // namespace support
