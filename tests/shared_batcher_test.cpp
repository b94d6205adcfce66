// SPDX-License-Identifier: MIT
#include <cairn/shared_batcher.hpp>

#include <cstdint>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/batching.hpp"
#include "support/batching_failures.hpp"
#include "support/batching_promises.hpp"
#include "support/batching_time.hpp"
#include "support/batching_use.hpp"

namespace support {

INSTANTIATE_TYPED_TEST_SUITE_P(SharedBatcher, BatchingPromises, one_buffer);
INSTANTIATE_TYPED_TEST_SUITE_P(SharedBatcher, BatchingFailures, one_buffer);
INSTANTIATE_TYPED_TEST_SUITE_P(SharedBatcher, BatchingTime, one_buffer);
INSTANTIATE_TYPED_TEST_SUITE_P(SharedBatcher, BatchingUse, one_buffer);

TEST(SharedBatcher, AllThreadsTogetherHaveOneOrder) {
    // Each event carries the number that its push was told: they must come 1, 2, 3, … whoever pushed them.
    std::vector<std::uint64_t> told(60'001);
    std::vector<event> came;
    one_buffer::of<event> batcher(
        [&](std::span<event> events, batch_info const&) {
            came.insert(came.end(), events.begin(), events.end());
        },
        small(500, 100));
    in_threads(3, [&](std::uint32_t from) {
        for (std::uint32_t i = 1; i <= 20'000; ++i) {
            std::uint64_t sequence = 0;
            ASSERT_EQ(batcher.push(event{from, i}, &sequence), push_result::ok);
            told[sequence] = std::uint64_t{from} << 32 | i;
        }
    });
    batcher.close();
    ASSERT_EQ(came.size(), 60'000U);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < came.size(); ++i)
        wrong += told[i + 1] != (std::uint64_t{came[i].from} << 32 | came[i].number);
    EXPECT_EQ(wrong, 0U);
}

TEST(SharedBatcher, WhoOnlyTriesDoesNotWaitBehindWhoWaits) {
    stuck<one_buffer> s(overflow_policy::block);
    std::thread waiting([&s] { EXPECT_EQ(s.batcher.push(event{1, 1}), push_result::ok); });
    wait_until([&s] { return s.batcher.stats().blocked == 1; });
    EXPECT_EQ(s.in.try_push(event{}), push_result::full);
    EXPECT_EQ(s.in.push_for(event{}, 1ms), push_result::timed_out);
    s.inside.open();
    waiting.join();
}

}  // namespace support
