// SPDX-License-Identifier: MIT
// What every batcher does with time: linger and back-off, by a clock that the test moves. For all ways in.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "batching.hpp"
#include "batching_promises.hpp"
#include "fake_clock.hpp"

namespace support {

template <class Way>
class BatchingTime : public testing::Test {};
TYPED_TEST_SUITE_P(BatchingTime);

TYPED_TEST_P(BatchingTime, AnEventWaitsForLingerAndNoLonger) {
    auto options = small(100, 50);
    options.linger = 5ms;
    std::atomic<std::size_t> rows = 0;
    typename TypeParam::template of<event, fake_clock> batcher(
        [&](std::span<event> events, batch_info const&) { rows += events.size(); }, options);
    auto in = TypeParam::enter(batcher);
    fake_clock::settle();
    EXPECT_EQ(in.push(event{}), push_result::ok);
    EXPECT_EQ(fake_clock::next(), 1ms);  // the tick
    fake_clock::advance(5ms - 1ns);
    fake_clock::settle();
    EXPECT_EQ(rows, 0U);
    EXPECT_EQ(fake_clock::next(), 1ns);  // sleeps no longer than the oldest may wait
    EXPECT_EQ(batcher.stats().oldest_age, 5ms - 1ns);
    fake_clock::advance(1ns);
    fake_clock::settle();
    EXPECT_EQ(rows, 1U);
    EXPECT_EQ(batcher.stats().oldest_age, 0ns);
    // A full batch does not wait: the next look finds it.
    for (int i = 0; i < 50; ++i) EXPECT_EQ(in.push(event{}), push_result::ok);
    fake_clock::advance(1ms);
    fake_clock::settle();
    EXPECT_EQ(rows, 51U);
}

TYPED_TEST_P(BatchingTime, WithoutLingerAnEventGoesAtTheNextLook) {
    auto options = small(100, 50);
    options.linger = 0ns;
    std::atomic<std::size_t> rows = 0;
    typename TypeParam::template of<event, fake_clock> batcher(
        [&](std::span<event> events, batch_info const&) { rows += events.size(); }, options);
    auto in = TypeParam::enter(batcher);
    fake_clock::settle();
    EXPECT_EQ(in.push(event{}), push_result::ok);
    EXPECT_EQ(fake_clock::next(), 50us);
    fake_clock::advance(50us);
    fake_clock::settle();
    EXPECT_EQ(rows, 1U);
}

TYPED_TEST_P(BatchingTime, PausesDoubleUpToTheLongestAndThenTheBatchIsDead) {
    auto options = small(100, 50);
    options.linger = 0ns;
    options.retry = {.attempts = 6, .first = 10ms, .longest = 50ms, .jitter = 0, .deadline = 1h};
    std::atomic<unsigned> calls = 0;
    std::string error;
    std::size_t dead = 0;
    batch_hooks<event> hooks;
    hooks.dead_letter = [&](std::span<event> events, batch_info const& info, std::exception_ptr e) {
        dead += events.size();
        error = what(e) + " at attempt " + std::to_string(info.attempt);
    };
    typename TypeParam::template of<event, fake_clock> batcher(
        [&](std::span<event>, batch_info const&) {
            throw std::runtime_error("call " + std::to_string(++calls));
        },
        options, hooks);
    auto in = TypeParam::enter(batcher);
    fake_clock::settle();
    EXPECT_EQ(in.push(event{}), push_result::ok);
    fake_clock::advance(50us);
    unsigned attempt = 1;
    for (auto const pause : {10ms, 20ms, 40ms, 50ms, 50ms}) {
        EXPECT_EQ(fake_clock::next(), pause);
        EXPECT_EQ(calls, attempt);
        fake_clock::advance(pause - 1ns);
        EXPECT_EQ(fake_clock::next(), 1ns);
        EXPECT_EQ(calls, attempt++);
        fake_clock::advance(1ns);
    }
    EXPECT_EQ(fake_clock::next(), 50us);  // the tick again
    EXPECT_EQ(calls, 6U);
    EXPECT_EQ(batcher.stats().retries, 5U);
    EXPECT_EQ(batcher.stats().dead, 1U);
    EXPECT_EQ(batcher.stats().last_error, "call 6");
    EXPECT_EQ(dead, 1U);
    EXPECT_EQ(error, "call 6 at attempt 6");
}

TYPED_TEST_P(BatchingTime, JitterSpreadsThePausesWithinItsShareAndRepeatsWithItsSeed) {
    std::vector<std::vector<std::chrono::nanoseconds>> runs;
    for (std::uint64_t const seed : {1U, 1U, 2U}) {
        auto options = small(100, 50);
        options.linger = 0ns;
        options.seed = seed;
        options.retry = {.attempts = 30, .first = 10ms, .longest = 10ms, .jitter = 0.2, .deadline = 1h};
        typename TypeParam::template of<event, fake_clock> batcher(
            [](std::span<event>, batch_info const&) { throw 1; }, options);
        auto in = TypeParam::enter(batcher);
        fake_clock::settle();
        EXPECT_EQ(in.push(event{}), push_result::ok);
        fake_clock::advance(50us);
        auto& pauses = runs.emplace_back();
        for (int i = 0; i < 29; ++i) {
            pauses.push_back(fake_clock::next());
            fake_clock::advance(pauses.back());
        }
        fake_clock::settle();
    }
    auto const [low, high] = std::minmax_element(runs[0].begin(), runs[0].end());
    EXPECT_GE(*low, 8ms);
    EXPECT_LT(*low, 9ms);
    EXPECT_GT(*high, 11ms);
    EXPECT_LE(*high, 12ms);
    EXPECT_EQ(runs[0], runs[1]);
    EXPECT_NE(runs[0], runs[2]);
}

TYPED_TEST_P(BatchingTime, NoAttemptStartsAfterTheDeadlineOfABatch) {
    auto options = small(100, 50);
    options.linger = 0ns;
    options.retry = {.attempts = 1'000, .first = 10ms, .longest = 10ms, .jitter = 0, .deadline = 25ms};
    std::atomic<unsigned> calls = 0;
    typename TypeParam::template of<event, fake_clock> batcher(
        [&](std::span<event>, batch_info const&) {
            ++calls;
            throw 1;
        },
        options);
    auto in = TypeParam::enter(batcher);
    fake_clock::settle();
    EXPECT_EQ(in.push(event{}), push_result::ok);
    fake_clock::advance(50us);
    for (int i = 0; i < 2; ++i) {
        fake_clock::settle();
        fake_clock::advance(10ms);
    }
    fake_clock::settle();
    EXPECT_EQ(calls, 3U);
    EXPECT_EQ(batcher.stats().dead, 1U);
}

REGISTER_TYPED_TEST_SUITE_P(BatchingTime, AnEventWaitsForLingerAndNoLonger,
                            WithoutLingerAnEventGoesAtTheNextLook,
                            PausesDoubleUpToTheLongestAndThenTheBatchIsDead,
                            JitterSpreadsThePausesWithinItsShareAndRepeatsWithItsSeed,
                            NoAttemptStartsAfterTheDeadlineOfABatch);

}  // namespace support
