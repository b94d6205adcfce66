// SPDX-License-Identifier: MIT
// What every batcher promises when something goes wrong, or ends: retries, dead letters, stop, flush, close,
// calls from the sink, throwing moves, forks. For all ways in.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "batching.hpp"
#include "batching_promises.hpp"
#include "sanitizers.hpp"

namespace support {

template <class Way>
class BatchingFailures : public testing::Test {};
TYPED_TEST_SUITE_P(BatchingFailures);

// ---- Dead letters and stop. ----

TYPED_TEST_P(BatchingFailures, APoisonedBatchGoesToTheDeadLettersAndTheNextIsDelivered) {
    auto options = small(1'000, 10);
    options.retry.attempts = 2;
    std::size_t delivered = 0, dead = 0, committed = 0;
    std::map<std::uint64_t, unsigned> errors;
    batch_hooks<event> hooks;
    hooks.dead_letter = [&](std::span<event> events, batch_info const& info, std::exception_ptr e) {
        dead += events.size();
        EXPECT_EQ(what(e), "poison");
        EXPECT_EQ(info.attempt, 2U);
        EXPECT_EQ(errors[info.id], 2U);
        throw std::logic_error("a hook that throws harms nobody");
    };
    hooks.on_error = [&](std::exception_ptr e, batch_info const& info) {
        EXPECT_EQ(what(e), "poison");
        EXPECT_EQ(++errors[info.id], info.attempt);
        throw 1;
    };
    hooks.on_committed = [&](std::uint32_t, std::uint64_t) {
        ++committed;
        throw 2;
    };
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const&) {
            for (event const e : events)
                if (e.number % 100 == 0) throw std::runtime_error("poison");
            delivered += events.size();
        },
        options, hooks);
    auto in = TypeParam::enter(batcher);
    for (std::uint32_t i = 1; i <= 5'000; ++i) ASSERT_EQ(in.push(event{0, i}), push_result::ok);
    EXPECT_EQ(batcher.flush(), flush_result::dead_lettered);
    EXPECT_EQ(in.push(event{0, 1}), push_result::ok);
    EXPECT_EQ(batcher.flush(), flush_result::ok);  // nothing died since
    auto const report = batcher.close();
    EXPECT_EQ(report.delivered, delivered);
    EXPECT_EQ(report.dead, dead);
    EXPECT_EQ(report.abandoned, 0U);
    EXPECT_EQ(delivered + dead, 5'001U);
    EXPECT_GE(dead, 50U);
    EXPECT_EQ(errors.size(), 50U);
    EXPECT_GT(committed, 0U);
    EXPECT_TRUE(balances(batcher.stats()));
}

TYPED_TEST_P(BatchingFailures, StopRefusesAllThatFollowsAndCloseHandsOverWhatIsLeft) {
    auto options = small(20, 5);
    options.on_failure = cairn::failure_action::stop;
    options.retry.attempts = 2;
    table delivered;
    std::vector<event> left;
    batch_hooks<event> hooks;
    hooks.dead_letter = [&](std::span<event> events, batch_info const&, std::exception_ptr) {
        left.insert(left.end(), events.begin(), events.end());
    };
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const&) {
            if (delivered.rows() >= 100) throw std::runtime_error("disk full");
            delivered.insert(events);
        },
        options, hooks);
    auto in = TypeParam::enter(batcher);
    std::uint32_t accepted = 0;
    push_result result;
    while ((result = in.push(event{0, accepted + 1})) == push_result::ok) ++accepted;  // blocks, is woken
    EXPECT_EQ(result, push_result::stopped);
    EXPECT_EQ(in.try_push(event{}), push_result::stopped);
    EXPECT_EQ(batcher.flush(), flush_result::stopped);
    EXPECT_TRUE(batcher.closed());
    auto s = batcher.stats();
    EXPECT_TRUE(balances(s));
    EXPECT_EQ(s.buffered, accepted - delivered.rows());
    EXPECT_EQ(s.last_error, "disk full");
    auto const report = batcher.close();
    EXPECT_EQ(report.delivered, delivered.rows());
    EXPECT_EQ(report.abandoned, left.size());
    EXPECT_EQ(report.delivered + report.abandoned, accepted);
    for (std::size_t i = 0; i < left.size(); ++i) EXPECT_EQ(left[i].number, delivered.rows() + 1 + i);
    EXPECT_EQ(in.try_push(event{}), push_result::closed);
    EXPECT_EQ(batcher.flush(), flush_result::closed);
}

// ---- Flush. ----

TYPED_TEST_P(BatchingFailures, FlushIsABarrierThatEndsUnderAFlood) {
    auto options = small(64, 16);
    options.linger = 1h;  // flush does not wait for it
    table rows;
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const&) { rows.insert(events); }, options);
    std::atomic<bool> done = false;
    std::thread flood([&] {
        auto in = TypeParam::enter(batcher);
        for (std::uint32_t i = 1; !done; ++i) ASSERT_EQ(in.push(event{9, i}), push_result::ok);
    });
    in_threads(2, [&](std::uint32_t from) {
        auto in = TypeParam::enter(batcher);
        for (std::uint32_t i = 1; i <= 50; ++i) {
            ASSERT_EQ(in.push(event{from, i}), push_result::ok);
            ASSERT_EQ(batcher.flush(), flush_result::ok);
            ASSERT_EQ(rows.last(from), i);
        }
    });
    done = true;
    flood.join();
    EXPECT_EQ(batcher.flush(), flush_result::ok);
    EXPECT_EQ(rows.skipped(), 0U);
    EXPECT_EQ(batcher.stats().buffered, 0U);
    EXPECT_EQ(batcher.flush(), flush_result::ok);  // of nothing
}

TYPED_TEST_P(BatchingFailures, FlushTimesOutWhileTheSinkIsBusyAndWorksAfterwards) {
    stuck<TypeParam> s(overflow_policy::block);
    EXPECT_EQ(s.batcher.flush_for(1ms), flush_result::timed_out);
    EXPECT_EQ(s.batcher.flush_for(0ns), flush_result::timed_out);
    s.inside.open();
    EXPECT_EQ(s.batcher.flush(), flush_result::ok);
    EXPECT_EQ(s.rows.rows(), 4U);
}

// ---- Close. ----

TYPED_TEST_P(BatchingFailures, CloseDrainsInBatchesAndReportsTheSameAgain) {
    auto options = small(10'000, 7);
    options.linger = 1h;
    std::size_t too_many = 0;
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const&) { too_many += events.size() > 7; }, options);
    auto in = TypeParam::enter(batcher);
    for (std::uint32_t i = 1; i <= 5; ++i) ASSERT_EQ(in.push(event{0, i}), push_result::ok);
    EXPECT_FALSE(batcher.closed());
    in_threads(4, [&](std::uint32_t) {
        auto const report = batcher.close();
        EXPECT_TRUE(report.closed);
        EXPECT_EQ(report.delivered, 5U);
    });
    EXPECT_TRUE(batcher.closed());
    EXPECT_EQ(in.push(event{}), push_result::closed);
    EXPECT_EQ(in.push_for(event{}, 1h), push_result::closed);
    EXPECT_EQ(in.push_n(std::array<event, 2>{}), 0U);
    EXPECT_EQ(batcher.close().delivered, 5U);
    EXPECT_EQ(too_many, 0U);
    EXPECT_EQ(batcher.stats().rejected, 3U);
}

TYPED_TEST_P(BatchingFailures, APushThatRacesWithCloseIsDeliveredOrToldSo) {
    for (int round = 0; round < (sanitized ? 30 : 200); ++round) {
        table rows;
        auto options = small(round % 2 == 0 ? 8 : 1'000, 50);
        typename TypeParam::template of<event> batcher(
            [&](std::span<event> events, batch_info const&) { rows.insert(events); }, options);
        std::atomic<std::uint32_t> accepted = 0;
        std::thread closer([&] {
            wait_until([&] { return accepted > 20U * static_cast<unsigned>(round % 5); });
            EXPECT_TRUE(batcher.close().closed);
        });
        in_threads(3, [&](std::uint32_t from) {
            auto in = TypeParam::enter(batcher);
            push_result result;
            std::uint32_t i = 1;
            for (; (result = in.push(event{from, i})) == push_result::ok; ++i) ++accepted;
            EXPECT_EQ(result, push_result::closed);
        });
        closer.join();
        EXPECT_EQ(rows.rows(), accepted);
        EXPECT_EQ(batcher.close().delivered, accepted);
        EXPECT_EQ(rows.skipped() + rows.repeated(), 0U);
    }
}

TYPED_TEST_P(BatchingFailures, AtItsDeadlineCloseGivesWhatIsLeftToTheDeadLetters) {
    auto options = small(100, 10);
    options.linger = 0ns;
    options.retry = {
        .attempts = 1'000'000, .first = 1h, .longest = 1h, .jitter = 0, .deadline = cairn::forever};
    std::vector<event> left;
    batch_hooks<event> hooks;
    hooks.dead_letter = [&](std::span<event> events, batch_info const&, std::exception_ptr) {
        left.insert(left.end(), events.begin(), events.end());
    };
    std::atomic<int> calls = 0;
    typename TypeParam::template of<event> batcher(
        [&](std::span<event>, batch_info const&) {
            ++calls;
            throw 1;  // and the next attempt is an hour away
        },
        options, hooks);
    auto in = TypeParam::enter(batcher);
    for (std::uint32_t i = 1; i <= 100; ++i) ASSERT_EQ(in.push(event{0, i}), push_result::ok);
    wait_until([&] { return calls == 1; });
    auto const report = batcher.close(1ms);
    EXPECT_EQ(report.delivered, 0U);
    EXPECT_EQ(report.dead, 0U);
    EXPECT_EQ(report.abandoned, 100U);
    ASSERT_EQ(left.size(), 100U);
    for (std::uint32_t i = 0; i < 100; ++i) EXPECT_EQ(left[i], (event{0, i + 1}));
    EXPECT_EQ(calls, 1);
}

TYPED_TEST_P(BatchingFailures, ASinkThatDoesNotReturnIsLeftBehindWithItsBatch) {
    for (auto const policy : {overflow_policy::block, overflow_policy::drop_oldest}) {
        gate inside;
        auto const ended = std::make_shared<int>(0);  // lives as long as the sink
        std::vector<event> left;
        {
            auto options = small(100, 10);
            options.linger = 0ns;
            options.on_full = policy;
            batch_hooks<event> hooks;
            hooks.dead_letter = [&](std::span<event> events, batch_info const& info, std::exception_ptr) {
                EXPECT_EQ(info.sections.size(), 1U);
                EXPECT_EQ(info.sections[0].first, events[0].number);
                left.insert(left.end(), events.begin(), events.end());
            };
            typename TypeParam::template of<event> batcher(
                [&inside, ended](std::span<event>, batch_info const&) { inside.pass(); }, options, hooks);
            auto in = TypeParam::enter(batcher);
            ASSERT_EQ(in.push(event{0, 1}), push_result::ok);
            inside.wait_for_arrivals();
            for (std::uint32_t i = 2; i <= 40; ++i) ASSERT_EQ(in.push(event{0, i}), push_result::ok);
            auto const report = batcher.close(1ms);
            EXPECT_EQ(report.delivered, 0U);
            EXPECT_EQ(report.abandoned, 40U);
            EXPECT_EQ(batcher.close().abandoned, 40U);
            EXPECT_EQ(batcher.flush(), flush_result::closed);
            EXPECT_TRUE(balances(batcher.stats()));
            ASSERT_EQ(left.size(), 39U);
            for (std::uint32_t i = 0; i < 39; ++i) EXPECT_EQ(left[i].number, i + 2);
        }
        EXPECT_EQ(ended.use_count(), 2);  // the batcher is gone, the sink is not
        inside.open();
        wait_until([&] { return ended.use_count() == 1; });
    }
}

// ---- Calls from the sink, moves that throw, forks. ----

TYPED_TEST_P(BatchingFailures, ASinkMayPushWhereThereIsRoomAndIsToldWhereItWouldDeadlock) {
    auto options = small(10, 5);
    options.linger = 0ns;
    std::optional<decltype(TypeParam::enter(std::declval<typename TypeParam::template of<event>&>()))> own;
    typename TypeParam::template of<event>* self = nullptr;
    std::atomic<int> ok = 0, refused = 0, wrong = 0;
    std::atomic<bool> ready = false;
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const&) {
            while (!ready) std::this_thread::yield();
            wrong += self->flush() != flush_result::would_deadlock;
            wrong += self->flush_for(1h) != flush_result::would_deadlock;
            wrong += self->close().closed;
            if (events[0].from == 1) return;
            for (int i = 0; i < 30; ++i) {
                auto const result = own->push(event{1, 0});
                ok += result == push_result::ok;
                refused += result == push_result::would_deadlock;
            }
        },
        options);
    self = &batcher;
    own.emplace(TypeParam::enter(batcher));
    auto in = TypeParam::enter(batcher);
    EXPECT_EQ(in.push(event{0, 1}), push_result::ok);
    ready = true;
    EXPECT_EQ(batcher.flush(), flush_result::ok);
    EXPECT_EQ(ok + refused, 30);
    EXPECT_EQ(ok, TypeParam::shared ? 9 : 10);
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(batcher.close().delivered, 1U + static_cast<unsigned>(ok));
    own.reset();
}

/// Throws at each seventh copy or move, and counts its living objects.
struct unreliable {
    static inline std::atomic<int> alive = 0, steps = 0;
    static void step() {
        if (++steps % 7 == 0) throw std::runtime_error("moved once too often");
    }
    explicit unreliable(std::uint32_t n) : number(n) { ++alive; }
    unreliable(unreliable const& other) : number(other.number) {
        step();
        ++alive;
    }
    unreliable(unreliable&& other) : number(other.number) {
        step();
        ++alive;
    }
    ~unreliable() { --alive; }
    std::uint32_t number;
};

TYPED_TEST_P(BatchingFailures, AMoveThatThrowsPublishesNothingAndReachesTheCaller) {
    std::vector<std::uint32_t> expected;
    std::vector<std::uint32_t> came;
    {
        typename TypeParam::template of<unreliable> batcher(
            [&](std::span<unreliable> events, batch_info const&) {
                for (unreliable const& e : events) came.push_back(e.number);
            },
            small(50, 20));
        auto in = TypeParam::enter(batcher);
        int thrown = 0;
        for (std::uint32_t i = 0; i < 1'000; ++i) {
            unreliable one(i);
            try {
                if (in.emplace(std::move(one)) == push_result::ok) expected.push_back(i);
            } catch (std::runtime_error const&) {
                ++thrown;
            }
        }
        EXPECT_GT(thrown, 100);
        EXPECT_EQ(batcher.close().delivered, expected.size());
        EXPECT_TRUE(balances(batcher.stats()));
    }
    EXPECT_EQ(came, expected);
    EXPECT_EQ(unreliable::alive, 0);
}

TYPED_TEST_P(BatchingFailures, AForkedChildIsToldSoAndTheParentGoesOn) {
    table rows;
    auto options = small(1'000, 10);
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const&) { rows.insert(events); }, options);
    auto in = TypeParam::enter(batcher);
    std::atomic<bool> done = false;
    std::atomic<std::uint32_t> others = 0;
    std::thread other([&] {  // so that a lock may be held at the moment of the fork
        auto mine = TypeParam::enter(batcher);
        for (std::uint32_t i = 1; !done; ++i) {
            ASSERT_EQ(mine.push(event{1, i}), push_result::ok);
            others = i;
            (void)batcher.stats();
        }
    });
    for (std::uint32_t i = 1; i <= 10; ++i) {
        ASSERT_EQ(in.push(event{0, i}), push_result::ok);
        pid_t const child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            bool good = in.push(event{0, 0}) == push_result::forked;
            good &= in.try_push(event{0, 0}) == push_result::forked;
            good &= in.push_n(std::array<event, 1>{}) == 0;
            good &= batcher.flush() == flush_result::forked;
            good &= !batcher.close().closed && batcher.closed() && batcher.stats().accepted == 0;
            {
                [[maybe_unused]] auto const ends_here = std::move(in);
            }
            std::destroy_at(&batcher);
            _exit(good ? 0 : 1);
        }
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    done = true;
    other.join();
    EXPECT_EQ(batcher.close().delivered, 10U + others);
    EXPECT_EQ(rows.repeated() + rows.skipped(), 0U);
}

REGISTER_TYPED_TEST_SUITE_P(
    BatchingFailures, APoisonedBatchGoesToTheDeadLettersAndTheNextIsDelivered,
    StopRefusesAllThatFollowsAndCloseHandsOverWhatIsLeft, FlushIsABarrierThatEndsUnderAFlood,
    FlushTimesOutWhileTheSinkIsBusyAndWorksAfterwards, CloseDrainsInBatchesAndReportsTheSameAgain,
    APushThatRacesWithCloseIsDeliveredOrToldSo, AtItsDeadlineCloseGivesWhatIsLeftToTheDeadLetters,
    ASinkThatDoesNotReturnIsLeftBehindWithItsBatch, ASinkMayPushWhereThereIsRoomAndIsToldWhereItWouldDeadlock,
    AMoveThatThrowsPublishesNothingAndReachesTheCaller, AForkedChildIsToldSoAndTheParentGoesOn);

}  // namespace support
