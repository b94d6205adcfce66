// SPDX-License-Identifier: MIT
#include <cairn/batcher.hpp>

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#if defined(__linux__)
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "support/batching.hpp"
#include "support/batching_failures.hpp"
#include "support/batching_promises.hpp"
#include "support/batching_time.hpp"
#include "support/batching_use.hpp"

namespace support {

INSTANTIATE_TYPED_TEST_SUITE_P(Batcher, BatchingPromises, lanes);
INSTANTIATE_TYPED_TEST_SUITE_P(Batcher, BatchingFailures, lanes);
INSTANTIATE_TYPED_TEST_SUITE_P(Batcher, BatchingTime, lanes);
INSTANTIATE_TYPED_TEST_SUITE_P(Batcher, BatchingUse, lanes);

using text_batcher = cairn::batcher<std::string, std::function<void(std::span<std::string>)>>;

TEST(Batcher, ProducersComeAndGoAndTheirLanesAreUsedAgain) {
    std::map<std::uint32_t, std::vector<std::uint64_t>> came;  // by producer
    lanes::of<event> batcher(
        [&](std::span<event> events, batch_info const& info) {
            std::size_t at = 0;
            for (auto const& s : info.sections)
                for (std::size_t i = 0; i < s.count; ++i, ++at) {
                    EXPECT_EQ(events[at].from, s.producer);
                    EXPECT_EQ(events[at].number, s.first + i);
                    came[s.producer].push_back(s.first + i);
                }
        },
        small(50, 20));
    std::uint32_t const rounds = 200, threads = 3;
    in_threads(threads, [&](std::uint32_t) {
        for (std::uint32_t round = 0; round != rounds; ++round) {
            auto in = batcher.make_producer();
            for (std::uint32_t i = 1; i <= 1 + round % 70; ++i) {
                ASSERT_EQ(in.push(event{in.id(), i}), push_result::ok);
                ASSERT_EQ(in.sequence(), i);
            }
        }  // its last events are still under way
    });
    EXPECT_EQ(batcher.flush(), flush_result::ok);
    EXPECT_EQ(came.size(), rounds * threads);
    for (auto const& [producer, sequences] : came)
        for (std::size_t i = 0; i < sequences.size(); ++i) ASSERT_EQ(sequences[i], i + 1) << producer;
    // What is drained is free: a new producer needs no new lane.
    std::size_t const before = allocations;
    for (int i = 0; i < 10; ++i) {
        auto const in = batcher.make_producer();
        auto const other = batcher.make_producer();
        EXPECT_EQ(in.sequence(), 0U);
        (void)batcher.flush();
    }
    EXPECT_EQ(allocations, before);
}

TEST(Batcher, AHandleMayMoveToAnotherThreadAndOutliveItsBatcher) {
    std::vector<std::string> rows;
    auto batcher = std::make_unique<text_batcher>(
        [&rows](std::span<std::string> some) { rows.insert(rows.end(), some.begin(), some.end()); });
    auto in = batcher->make_producer();
    EXPECT_EQ(in.push("here"), push_result::ok);
    std::thread([&in] {
        auto mine = std::move(in);
        EXPECT_EQ(mine.push("there"), push_result::ok);
        in = std::move(mine);
    }).join();
    batcher.reset();
    EXPECT_EQ(rows, (std::vector<std::string>{"here", "there"}));
    EXPECT_EQ(in.push("too late"), push_result::closed);
}

TEST(Batcher, AHandleMadeAfterTheEndIsClosed) {
    text_batcher batcher([](std::span<std::string>) {});
    batcher.close();
    auto in = batcher.make_producer();
    EXPECT_EQ(in.push("x"), push_result::closed);
    EXPECT_EQ(in.try_push("x"), push_result::closed);
}

TEST(Batcher, AnEventThatIsRefusedStaysWithTheCaller) {
    text_batcher batcher([](std::span<std::string>) {});
    auto in = batcher.make_producer();
    batcher.close();
    std::string event = "a text that is too long to be stored in place";
    EXPECT_EQ(in.try_push(std::move(event)), push_result::closed);
    EXPECT_EQ(in.push_for(std::move(event), 1h), push_result::closed);
    EXPECT_EQ(in.push(std::move(event)), push_result::closed);
    EXPECT_EQ(event, "a text that is too long to be stored in place");
}

TEST(Batcher, EventsOfOneLaneAreGivenToTheSinkWhereTheyLie) {
    std::vector<std::span<event>> batches;
    auto options = small(40, 10);
    options.linger = 1h;
    lanes::of<event> batcher([&](std::span<event> events, batch_info const&) { batches.push_back(events); },
                             options);
    auto in = batcher.make_producer();
    auto const push = [&](int n) {
        for (int k = 0; k < n; ++k) ASSERT_EQ(in.push(event{}), push_result::ok);
        ASSERT_EQ(batcher.flush(), flush_result::ok);
    };
    for (int i = 0; i < 7; ++i) push(10);
    push(5);
    push(10);  // five until the end of the ring, and five from its beginning
    push(5);
    push(10);
    std::array<std::size_t, 12> const at{0, 10, 20, 30, 0, 10, 20, 30, 35, 0, 5, 10};
    std::array<std::size_t, 12> const n{10, 10, 10, 10, 10, 10, 10, 5, 5, 5, 5, 10};
    ASSERT_EQ(batches.size(), 12U);
    for (std::size_t i = 0; i < 12; ++i) {
        EXPECT_EQ(batches[i].data(), batches[0].data() + at[i]) << i;
        EXPECT_EQ(batches[i].size(), n[i]) << i;
    }
}

#if defined(SYS_membarrier)
TEST(Batcher, PushNeedsNoFenceWhereTheSystemHasOneForAllThreads) {
    long const known = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    EXPECT_EQ(cairn::detail::one_sided_fences(),
              known > 0 && (known & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0);
}
#endif

}  // namespace support
