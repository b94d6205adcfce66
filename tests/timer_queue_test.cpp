// SPDX-License-Identifier: MIT
#include <cairn/timer_queue.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"

namespace {

using namespace std::chrono_literals;

template <class T>
using queue = cairn::timer_queue<T>;
using time_point = queue<int>::time_point;

constexpr time_point at(std::int64_t ns) { return time_point(std::chrono::nanoseconds(ns)); }

/// All that fires at `now`.
std::vector<int> fired(queue<int>& timers, std::int64_t now) {
    std::vector<int> order;
    timers.fire(at(now), [&](queue<int>::id, int& value) { order.push_back(value); });
    return order;
}

using order = std::vector<int>;

TEST(TimerQueue, FiresInTheOrderOfDeadlinesAndNoneEarly) {
    queue<int> timers;
    for (int const when : {30, 10, 20, 40}) static_cast<void>(timers.add(at(when), when));
    EXPECT_EQ(fired(timers, 9), order{});
    EXPECT_EQ(fired(timers, 10), order{10});
    EXPECT_EQ(fired(timers, 39), (order{20, 30}));
    EXPECT_EQ(timers.size(), 1U);
    EXPECT_EQ(timers.next(), at(40));
    EXPECT_EQ(fired(timers, 1'000), order{40});
    EXPECT_EQ(timers.next(), std::nullopt);
    EXPECT_TRUE(timers.empty());
}

TEST(TimerQueue, FiresEqualDeadlinesInTheOrderInWhichTheyWereSet) {
    queue<int> timers;
    order expected;
    std::vector<queue<int>::id> ids;
    for (int i = 0; i < 500; ++i) {
        ids.push_back(timers.add(at(7), i));
        expected.push_back(i);
    }
    // Set again to the same time, it goes behind the others: as if it were cancelled and added.
    for (int const i : {3, 499, 0}) {
        EXPECT_TRUE(timers.rearm(ids[static_cast<std::size_t>(i)], at(7)));
        expected.erase(std::find(expected.begin(), expected.end(), i));
        expected.push_back(i);
    }
    EXPECT_EQ(fired(timers, 7), expected);
}

TEST(TimerQueue, OrdersATimerThatWasPutOffByWhenThatWasDone) {
    queue<int> timers;
    auto const first = timers.add(at(10), 1);
    static_cast<void>(timers.add(at(20), 2));
    timers.rearm(first, at(20));
    EXPECT_EQ(timers.next(), at(10));  // a bound: it has not looked yet
    EXPECT_EQ(timers.deadline(first), at(20));
    EXPECT_EQ(fired(timers, 19), order{});
    EXPECT_EQ(timers.next(), at(20));
    EXPECT_EQ(fired(timers, 20), (order{2, 1}));
}

TEST(TimerQueue, PutsATimerOffOftenAndThenBringsItForward) {
    queue<int> timers;
    auto const one = timers.add(at(10), 1);
    for (std::int64_t when = 11; when < 511; ++when) EXPECT_TRUE(timers.rearm(one, at(when)));
    EXPECT_EQ(fired(timers, 509), order{});
    EXPECT_TRUE(timers.rearm(one, at(300)));
    EXPECT_EQ(fired(timers, 299), order{});
    EXPECT_EQ(fired(timers, 300), order{1});
    EXPECT_FALSE(timers.rearm(one, at(400)));
}

TEST(TimerQueue, ForgetsATimerThatWasCancelledOrHasFired) {
    queue<std::shared_ptr<int>> timers;
    auto const value = std::make_shared<int>(1);
    auto const one = timers.add(at(1), value);
    auto const two = timers.add(at(2), value);
    EXPECT_EQ(value.use_count(), 3);
    EXPECT_EQ(**timers.find(one), 1);
    EXPECT_TRUE(timers.cancel(one));
    EXPECT_EQ(value.use_count(), 2);
    EXPECT_FALSE(timers.cancel(one));
    EXPECT_FALSE(timers.rearm(one, at(5)));
    EXPECT_EQ(timers.find(one), nullptr);
    EXPECT_EQ(timers.deadline(one), std::nullopt);
    EXPECT_EQ(timers.fire(at(9), [](auto, auto&) {}), 1U);
    EXPECT_FALSE(timers.contains(two));
    EXPECT_EQ(value.use_count(), 1);
    EXPECT_FALSE(timers.contains({}));
    // A new timer has the slot of an old one, and not its name.
    auto const three = timers.add(at(3), value);
    EXPECT_FALSE(timers.contains(one) || timers.contains(two));
    EXPECT_TRUE(timers.contains(three));
}

TEST(TimerQueue, LetsACallAddRearmAndCancelAnyTimer) {
    queue<int> timers;
    order seen;
    std::vector<queue<int>::id> ids(4);
    for (int i = 0; i < 4; ++i) ids[static_cast<std::size_t>(i)] = timers.add(at(i), i);
    auto const f = [&](queue<int>::id id, int& value) {
        seen.push_back(value);
        if (value == 0) {
            EXPECT_TRUE(timers.cancel(ids[1]));
            EXPECT_TRUE(timers.rearm(ids[2], at(100)));
            for (int i = 10; i < 1'000; ++i)
                static_cast<void>(timers.add(at(200), i));  // the values must stay
            EXPECT_EQ(*timers.find(id), 0);
            EXPECT_EQ(value, 0);
        }
    };
    EXPECT_EQ(timers.fire(at(50), f), 2U);
    EXPECT_EQ(seen, (order{0, 3}));
    EXPECT_EQ(timers.size(), 991U);
    EXPECT_EQ(timers.deadline(ids[2]), at(100));
}

TEST(TimerQueue, LetsATimerCancelItselfAndKeepsItsValueUntilItsCallReturns) {
    queue<std::shared_ptr<int>> timers;
    auto const value = std::make_shared<int>(1);
    static_cast<void>(timers.add(at(1), value));
    timers.fire(at(1), [&](auto id, std::shared_ptr<int>& mine) {
        EXPECT_TRUE(timers.cancel(id));
        EXPECT_FALSE(timers.cancel(id));
        EXPECT_FALSE(timers.rearm(id, at(5)));
        EXPECT_EQ(timers.size(), 0U);
        for (int i = 0; i < 600; ++i) static_cast<void>(timers.add(at(9), nullptr));
        EXPECT_EQ(*mine, 1);
        EXPECT_EQ(value.use_count(), 2);
    });
    EXPECT_EQ(value.use_count(), 1);
    EXPECT_EQ(timers.size(), 600U);
}

TEST(TimerQueue, LetsATimerArmItselfAgain) {
    queue<int> timers;
    auto const one = timers.add(at(1), 1);
    int calls = 0;
    auto const again = [&](auto id, int&) {
        EXPECT_EQ(id, one);
        ++calls;
        timers.rearm(id, at(calls < 3 ? 0 : 50));  // in the past: due, but not in this round
    };
    EXPECT_EQ(timers.fire(at(2), again), 1U);
    EXPECT_EQ(timers.fire(at(2), again), 1U);
    EXPECT_EQ(timers.fire(at(3), again), 1U);
    EXPECT_EQ(timers.fire(at(49), again), 0U);
    EXPECT_EQ(timers.deadline(one), at(50));
    // Armed again, and then cancelled, in one call.
    timers.fire(at(50), [&](auto id, int&) { EXPECT_TRUE(timers.rearm(id, at(60)) && timers.cancel(id)); });
    EXPECT_TRUE(timers.empty());
    EXPECT_EQ(timers.next(), std::nullopt);
}

TEST(TimerQueue, FiresAllThatIsDueBeforeWhatIsArmedMeanwhile) {
    queue<int> timers;
    order seen;
    for (int i = 0; i < 3; ++i) static_cast<void>(timers.add(at(10 + i), i));
    auto const f = [&](auto, int& value) {
        seen.push_back(value);
        if (value < 100) static_cast<void>(timers.add(at(-1'000), value + 100));
    };
    EXPECT_EQ(timers.fire(at(20), f), 3U);
    EXPECT_EQ(seen, (order{0, 1, 2}));
    EXPECT_EQ(timers.fire(at(20), f), 3U);
    EXPECT_EQ(seen, (order{0, 1, 2, 100, 101, 102}));
}

TEST(TimerQueue, StopsWhenACallSaysSo) {
    queue<int> timers;
    for (int i = 0; i < 5; ++i) static_cast<void>(timers.add(at(i), i));
    EXPECT_EQ(timers.fire(at(9), [](auto, int& value) { return value != 2; }), 3U);
    EXPECT_EQ(fired(timers, 9), (order{3, 4}));
}

TEST(TimerQueue, KeepsWhatIsDueWhenACallThrows) {
    queue<int> timers;
    for (int i = 0; i < 4; ++i) static_cast<void>(timers.add(at(i), i));
    auto const f = [](auto, int& value) {
        if (value == 1) throw std::runtime_error("one");
    };
    EXPECT_THROW(timers.fire(at(9), f), std::runtime_error);
    EXPECT_EQ(fired(timers, 9), (order{2, 3}));
    // The round is over: what is armed for an earlier time is armed for that.
    auto const id = timers.add(at(1), 5);
    EXPECT_EQ(timers.deadline(id), at(1));
}

TEST(TimerQueue, TakesTheExtremesOfTime) {
    queue<int> timers;
    auto const last = timers.add(time_point::max(), 2);
    static_cast<void>(timers.add(time_point::min(), 1));
    EXPECT_EQ(timers.next(), time_point::min());
    EXPECT_EQ(fired(timers, std::numeric_limits<std::int64_t>::max() - 1), order{1});
    EXPECT_TRUE(timers.rearm(last, time_point::max()));
    EXPECT_TRUE(timers.rearm(last, at(0)));
    EXPECT_EQ(fired(timers, 0), order{2});
}

TEST(TimerQueue, AllocatesNothingOnceItsSlotsAreThere) {
    queue<int> timers;
    timers.reserve(1'000);
    std::size_t const before = support::allocations;
    std::vector<queue<int>::id> ids;
    {
        std::size_t const own = support::allocations;
        ids.reserve(1'000);
        EXPECT_EQ(support::allocations, own + 1);
    }
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 1'000; ++i) ids.push_back(timers.add(at(1'000 - i), i));
        for (auto const id : ids) timers.rearm(id, at(round * 100));
        for (std::size_t i = 0; i < 500; ++i) timers.cancel(ids[i]);
        EXPECT_EQ(timers.fire(at(5'000), [](auto, int&) {}), 500U);
        ids.clear();
    }
    EXPECT_EQ(support::allocations, before + 1);
}

TEST(TimerQueue, ChangesNothingWhenMemoryOrTheValueFails) {
    struct brittle {
        explicit brittle(bool fails) {
            if (fails) throw std::runtime_error("value");
        }
    };
    queue<brittle> timers;
    for (std::size_t n = 0; n < 5; ++n) {
        support::fail_after const limit(n);
        try {
            static_cast<void>(timers.add(at(1), false));
            break;
        } catch (std::bad_alloc const&) {
            EXPECT_TRUE(timers.empty());
        }
    }
    EXPECT_EQ(timers.size(), 1U);
    EXPECT_THROW(static_cast<void>(timers.add(at(1), true)), std::runtime_error);
    for (int i = 1; i < 256; ++i) static_cast<void>(timers.add(at(i), false));
    {
        support::fail_after const limit(1);
        EXPECT_THROW(static_cast<void>(timers.add(at(1), false)), std::bad_alloc);
    }
    EXPECT_EQ(timers.size(), 256U);
    static_cast<void>(timers.add(at(1), false));
    EXPECT_EQ(timers.fire(at(1'000), [](auto, brittle&) {}), 257U);
}

TEST(TimerQueue, LetsAValueAddAndCancelTimersAsItIsMadeAndDestroyed) {
    struct busy;
    using busy_queue = queue<std::unique_ptr<busy>>;
    struct busy {
        busy_queue* timers;
        busy_queue::id other;
        ~busy() { timers->cancel(other); }
    };
    struct makes_more {
        busy_queue* timers;
        operator std::unique_ptr<busy>() const {  // runs within add()
            return std::make_unique<busy>(timers, timers->add(at(2), nullptr));
        }
    };
    busy_queue timers;
    for (int i = 0; i < 300; ++i) static_cast<void>(timers.add(at(1), makes_more{&timers}));
    EXPECT_EQ(timers.size(), 600U);
    timers.fire(at(1), [](auto, auto&) {});
    EXPECT_TRUE(timers.empty());
    for (int i = 0; i < 300; ++i) static_cast<void>(timers.add(at(1), makes_more{&timers}));
    timers.clear();
    EXPECT_TRUE(timers.empty());
    EXPECT_EQ(timers.next(), std::nullopt);
}

TEST(TimerQueue, ClearsWithinACall) {
    queue<std::unique_ptr<int>> timers;
    for (int i = 0; i < 10; ++i) static_cast<void>(timers.add(at(i), std::make_unique<int>(i)));
    EXPECT_EQ(timers.fire(at(99),
                          [&](auto, std::unique_ptr<int>& value) {
                              timers.clear();
                              EXPECT_EQ(*value, 0);
                          }),
              1U);
    EXPECT_TRUE(timers.empty());
}

/// A clock that counts minutes in fractions.
struct ticks {
    using rep = double;
    using period = std::ratio<60>;
    using duration = std::chrono::duration<rep, period>;
    using time_point = std::chrono::time_point<ticks>;
    [[maybe_unused]] static constexpr bool is_steady = true;
};

TEST(TimerQueue, WorksWithAClockOfItsUsersAndAnOverAlignedValue) {
    struct alignas(128) wide {
        int value;
    };
    cairn::timer_queue<wide, ticks> timers;
    std::vector<int> seen;
    for (int i = 0; i < 300; ++i)
        static_cast<void>(timers.add(ticks::time_point(ticks::duration(0.5 * (300 - i))), wide{i}));
    timers.fire(ticks::time_point(ticks::duration(1.0)), [&](auto, wide& w) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&w) % 128, 0U);
        seen.push_back(w.value);
    });
    EXPECT_EQ(seen, (std::vector<int>{299, 298}));
}

/// The same calls on a std::multimap: equal keys keep the order of their insertion.
class TimerQueueModel : public testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(Seeds, TimerQueueModel, testing::Values(1U, 2U, 3U, 4U, 5U, 6U));

TEST_P(TimerQueueModel, DoesWhatAMultimapDoesInAnyOrderOfCalls) {
    std::mt19937 random(GetParam());
    std::int64_t const spread = GetParam() % 2 == 0 ? 20 : 1'000'000;  // many ties, and few
    queue<int> timers;
    struct one {
        queue<int>::id id;
        std::multimap<std::int64_t, int>::iterator place;
    };
    std::multimap<std::int64_t, int> model;
    std::map<int, one> live;
    std::vector<queue<int>::id> gone;
    std::int64_t now = 0;
    int next = 0;
    auto const some = [&] {
        auto const it = live.lower_bound(static_cast<int>(random() % static_cast<unsigned>(next)));
        return it == live.end() ? live.begin() : it;
    };
    auto const set = [&](one& it, int number, std::int64_t when) {
        model.erase(it.place);
        it.place = model.emplace(when, number);
    };
    for (int step = 0; step < 16'000; ++step) {
        bool const growing = step / 2'000 % 2 == 0;
        std::int64_t const when =
            now + static_cast<std::int64_t>(random() % static_cast<unsigned>(spread)) - spread / 10;
        switch (random() % 8) {
            case 0:
            case 1:
            case 2:
                if (growing || random() % 4 == 0) {
                    live[next] = {timers.add(at(when), next), model.emplace(when, next)};
                    ++next;
                }
                break;
            case 3:
            case 4:
                if (!live.empty()) {
                    auto const it = some();
                    ASSERT_TRUE(timers.rearm(it->second.id, at(when)));
                    set(it->second, it->first, when);
                    ASSERT_EQ(timers.deadline(it->second.id), at(when));
                }
                break;
            case 5:
                if (!live.empty() && (!growing || random() % 4 == 0)) {
                    auto const it = some();
                    ASSERT_TRUE(timers.cancel(it->second.id));
                    gone.push_back(it->second.id);
                    model.erase(it->second.place);
                    live.erase(it);
                }
                break;
            default: {
                now += static_cast<std::int64_t>(random() % static_cast<unsigned>(spread / 10 + 1));
                if (!model.empty() && timers.next()) {
                    ASSERT_LE(*timers.next(), at(model.begin()->first));
                }
                std::vector<int> expected;
                for (auto it = model.begin(); it != model.end() && it->first <= now; ++it)
                    expected.push_back(it->second);
                std::vector<int> seen;
                timers.fire(at(now), [&](queue<int>::id id, int& number) {
                    seen.push_back(number);
                    one& it = live.at(number);
                    ASSERT_EQ(id, it.id);
                    if (number % 3 == 0) {  // again, some of them at a time that is over
                        std::int64_t const again = now + number % 5 - 2;
                        ASSERT_TRUE(timers.rearm(id, at(again)));
                        set(it, number, std::max(again, now));
                    } else {
                        model.erase(it.place);
                        gone.push_back(id);
                        live.erase(number);
                    }
                });
                ASSERT_EQ(seen, expected) << "seed " << GetParam() << " step " << step;
            }
        }
        ASSERT_EQ(timers.size(), model.size());
    }
    for (auto const id : gone) ASSERT_FALSE(timers.contains(id));
}

}  // namespace
