// SPDX-License-Identifier: MIT
// What every batcher promises about events: none lost, none twice, in order, within bounds. For all ways in.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "batching.hpp"
#include "sanitizers.hpp"

namespace support {

using cairn::batch_hooks;
using cairn::batch_info;
using cairn::batch_options;
using cairn::flush_result;
using cairn::overflow_policy;
using cairn::push_result;

template <class Way>
class BatchingPromises : public testing::Test {};
TYPED_TEST_SUITE_P(BatchingPromises);

inline batch_options small(std::size_t capacity, std::size_t max_batch) {
    batch_options o;
    o.capacity = capacity;
    o.max_batch = max_batch;
    o.linger = 1ms;
    o.retry.first = 1us;
    o.retry.longest = 10us;
    return o;
}

TYPED_TEST_P(BatchingPromises, NoEventIsLostUnderAnyPolicyAndTheSumsAgreeAtEveryInstant) {
    for (auto const policy : {overflow_policy::block, overflow_policy::fail, overflow_policy::drop_newest,
                              overflow_policy::drop_oldest}) {
        SCOPED_TRACE("policy " + std::to_string(static_cast<int>(policy)));
        constexpr std::uint32_t n = 5'000, producers = 2;
        // How often each event has come out anywhere: exactly once is right.
        std::vector<std::atomic<int>> seen(n * producers);
        auto const mark = [&seen](event const e) { ++seen[e.from * n + e.number]; };
        auto options = small(100, 40);
        options.on_full = policy;
        batch_hooks<event> hooks;
        hooks.on_drop = [&](event& e, push_result) { mark(e); };
        typename TypeParam::template of<event> batcher(
            [&](std::span<event> events, batch_info const&) {
                for (event const e : events) mark(e);
                std::this_thread::sleep_for(50us);
            },
            options, hooks);
        std::atomic<bool> done = false;
        std::atomic<int> unbalanced = 0;
        std::thread onlooker([&] {
            auto const most = (TypeParam::shared ? 1 : producers) *
                              (options.capacity + (policy == overflow_policy::drop_oldest ? 40 : 0));
            while (!done) {
                auto const s = batcher.stats();
                unbalanced += !balances(s) || s.buffered > most;
                std::this_thread::yield();
            }
        });
        std::atomic<std::uint32_t> accepted = 0;
        in_threads(producers, [&](std::uint32_t from) {
            auto in = TypeParam::enter(batcher);
            for (std::uint32_t i = 0; i != n; ++i) accepted += in.push(event{from, i}) == push_result::ok;
        });
        auto const report = batcher.close();
        done = true;
        onlooker.join();
        auto const s = batcher.stats();
        EXPECT_EQ(unbalanced, 0);
        EXPECT_TRUE(balances(s));
        EXPECT_EQ(s.offered, n * producers);
        EXPECT_EQ(s.accepted, accepted);
        EXPECT_EQ(s.buffered, 0U);
        EXPECT_EQ(report.delivered, s.delivered);
        EXPECT_EQ(s.delivered + s.dropped_oldest, s.accepted);
        if (policy == overflow_policy::block) {
            EXPECT_EQ(s.accepted, s.offered);
        }
        std::size_t wrong = 0;
        for (auto const& times : seen) wrong += times != 1;
        EXPECT_EQ(wrong, 0U);
    }
}

TYPED_TEST_P(BatchingPromises, NoEventComesTwiceFromASinkThatFailsInThirtyPercentOfItsCalls) {
    std::uint32_t const n = sanitized ? 5'000 : 100'000;
    auto options = small(1'000, 100);
    options.retry.attempts = 1'000;
    table rows;
    std::mt19937 random{7};
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const&) {
            // A transaction: what is staged when it throws is rolled back.
            auto const dice = random() % 100;
            if (dice < 10) throw std::runtime_error("before");
            auto const half = events.first(events.size() / 2);
            std::vector<event> const staged(half.begin(), half.end());
            if (dice < 20) throw std::runtime_error("in the middle");
            if (dice < 30) throw 5;
            rows.insert(events);
            for (event& e : events) e = gone;
        },
        options);
    in_threads(4, [&](std::uint32_t from) {
        auto in = TypeParam::enter(batcher);
        for (std::uint32_t i = 1; i <= n; ++i) ASSERT_EQ(in.push(event{from, i}), push_result::ok);
    });
    batcher.close();
    EXPECT_EQ(rows.rows(), 4 * n);
    EXPECT_EQ(rows.repeated(), 0U);
    EXPECT_EQ(rows.skipped(), 0U);
    EXPECT_GT(batcher.stats().retries, 0U);
    EXPECT_FALSE(batcher.stats().last_error.empty());
}

TYPED_TEST_P(BatchingPromises, AfterAnAmbiguousCommitTheSameBatchComesAgainUnderTheSameId) {
    auto options = small(300, 50);
    options.retry.attempts = 1'000;
    std::uint64_t last_id = 0;
    unsigned last_attempt = 0;
    std::vector<event> last;
    std::vector<cairn::batch_section> last_sections;
    std::size_t plain = 0;  // rows of a table without a key
    table keyed;            // rows of one that ignores a batch that it has
    std::size_t wrong = 0;
    std::mt19937 random{11};
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const& info) {
            std::vector<event> const now(events.begin(), events.end());
            std::size_t in_sections = 0;
            for (auto const& s : info.sections) in_sections += s.count;
            wrong += in_sections != now.size() || now.empty() || now.size() > 50;
            if (info.id == last_id) {
                wrong += now != last || info.attempt != last_attempt + 1;
                wrong += info.sections.size() != last_sections.size();
                for (std::size_t i = 0; i < last_sections.size(); ++i)
                    wrong += info.sections[i].first != last_sections[i].first ||
                             info.sections[i].producer != last_sections[i].producer ||
                             info.sections[i].count != last_sections[i].count;
            } else {
                wrong += info.id != last_id + 1 || info.attempt != 1;
                keyed.insert(now);
            }
            last_id = info.id;
            last_attempt = info.attempt;
            last = now;
            last_sections.assign(info.sections.begin(), info.sections.end());
            plain += now.size();
            if (random() % 100 < 30) throw std::runtime_error("committed, then the connection broke");
        },
        options);
    std::uint32_t const n = sanitized ? 2'000 : 20'000;
    in_threads(2, [&](std::uint32_t from) {
        auto in = TypeParam::enter(batcher);
        for (std::uint32_t i = 1; i <= n; ++i) ASSERT_EQ(in.push(event{from, i}), push_result::ok);
    });
    batcher.close();
    EXPECT_EQ(wrong, 0U);
    EXPECT_EQ(keyed.rows(), 2 * n);
    EXPECT_EQ(keyed.repeated() + keyed.skipped(), 0U);
    EXPECT_GT(plain, 2 * n);  // at least once, and that is why there is an id
}

TYPED_TEST_P(BatchingPromises, TheOrderOfEachProducerIsKeptAtEveryWrap) {
    for (std::size_t const capacity : {1U, 2U, 7U, 37U, 64U})
        for (std::size_t const max_batch : {1U, 3U, 10U, 100U}) {
            SCOPED_TRACE(std::to_string(capacity) + " slots, batches of " + std::to_string(max_batch));
            std::uint32_t const n = sanitized || capacity < 5 ? 300 : 3'000;
            table rows;
            std::size_t too_many = 0;
            typename TypeParam::template of<event> batcher(
                [&](std::span<event> events, batch_info const&) {
                    too_many += events.size() > max_batch;
                    rows.insert(events);
                },
                small(capacity, max_batch));
            in_threads(3, [&](std::uint32_t from) {
                auto in = TypeParam::enter(batcher);
                std::array<event, 5> some;
                for (std::uint32_t i = 1; i <= n;) {
                    if (i % 3 == 0 && i + 5 <= n) {  // some at once, the rest one by one
                        for (event& e : some) e = {from, i++};
                        ASSERT_EQ(in.push_n(some), some.size());
                    } else {
                        ASSERT_EQ(in.emplace(event{from, i++}), push_result::ok);
                    }
                }
            });
            batcher.close();
            EXPECT_EQ(rows.rows(), 3 * n);
            EXPECT_EQ(rows.repeated() + rows.skipped() + too_many, 0U);
        }
}

TYPED_TEST_P(BatchingPromises, MemoryIsBoundedByTheExactCapacity) {
    for (std::size_t const capacity : {1U, 10U, 999U, 1'000U}) {
        gate entered;
        typename TypeParam::template of<event> batcher(
            [&](std::span<event>, batch_info const&) { entered.pass(); }, small(capacity, 1'000));
        auto in = TypeParam::enter(batcher);
        std::uint32_t accepted = 0;
        ASSERT_EQ(in.push(event{0, ++accepted}), push_result::ok);
        entered.wait_for_arrivals();  // what the sink has counts too
        while (in.try_push(event{0, accepted + 1}) == push_result::ok) ++accepted;
        EXPECT_EQ(accepted, capacity);
        EXPECT_EQ(batcher.stats().buffered, capacity);
        EXPECT_EQ(batcher.stats().rejected, 1U);
        entered.open();
        EXPECT_EQ(batcher.close().delivered, capacity);
        EXPECT_EQ(batcher.stats().max_depth, capacity);
    }
}

TYPED_TEST_P(BatchingPromises, NoBatchIsLargerThanMaxBytesAndAnEventThatIsIsRefused) {
    auto options = small(100, 50);
    options.max_bytes = 100;
    options.linger = 1h;  // only bytes, events and close make batches due
    batch_hooks<std::string> hooks;
    hooks.size_of = [](std::string const& s) { return s.size(); };
    std::size_t bytes = 0, wrong = 0;
    std::atomic<std::size_t> batches = 0;
    typename TypeParam::template of<std::string> batcher(
        [&](std::span<std::string> events, batch_info const&) {
            std::size_t all = 0;
            for (std::string const& s : events) all += s.size();
            bytes += all;
            wrong += all > 100;
            ++batches;
        },
        options, hooks);
    auto in = TypeParam::enter(batcher);
    EXPECT_EQ(in.push(std::string(101, 'x')), push_result::too_large);
    EXPECT_EQ(in.try_push(std::string(1'000, 'x')), push_result::too_large);
    EXPECT_EQ(in.push(std::string(100, 'x')), push_result::ok);  // a batch of its own, and due at once
    wait_until([&] { return batches == 1; });
    std::mt19937 random{3};
    std::size_t sent = 100;
    for (int i = 0; i < 1'000; ++i) {
        std::size_t const n = random() % 101;
        ASSERT_EQ(in.push(std::string(n, 'y')), push_result::ok);
        sent += n;
    }
    batcher.close();
    EXPECT_EQ(wrong, 0U);
    EXPECT_EQ(bytes, sent);
    EXPECT_EQ(batcher.stats().rejected, 2U);
}

// ---- Backpressure: what push answers, what is counted, and who is told. ----

template <class Way>
struct stuck {  // a batcher whose lane is full, with one event in the sink
    gate inside;
    std::vector<std::pair<event, push_result>> lost;
    table rows;
    typename Way::template of<event> batcher;
    decltype(Way::enter(batcher)) in;

    explicit stuck(overflow_policy policy, std::size_t capacity = 4,
                   std::chrono::nanoseconds block = cairn::forever)
        : batcher(
              [this](std::span<event> events, batch_info const&) {
                  inside.pass();
                  rows.insert(events);
              },
              [&] {
                  auto o = small(capacity, 100);
                  o.on_full = policy;
                  o.max_block = block;
                  o.linger = 0ns;
                  return o;
              }(),
              [this] {
                  batch_hooks<event> h;
                  h.on_drop = [this](event& e, push_result why) { lost.emplace_back(e, why); };
                  return h;
              }()),
          in(Way::enter(batcher)) {
        EXPECT_EQ(in.push(event{0, 1}), push_result::ok);
        inside.wait_for_arrivals();
        std::size_t const more = policy == overflow_policy::drop_oldest ? capacity : capacity - 1;
        for (std::uint32_t i = 0; i != more; ++i) EXPECT_EQ(in.push(event{0, 2 + i}), push_result::ok);
    }
    ~stuck() { inside.open(); }
};

TYPED_TEST_P(BatchingPromises, BlockWaitsForRoomAndCountsTheWait) {
    stuck<TypeParam> s(overflow_policy::block);
    std::thread opener([&s] {
        wait_until([&s] { return s.batcher.stats().blocked == 1; });
        s.inside.open();
    });
    EXPECT_EQ(s.in.push(event{0, 5}), push_result::ok);
    opener.join();
    s.batcher.close();
    EXPECT_EQ(s.rows.rows(), 5U);
    EXPECT_EQ(s.rows.skipped(), 0U);
    EXPECT_GT(s.batcher.stats().blocked_time, 0ns);
    EXPECT_TRUE(s.lost.empty());
}

TYPED_TEST_P(BatchingPromises, BlockGivesUpAfterMaxBlock) {
    stuck<TypeParam> s(overflow_policy::block, 4, 2ms);
    EXPECT_EQ(s.in.push(event{0, 5}), push_result::timed_out);
    EXPECT_EQ(s.in.push_for(event{0, 6}, 0ns), push_result::timed_out);  // the caller keeps it: no callback
    EXPECT_EQ(s.batcher.stats().rejected, 2U);
    ASSERT_EQ(s.lost.size(), 1U);
    EXPECT_EQ(s.lost[0], std::pair(event{0, 5}, push_result::timed_out));
}

TYPED_TEST_P(BatchingPromises, FailRefusesAtOnce) {
    stuck<TypeParam> s(overflow_policy::fail);
    EXPECT_EQ(s.in.push(event{0, 5}), push_result::full);
    EXPECT_EQ(s.in.try_push(event{0, 6}), push_result::full);  // the caller keeps it: no callback
    EXPECT_EQ(s.batcher.stats().rejected, 2U);
    ASSERT_EQ(s.lost.size(), 1U);
    EXPECT_EQ(s.lost[0], std::pair(event{0, 5}, push_result::full));
}

TYPED_TEST_P(BatchingPromises, DropNewestDropsWhatIsPushed) {
    stuck<TypeParam> s(overflow_policy::drop_newest);
    std::array<event, 2> const more{event{0, 5}, event{0, 6}};
    EXPECT_EQ(s.in.push(more[0]), push_result::dropped);
    EXPECT_EQ(s.in.push_n(more), 0U);
    EXPECT_EQ(s.batcher.stats().dropped_newest, 3U);
    ASSERT_EQ(s.lost.size(), 3U);
    EXPECT_EQ(s.lost[2], std::pair(event{0, 6}, push_result::dropped));
    s.inside.open();
    s.batcher.close();
    EXPECT_EQ(s.rows.last(0), 4U);
}

TYPED_TEST_P(BatchingPromises, DropOldestDropsWhatWaitsButNeverWhatTheSinkHas) {
    stuck<TypeParam> s(overflow_policy::drop_oldest);  // 1 in the sink, 2 to 5 wait
    EXPECT_EQ(s.in.push(event{0, 6}), push_result::ok);
    EXPECT_EQ(s.in.push(event{0, 7}), push_result::ok);
    EXPECT_EQ(s.batcher.stats().dropped_oldest, 2U);
    ASSERT_EQ(s.lost.size(), 2U);
    EXPECT_EQ(s.lost[0], std::pair(event{0, 2}, push_result::ok));
    EXPECT_EQ(s.lost[1], std::pair(event{0, 3}, push_result::ok));
    s.inside.open();
    s.batcher.close();
    EXPECT_EQ(s.rows.rows(), 5U);  // 1, 4, 5, 6, 7
    EXPECT_EQ(s.rows.last(0), 7U);
    EXPECT_EQ(s.rows.skipped(), 1U);
}

TYPED_TEST_P(BatchingPromises, AnOnDropHookMayPushAgain) {
    gate inside;
    table rows;
    auto options = small(4, 100);
    options.on_full = overflow_policy::drop_oldest;
    options.linger = 0ns;
    std::function<void(event)> again;
    int lost = 0;
    batch_hooks<event> hooks;
    hooks.on_drop = [&](event& e, push_result) {
        if (++lost < 10) again({1, e.number});
    };
    typename TypeParam::template of<event> batcher(
        [&](std::span<event> events, batch_info const&) {
            inside.pass();
            rows.insert(events);
        },
        options, hooks);
    auto in = TypeParam::enter(batcher);
    again = [&in](event e) { EXPECT_EQ(in.push(e), push_result::ok); };
    EXPECT_EQ(in.push(event{0, 1}), push_result::ok);
    inside.wait_for_arrivals();
    for (std::uint32_t i = 2; i <= 6; ++i) EXPECT_EQ(in.push(event{0, i}), push_result::ok);
    EXPECT_EQ(lost, 10);
    EXPECT_EQ(batcher.stats().dropped_oldest, 10U);
    inside.open();
    batcher.close();
    EXPECT_EQ(rows.rows(), 5U);
}

REGISTER_TYPED_TEST_SUITE_P(BatchingPromises, NoEventIsLostUnderAnyPolicyAndTheSumsAgreeAtEveryInstant,
                            NoEventComesTwiceFromASinkThatFailsInThirtyPercentOfItsCalls,
                            AfterAnAmbiguousCommitTheSameBatchComesAgainUnderTheSameId,
                            TheOrderOfEachProducerIsKeptAtEveryWrap, MemoryIsBoundedByTheExactCapacity,
                            NoBatchIsLargerThanMaxBytesAndAnEventThatIsIsRefused,
                            BlockWaitsForRoomAndCountsTheWait, BlockGivesUpAfterMaxBlock, FailRefusesAtOnce,
                            DropNewestDropsWhatIsPushed, DropOldestDropsWhatWaitsButNeverWhatTheSinkHas,
                            AnOnDropHookMayPushAgain);

}  // namespace support
