// SPDX-License-Identifier: MIT
#include <cairn/async_fd.hpp>
#include <cairn/signal_watch.hpp>
#include <cairn/task.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <ratio>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

using namespace std::chrono_literals;
using cairn::async_fd;
using cairn::event_loop;
using cairn::scope;
using cairn::task;
using cairn::unique_fd;

std::span<std::byte const> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
std::string_view text(std::span<std::byte const> data) {
    return {reinterpret_cast<char const*>(data.data()), data.size()};
}

/// Says when it dies: a variable in a coroutine's frame.
struct mourner {
    int* deaths;
    explicit mourner(int& count) noexcept : deaths(&count) {}
    mourner(mourner const&) = delete;
    mourner& operator=(mourner const&) = delete;
    ~mourner() { ++*deaths; }
};

task<int> give(int value) { co_return value; }
task<int> give_later(event_loop& loop, int value) {
    co_await cairn::sleep_for(loop, 100us);
    co_return value;
}
task<int> fail(int value) {
    if (value >= 0) throw std::out_of_range(std::to_string(value));
    co_return value;
}
task<> fail_later(event_loop& loop, std::string what) {
    co_await cairn::sleep_for(loop, 100us);
    throw std::runtime_error(what);
}
task<> sleep_long(event_loop& loop, int& deaths) {
    mourner const here(deaths);
    co_await cairn::sleep_for(loop, 1h);
    ADD_FAILURE() << "an hour is over";
}

// ---- Tasks. ----

TEST(Task, DoesNothingUntilItIsAwaited) {
    event_loop loop;
    bool began = false;
    auto begin = [](bool& flag) -> task<> {
        flag = true;
        co_return;
    };
    {
        task<> never = begin(began);
        EXPECT_TRUE(never);
    }
    EXPECT_FALSE(began);
    cairn::run(loop, begin(began));
    EXPECT_TRUE(began);
}

TEST(Task, ReturnsValuesOfAnyKind) {
    event_loop loop;
    int object = 1;
    auto all = [](event_loop& on, int& referred) -> task<> {
        auto by_reference = [](int& it) -> task<int&> { co_return it; };
        auto movable = [](event_loop& l) -> task<std::unique_ptr<int>> {
            co_await cairn::sleep_for(l, 1us);
            co_return std::make_unique<int>(3);
        };
        struct no_default {
            explicit no_default(int v) : value(v) {}
            int value;
        };
        auto without_default = []() -> task<no_default> { co_return no_default(4); };
        auto is_converted = []() -> task<std::string> { co_return "five"; };
        int& got = co_await by_reference(referred);
        EXPECT_EQ(&got, &referred);
        auto const pointer = co_await movable(on);
        EXPECT_EQ(*pointer, 3);
        auto const made = co_await without_default();
        EXPECT_EQ(made.value, 4);
        std::string const five = co_await is_converted();
        EXPECT_EQ(five, "five");
    };
    cairn::run(loop, all(loop, object));
    static_assert(std::is_same_v<decltype(cairn::run(loop, std::declval<task<int&>>())), int&>);
}

TEST(Task, IsMovedButNotCopied) {
    static_assert(!std::is_copy_constructible_v<task<int>> && !std::is_copy_assignable_v<task<int>>);
    static_assert(std::is_nothrow_move_constructible_v<task<int>>);
    static_assert(sizeof(task<int>) == sizeof(void*));
    event_loop loop;
    int deaths = 0;
    task<> a = sleep_long(loop, deaths);
    task<> b = std::move(a);
    EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move): that is what is asked
    EXPECT_TRUE(b);
    b = give_later(loop, 1) ? task<>() : task<>();
    EXPECT_FALSE(b);
    EXPECT_EQ(deaths, 0) << "it had not begun";
    EXPECT_EQ(cairn::run(loop, give(7)), 7);
}

// Behaviour 39.
TEST(Task, HandsWhatItThrowsToWhoAwaitsIt) {
    event_loop loop;
    auto nested = [](event_loop& on) -> task<int> {
        int caught = 0;
        try {
            co_await fail(1);
        } catch (std::out_of_range const& error) {
            caught += std::stoi(error.what());
        }
        try {
            co_await fail_later(on, "10");
        } catch (std::runtime_error const& error) {
            caught += std::stoi(error.what());
        }
        co_return caught + co_await fail(100);
    };
    try {
        cairn::run(loop, nested(loop));
        FAIL();
    } catch (std::out_of_range const& error) {
        EXPECT_STREQ(error.what(), "100");
    }
    EXPECT_EQ(cairn::run(loop, give(1)), 1) << "the loop goes on";
}

// g++ makes a symmetric transfer a jump at -O2 only, and never under a sanitizer.
TEST(Task, MayAwaitAMillionReadyTasksInALoopWithoutAGrowingStack) {
    event_loop loop;
    auto sum = [](int n) -> task<long> {
        long total = 0;
        for (int i = 0; i < n; ++i) total += co_await give(i % 3);
        co_return total;
    };
    EXPECT_EQ(cairn::run(loop, sum(1'000'000)), 999'999);
}

TEST(Task, EndsAThousandNestedOnesOneAfterAnother) {
    event_loop loop;
    struct nest {
        static task<int> down(event_loop& on, int depth) {
            if (depth == 0) co_return co_await give_later(on, 0);
            co_return 1 + co_await down(on, depth - 1);
        }
    };
    EXPECT_EQ(cairn::run(loop, nest::down(loop, 1'000)), 1'000);
}

TEST(Task, DestroysItsVariablesAtItsEndAndItsFrameWhenItWasAwaited) {
    event_loop loop;
    int deaths = 0;
    auto outer = [](event_loop& on, int& count) -> task<> {
        auto inner = [](event_loop& l, int& c) -> task<std::unique_ptr<mourner>> {
            mourner const local(c);
            co_await cairn::sleep_for(l, 1us);
            co_return std::make_unique<mourner>(c);
        };
        auto got = co_await inner(on, count);
        EXPECT_EQ(count, 1);
        got.reset();
        EXPECT_EQ(count, 2);
    };
    cairn::run(loop, outer(loop, deaths));
    EXPECT_EQ(deaths, 2);
}

// Behaviour 40.
TEST(Task, CancelsItsTimerWhenItIsDestroyedWhileItWaits) {
    event_loop loop;
    int deaths = 0;
    scope tasks;
    tasks.spawn(sleep_long(loop, deaths));
    EXPECT_EQ(loop.timers(), 1U);
    tasks.cancel();
    EXPECT_EQ(deaths, 1);
    EXPECT_EQ(loop.timers(), 0U);
    EXPECT_EQ(loop.poll(), 0U);
}

TEST(Task, DestroysWhatItAwaitsItselfFromTheInsideOut) {
    event_loop loop;
    std::vector<int> order;
    struct note {
        std::vector<int>& to;
        int what;
        note(std::vector<int>& list, int number) : to(list), what(number) {}
        note(note const&) = delete;
        note& operator=(note const&) = delete;
        ~note() { to.push_back(what); }
    };
    struct nest {
        static task<> down(event_loop& on, std::vector<int>& list, int depth) {
            note const here(list, depth);
            if (depth == 3)
                co_await cairn::sleep_for(on, 1h);
            else
                co_await down(on, list, depth + 1);
        }
    };
    {
        scope tasks;
        tasks.spawn(nest::down(loop, order, 0));
    }
    EXPECT_EQ(order, (std::vector<int>{3, 2, 1, 0}));
    EXPECT_EQ(loop.timers(), 0U);
}

TEST(Task, MayOutliveTheLoopThatItWaitsFor) {
    int deaths = 0;
    scope tasks;
    {
        event_loop loop;
        tasks.spawn(sleep_long(loop, deaths));
    }
    EXPECT_EQ(deaths, 0);
    tasks.cancel();
    EXPECT_EQ(deaths, 1);
}

TEST(Task, AllocatesItsFrameAndNothingElseToSleep) {
    event_loop loop;
    auto sleeper = [](event_loop& on) -> task<std::size_t> {
        co_await cairn::sleep_for(on, 1us);
        std::size_t const before = support::allocations;
        for (int i = 0; i < 100; ++i) co_await cairn::sleep_for(on, 1us);
        co_return support::allocations - before;
    };
    EXPECT_EQ(cairn::run(loop, sleeper(loop)), 0U);
    auto awaiting = []() -> task<std::size_t> {
        std::size_t const before = support::allocations;
        for (int i = 0; i < 100; ++i) co_await give(i);
        co_return support::allocations - before;
    };
    EXPECT_LE(cairn::run(loop, awaiting()), 100U);
    auto spawning = [](event_loop& on) -> task<std::size_t> {
        auto child = [](event_loop& l) -> task<> { co_await cairn::sleep_for(l, 1us); };
        scope tasks;
        std::size_t const before = support::allocations;
        for (int i = 0; i < 100; ++i) tasks.spawn(child(on));
        std::size_t const after = support::allocations;
        co_await tasks.join();
        co_return after - before;
    };
    EXPECT_LE(cairn::run(loop, spawning(loop)), 100U + 8) << "and what the loop needs for more timers";
}

TEST(Task, WaitsForTheLongestAndShortestTimesThereAre) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        using years = std::chrono::duration<double, std::ratio<31'556'952>>;
        co_await cairn::sleep_for(on, std::chrono::hours::min());
        co_await cairn::sleep_for(on, -years(1e30));
        co_await cairn::sleep_until(on, event_loop::time_point::min());
        int deaths = 0;
        auto for_ever = [](event_loop& l, years time, int& count) -> task<> {
            mourner const here(count);
            co_await cairn::sleep_for(l, time);
            ADD_FAILURE() << "for ever is over";
        };
        for (years const time : {years(1e30), years(std::numeric_limits<double>::infinity()),
                                 years(std::numeric_limits<double>::quiet_NaN())}) {
            bool const over = co_await cairn::with_timeout(on, 1ms, for_ever(on, time, deaths));
            EXPECT_FALSE(over);
        }
        EXPECT_EQ(deaths, 3);
        auto const value = co_await cairn::with_timeout(on, std::chrono::hours::max(), give_later(on, 1));
        EXPECT_EQ(value, 1);
    };
    cairn::run(loop, work(loop));
}

TEST(Task, LosesNothingWhereverMemoryIsShort) {
    int deaths = 0, made = 0;
    std::size_t failed = 0;
    bool done = false;
    for (std::size_t n = 0; !done; ++n) {
        ASSERT_LT(n, 200U);
        event_loop loop;
        auto [a, b] = cairn::socket_pair();
        auto inner = [](event_loop& on, int& count, int& born) -> task<> {
            ++born;
            mourner const here(count);
            co_await cairn::sleep_for(on, 1us);
            co_await cairn::schedule(on);
        };
        auto work = [&](event_loop& on, unique_fd fd) -> task<> {
            ++made;
            mourner const here(deaths);
            async_fd mine(on, std::move(fd));
            scope tasks;
            tasks.spawn(inner(on, deaths, made));
            (void)co_await cairn::with_timeout(on, 1h, inner(on, deaths, made));
            co_await tasks.join();
        };
        try {
            support::fail_after const limit(n);
            cairn::run(loop, work(loop, std::move(a)));
            done = true;
        } catch (std::bad_alloc const&) {
            ++failed;
        }
        EXPECT_EQ(deaths, made) << n;
        EXPECT_EQ(loop.watching(), 0U);
        EXPECT_EQ(loop.timers(), 0U);
    }
    EXPECT_GE(failed, 4U);
}

// ---- run() ----

TEST(Run, CancelsTheTaskAndThrowsIfTheLoopIsStoppedBefore) {
    event_loop loop;
    int deaths = 0;
    auto const soon = loop.call_after(1ms, [&] { loop.stop(); });
    EXPECT_THROW(cairn::run(loop, sleep_long(loop, deaths)), std::logic_error);
    EXPECT_EQ(deaths, 1);
    EXPECT_EQ(cairn::run(loop, give_later(loop, 5)), 5);
}

TEST(Run, LetsTheExceptionOfAHandlerOutAndCancelsTheTask) {
    event_loop loop;
    int deaths = 0;
    loop.post([] { throw std::runtime_error("of a handler"); });
    EXPECT_THROW(cairn::run(loop, sleep_long(loop, deaths)), std::runtime_error);
    EXPECT_EQ(deaths, 1);
}

TEST(Run, DoesNotTouchTheLoopForATaskThatNeverWaits) {
    event_loop loop;
    bool ran = false;
    loop.post([&] { ran = true; });
    EXPECT_EQ(cairn::run(loop, give(3)), 3);
    EXPECT_FALSE(ran);
    loop.poll();
    EXPECT_TRUE(ran);
}

// ---- spawn() ----

TEST(Spawn, RunsATaskAtOnceUntilItWaitsAndThenWithTheLoop) {
    event_loop loop;
    std::string steps;
    auto work = [](event_loop& on, std::string& to) -> task<> {
        to += 'a';
        co_await cairn::sleep_for(on, 1us);
        to += 'b';
        on.stop();
    };
    cairn::spawn(loop, work(loop, steps));
    EXPECT_EQ(steps, "a");
    loop.run();
    EXPECT_EQ(steps, "ab");
    EXPECT_EQ(loop.timers(), 0U) << "nothing of it is left";
}

TEST(Spawn, GivesTheTaskToTheLoopWhichDestroysItAtItsEnd) {
    int deaths = 0;
    {
        event_loop loop;
        cairn::spawn(loop, sleep_long(loop, deaths));
        loop.poll();
        EXPECT_EQ(deaths, 0);
    }
    EXPECT_EQ(deaths, 1);
}

TEST(Spawn, LetsWhatTheTaskThrowsOutOfRun) {
    event_loop loop;
    cairn::spawn(loop, fail_later(loop, "later"));
    auto at_once = []() -> task<> { co_await fail(1); };
    cairn::spawn(loop, at_once());
    EXPECT_THROW(loop.run(), std::out_of_range);
    EXPECT_THROW(loop.run(), std::runtime_error);
    EXPECT_EQ(loop.timers(), 0U);
}

TEST(Spawn, LosesNothingWhenMemoryIsShort) {
    event_loop loop;
    int deaths = 0;
    auto work = [](event_loop& on, mourner const&) -> task<> { co_await cairn::sleep_for(on, 1us); };
    for (std::size_t n = 0; n < 8; ++n) {
        mourner const argument(deaths);
        try {
            support::fail_after const limit(n);
            cairn::spawn(loop, work(loop, argument));
        } catch (std::bad_alloc const&) {
        }
        std::this_thread::sleep_for(10us);
        loop.poll();
        while (loop.timers() != 0) loop.run_once(1ms);
    }
    EXPECT_EQ(deaths, 8);
}

// ---- Scopes. ----

TEST(Scope, WaitsForItsChildren) {
    event_loop loop;
    auto parent = [](event_loop& on) -> task<int> {
        int done = 0;
        scope children;
        auto child = [](event_loop& l, int i, int& count) -> task<> {
            if (i % 2 == 0) co_await cairn::sleep_for(l, std::chrono::microseconds(i * 10));
            ++count;
        };
        for (int i = 0; i < 50; ++i) children.spawn(child(on, i, done));
        EXPECT_EQ(children.size(), 25U) << "those that did not wait are done";
        co_await children.join();
        EXPECT_TRUE(children.empty());
        co_await children.join();
        co_return done;
    };
    EXPECT_EQ(cairn::run(loop, parent(loop)), 50);
}

TEST(Scope, CancelsTheChildrenThatAreNotDoneAtItsEnd) {
    event_loop loop;
    int deaths = 0;
    auto parent = [](event_loop& on, int& count) -> task<> {
        scope children;
        for (int i = 0; i < 10; ++i) children.spawn(sleep_long(on, count));
        co_await cairn::sleep_for(on, 1us);
        EXPECT_EQ(count, 0);
    };
    cairn::run(loop, parent(loop, deaths));
    EXPECT_EQ(deaths, 10);
    EXPECT_EQ(loop.timers(), 0U);
}

TEST(Scope, ThrowsTheFirstExceptionInJoinWhenAllAreDone) {
    event_loop loop;
    auto parent = [](event_loop& on) -> task<> {
        scope children;
        bool finished = false;
        auto slow = [](event_loop& l, bool& flag) -> task<> {
            co_await cairn::sleep_for(l, 2ms);
            flag = true;
        };
        children.spawn(slow(on, finished));
        children.spawn(fail_later(on, "first"));
        auto second = [](event_loop& l) -> task<> {
            co_await cairn::sleep_for(l, 1ms);
            throw std::logic_error("second");
        };
        children.spawn(second(on));
        try {
            co_await children.join();
            ADD_FAILURE();
        } catch (std::runtime_error const& error) {
            EXPECT_STREQ(error.what(), "first");
        }
        EXPECT_TRUE(finished);
        co_await children.join();  // it is told once
    };
    cairn::run(loop, parent(loop));
}

TEST(Scope, ResumesWhoJoinsWhenItIsCancelled) {
    event_loop loop;
    int deaths = 0;
    scope children;
    bool joined = false;
    auto parent = [](scope& of, bool& flag) -> task<> {
        co_await of.join();
        flag = true;
    };
    children.spawn(sleep_long(loop, deaths));
    cairn::spawn(loop, parent(children, joined));
    EXPECT_FALSE(joined);
    children.cancel();
    EXPECT_TRUE(joined);
    EXPECT_EQ(deaths, 1);
}

TEST(Scope, ForgetsAJoinThatIsDestroyed) {
    event_loop loop;
    int deaths = 0;
    scope children;
    children.spawn(sleep_long(loop, deaths));
    {
        scope others;
        auto parent = [](scope& of) -> task<> { co_await of.join(); };
        others.spawn(parent(children));
    }
    children.cancel();
    EXPECT_EQ(deaths, 1);
}

TEST(Scope, LetsChildrenSpawnChildren) {
    event_loop loop;
    struct tree {
        static task<> grow(event_loop& on, scope& in, int depth, int& leaves) {
            if (depth == 0) {
                ++leaves;
                co_return;
            }
            in.spawn(grow(on, in, depth - 1, leaves));
            co_await cairn::sleep_for(on, 1us);
            in.spawn(grow(on, in, depth - 1, leaves));
        }
    };
    auto parent = [](event_loop& on) -> task<int> {
        int leaves = 0;
        scope all;
        all.spawn(tree::grow(on, all, 8, leaves));
        co_await all.join();
        co_return leaves;
    };
    EXPECT_EQ(cairn::run(loop, parent(loop)), 256);
}

// ---- Time and posted work. ----

TEST(Sleep, NeverEndsEarlyAndKeepsTheOrderOfDeadlines) {
    event_loop loop;
    std::uint32_t const seed = 20'261'125;
    std::mt19937 random(seed);
    struct entry {
        event_loop::time_point due;
        int number;
    };
    std::vector<entry> woken;
    auto sleeper = [](event_loop& on, event_loop::time_point due, int number,
                      std::vector<entry>& to) -> task<> {
        co_await cairn::sleep_until(on, due);
        EXPECT_GE(event_loop::clock::now(), due);
        to.push_back({due, number});
    };
    auto parent = [&](event_loop& on) -> task<> {
        scope all;
        auto const now = event_loop::clock::now();
        for (int i = 0; i < 500; ++i)
            all.spawn(sleeper(on, now + std::chrono::microseconds(random() % 40 * 100), i, woken));
        co_await all.join();
    };
    cairn::run(loop, parent(loop));
    ASSERT_EQ(woken.size(), 500U);
    EXPECT_TRUE(std::is_sorted(
        woken.begin(), woken.end(),
        [](entry const& a, entry const& b) { return a.due != b.due ? a.due < b.due : a.number < b.number; }))
        << "seed " << seed;
}

TEST(Sleep, OfNoTimeLetsTheOthersHaveTheirTurn) {
    event_loop loop;
    std::string order;
    auto one = [](event_loop& on, std::string& to, char name) -> task<> {
        for (int i = 0; i < 3; ++i) {
            to += name;
            co_await cairn::sleep_for(on, 0s);
        }
    };
    auto parent = [&](event_loop& on) -> task<> {
        scope all;
        all.spawn(one(on, order, 'a'));
        all.spawn(one(on, order, 'b'));
        co_await all.join();
    };
    cairn::run(loop, parent(loop));
    EXPECT_EQ(order, "ababab");
}

TEST(Schedule, GoesOnBehindWhatWasPostedBefore) {
    event_loop loop;
    std::string order;
    auto work = [](event_loop& on, std::string& to) -> task<> {
        on.post([&to] { to += '1'; });
        co_await cairn::schedule(on);
        to += '2';
        on.post([&to] { to += '3'; });
        co_await cairn::schedule(on);
        to += '4';
    };
    cairn::run(loop, work(loop, order));
    EXPECT_EQ(order, "1234");
}

TEST(Schedule, IsForgottenWhenTheTaskIsDestroyed) {
    event_loop loop;
    int deaths = 0;
    auto work = [](event_loop& on, int& count) -> task<> {
        mourner const here(count);
        co_await cairn::schedule(on);
        ADD_FAILURE();
    };
    {
        scope tasks;
        tasks.spawn(work(loop, deaths));
    }
    EXPECT_EQ(deaths, 1);
    EXPECT_EQ(loop.poll(), 1U) << "the posted work, which does nothing";
    {
        event_loop ends_first;
        scope tasks;
        tasks.spawn(work(ends_first, deaths));
        (void)std::make_unique<event_loop>();
    }
    EXPECT_EQ(deaths, 2);
}

TEST(Schedule, BringsATaskFromAnotherThreadToTheLoop) {
    event_loop loop, other;
    auto travel = [](event_loop& here, event_loop& there) -> task<int> {
        int hops = 0;
        for (int i = 0; i < 200; ++i) {
            co_await cairn::schedule(there);
            EXPECT_TRUE(there.running_in_this_thread());
            EXPECT_FALSE(here.running_in_this_thread());
            co_await cairn::schedule(here);
            EXPECT_TRUE(here.running_in_this_thread());
            ++hops;
        }
        co_return hops;
    };
    std::thread runner([&] { other.run(); });
    EXPECT_EQ(cairn::run(loop, travel(loop, other)), 200);
    other.stop();
    runner.join();
}

TEST(Schedule, TakesTasksOfManyThreadsEachExactlyOnce) {
    event_loop loop;
    constexpr int per_thread = 500;
    int ran = 0;
    auto work = [](event_loop& on, int& count) -> task<> {
        co_await cairn::schedule(on);
        ++count;  // the loop's thread only
        if (count == 4 * per_thread) on.stop();
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < per_thread; ++i) loop.post([&] { cairn::spawn(loop, work(loop, ran)); });
        });
    loop.run();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(ran, 4 * per_thread);
}

// Which of the two comes first, the end on the other thread or the return to who awaits, is a race on
// purpose.
TEST(Schedule, ResumesWhoAwaitsOnTheThreadWhereTheAwaitedTaskEnded) {
    event_loop loop, other;
    auto go = [](event_loop& to) -> task<int> {
        co_await cairn::schedule(to);
        co_return 1;
    };
    auto work = [&](event_loop& here, event_loop& there, int times) -> task<int> {
        int sum = 0;
        for (int i = 0; i < times; ++i) {
            sum += co_await go(there);
            EXPECT_TRUE(there.running_in_this_thread());
            sum += co_await go(here);
            EXPECT_TRUE(here.running_in_this_thread());
        }
        co_return sum;
    };
    constexpr int times = support::sanitized ? 300 : 3'000;
    std::thread runner([&] { other.run(); });
    EXPECT_EQ(cairn::run(loop, work(loop, other, times)), 2 * times);
    other.stop();
    runner.join();
}

// ---- Timeouts. ----

TEST(WithTimeout, ReturnsWhatTheTaskReturnsInTime) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        auto const value = co_await cairn::with_timeout(on, 1h, give_later(on, 5));
        EXPECT_EQ(value, 5);
        auto const at_once = co_await cairn::with_timeout(on, 1h, give(6));
        EXPECT_EQ(at_once, 6);
        auto nothing = [](event_loop& l) -> task<> { co_await cairn::sleep_for(l, 1us); };
        bool const in_time = co_await cairn::with_timeout(on, 1h, nothing(on));
        EXPECT_TRUE(in_time);
        EXPECT_EQ(on.timers(), 0U) << "no timer is left";
    };
    cairn::run(loop, work(loop));
}

TEST(WithTimeout, CancelsTheTaskWhenTheTimeIsOver) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        int deaths = 0;
        bool const in_time = co_await cairn::with_timeout(on, 1ms, sleep_long(on, deaths));
        EXPECT_FALSE(in_time);
        EXPECT_EQ(deaths, 1);
        EXPECT_EQ(on.timers(), 0U);
        auto value = [](event_loop& l, int& count) -> task<int> {
            co_await sleep_long(l, count);
            co_return 1;
        };
        auto const none = co_await cairn::with_timeout(on, 1ms, value(on, deaths));
        EXPECT_EQ(none, std::nullopt);
        EXPECT_EQ(deaths, 2);
    };
    cairn::run(loop, work(loop));
}

TEST(WithTimeout, LetsExceptionsThrough) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        (void)co_await cairn::with_timeout(on, 1h, fail_later(on, "in time"));
    };
    EXPECT_THROW(cairn::run(loop, work(loop)), std::runtime_error);
    EXPECT_EQ(loop.timers(), 0U);
}

TEST(WithTimeout, MayBeNestedAndTheShorterOneWins) {
    event_loop loop;
    auto inner = [](event_loop& on, int& deaths) -> task<bool> {
        co_return co_await cairn::with_timeout(on, 1h, sleep_long(on, deaths));
    };
    auto work = [&](event_loop& on) -> task<> {
        int deaths = 0;
        auto const outer_first = co_await cairn::with_timeout(on, 1ms, inner(on, deaths));
        EXPECT_EQ(outer_first, std::nullopt);
        EXPECT_EQ(deaths, 1);
        auto other = [](event_loop& l, int& count) -> task<bool> {
            co_return co_await cairn::with_timeout(l, 1ms, sleep_long(l, count));
        };
        auto const inner_first = co_await cairn::with_timeout(on, 1h, other(on, deaths));
        EXPECT_EQ(inner_first, false);
        EXPECT_EQ(deaths, 2);
    };
    cairn::run(loop, work(loop));
}

// ---- Descriptors. ----

task<> echo(event_loop& loop, unique_fd fd) {
    async_fd peer(loop, std::move(fd));
    std::array<std::byte, 1'024> data;
    while (std::size_t const n = co_await peer.read_some(data))
        co_await peer.write_all(std::span(data).first(n));
}

// Behaviour 38.
TEST(AsyncFd, EchoesSleepsAndIsNotWatchedAfterTheEnd) {
    event_loop loop;
    auto client = [](event_loop& on, unique_fd fd) -> task<std::string> {
        std::string got;
        async_fd peer(on, std::move(fd));
        std::array<std::byte, 64> data;
        for (std::string_view const word : {"one ", "two ", "three"}) {
            co_await peer.write_all(bytes(word));
            co_await cairn::sleep_for(on, 50us);
            std::size_t const n = co_await peer.read_some(data);
            got += text(std::span(data).first(n));
        }
        co_return got;
    };
    auto both = [&](event_loop& on) -> task<> {
        auto [a, b] = cairn::socket_pair();
        scope tasks;
        tasks.spawn(echo(on, std::move(a)));
        std::string const got = co_await client(on, std::move(b));
        EXPECT_EQ(got, "one two three");
        co_await tasks.join();
        EXPECT_EQ(on.watching(), 0U);
    };
    cairn::run(loop, both(loop));
}

TEST(AsyncFd, MovesAnyAmountThroughSmallBuffersUnchanged) {
    event_loop loop;
    std::uint32_t const seed = 20'261'126;
    std::mt19937 random(seed);
    std::string message(3'000'000, '\0');
    for (char& c : message) c = static_cast<char>(random());
    auto send_all = [](event_loop& on, unique_fd fd, std::string_view from) -> task<> {
        async_fd peer(on, std::move(fd));
        std::mt19937 sizes(1);
        while (!from.empty()) {
            std::size_t const n = std::min<std::size_t>(from.size(), sizes() % 200'000);
            std::error_code error;
            std::size_t const written = co_await peer.write_all(bytes(from.substr(0, n)), error);
            EXPECT_EQ(written, n);
            EXPECT_FALSE(error);
            from.remove_prefix(n);
        }
    };
    auto receive_all = [](event_loop& on, unique_fd fd) -> task<std::string> {
        async_fd peer(on, std::move(fd));
        std::string got;
        std::vector<std::byte> data(50'000);
        std::mt19937 sizes(2);
        for (;;) {
            std::size_t const n = co_await peer.read_some(std::span(data).first(1 + sizes() % 49'999));
            if (n == 0) co_return got;
            got += text(std::span(data).first(n));
            if (sizes() % 16 == 0) co_await cairn::sleep_for(on, 1us);
        }
    };
    auto both = [&](event_loop& on) -> task<> {
        auto [a, b] = cairn::socket_pair();
        scope tasks;
        tasks.spawn(send_all(on, std::move(a), message));
        std::string const got = co_await receive_all(on, std::move(b));
        EXPECT_TRUE(got == message) << "seed " << seed;
        co_await tasks.join();
    };
    cairn::run(loop, both(loop));
}

TEST(AsyncFd, ReadsAndWritesAtTheSameTimeByTwoTasks) {
    event_loop loop;
    auto pump = [](async_fd& fd, std::size_t total) -> task<> {
        std::vector<std::byte> const data(30'000, std::byte{1});
        for (std::size_t sent = 0; sent < total; sent += data.size()) co_await fd.write_all(data);
    };
    auto drain = [](async_fd& fd, std::size_t total) -> task<> {
        std::vector<std::byte> data(10'000);
        for (std::size_t got = 0; got < total;) got += co_await fd.read_some(data);
    };
    auto all = [&](event_loop& on) -> task<> {
        auto [a, b] = cairn::socket_pair();
        async_fd left(on, std::move(a)), right(on, std::move(b));
        scope tasks;
        tasks.spawn(pump(left, 900'000));
        tasks.spawn(pump(right, 900'000));
        tasks.spawn(drain(left, 900'000));
        tasks.spawn(drain(right, 900'000));
        co_await tasks.join();
    };
    cairn::run(loop, all(loop));
}

TEST(AsyncFd, TriesTheSystemCallBeforeItWaits) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        auto [a, b] = cairn::socket_pair();
        async_fd mine(on, std::move(a));
        std::error_code error;
        EXPECT_EQ(cairn::send(b.get(), bytes("x"), error), 1U);
        std::array<std::byte, 8> data;
        std::size_t const n = co_await mine.read_some(data);
        EXPECT_EQ(n, 1U);
        co_await mine.write_all(bytes("y"));
    };
    scope tasks;
    tasks.spawn(work(loop));
    EXPECT_TRUE(tasks.empty()) << "the loop was not needed";
}

TEST(AsyncFd, KnowsAfterAShortReadThatThereIsNoMore) {
    event_loop loop;
    auto [a, b] = cairn::socket_pair();
    async_fd mine(loop, std::move(a));
    std::array<std::byte, 8> data;
    std::error_code error;
    EXPECT_EQ(cairn::send(b.get(), bytes("abc"), error), 3U);
    loop.poll();
    EXPECT_EQ(mine.try_read(data, error), 3U);
    EXPECT_EQ(cairn::send(b.get(), bytes("d"), error), 1U);
    EXPECT_EQ(mine.try_read(data, error), 0U) << "it does not ask again before it is told";
    EXPECT_EQ(error, std::errc::resource_unavailable_try_again);
    loop.poll();
    EXPECT_EQ(mine.try_read(data, error), 1U);
}

TEST(AsyncFd, ReadsTheEndThatCameTogetherWithTheLastData) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        for (int wait = 0; wait < 2; ++wait) {
            auto [a, b] = cairn::socket_pair();
            async_fd mine(on, std::move(a));
            std::error_code error;
            EXPECT_EQ(cairn::send(b.get(), bytes("abc"), error), 3U);
            b.reset();
            if (wait == 1) co_await cairn::sleep_for(on, 1us);
            std::array<std::byte, 64> data;
            std::size_t const n = co_await mine.read_some(data);
            EXPECT_EQ(n, 3U);
            std::size_t const end = co_await mine.read_some(data);
            EXPECT_EQ(end, 0U);
            std::size_t const again = co_await mine.read_some(data);
            EXPECT_EQ(again, 0U);
        }
    };
    cairn::run(loop, work(loop));
}

TEST(AsyncFd, SaysByExceptionOrCodeThatThePeerIsGone) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        auto [a, b] = cairn::socket_pair();
        async_fd mine(on, std::move(a));
        b.reset();
        std::error_code error;
        (void)co_await mine.write_all(bytes("x"), error);
        EXPECT_EQ(error, std::errc::broken_pipe);
        bool thrown = false;
        try {
            co_await mine.write_all(bytes("x"));
        } catch (std::system_error const& e) {
            thrown = e.code() == std::errc::broken_pipe;
            EXPECT_NE(std::string_view(e.what()).find("send"), std::string_view::npos);
        }
        EXPECT_TRUE(thrown);
        std::array<std::byte, 8> data;
        std::size_t const n = co_await mine.read_some(data, error);
        EXPECT_EQ(n, 0U);
    };
    cairn::run(loop, work(loop));
}

TEST(AsyncFd, IsFreeAgainWhenATaskThatWaitsIsDestroyed) {
    event_loop loop;
    auto [a, b] = cairn::socket_pair();
    async_fd mine(loop, std::move(a));
    auto read = [](async_fd& from, int& deaths) -> task<> {
        mourner const here(deaths);
        std::array<std::byte, 8> data;
        (void)co_await from.read_some(data);
    };
    int deaths = 0;
    for (int i = 0; i < 3; ++i) {
        scope tasks;
        tasks.spawn(read(mine, deaths));
        loop.poll();
        EXPECT_EQ(deaths, i);
    }
    EXPECT_EQ(deaths, 3);
    scope tasks;
    tasks.spawn(read(mine, deaths));
    std::error_code error;
    EXPECT_EQ(cairn::send(b.get(), bytes("abc"), error), 3U);
    loop.poll();
    EXPECT_EQ(deaths, 4) << "the one that waits now has got it";
}

TEST(AsyncFd, TellsWhoWaitsThatItWasCancelled) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        auto [a, b] = cairn::socket_pair();
        async_fd mine(on, std::move(a));
        std::array<std::byte, 8> data;
        std::error_code error;
        auto const soon = on.call_after(1ms, [&] { mine.cancel(); });
        std::size_t const n = co_await mine.read_some(data, error);
        EXPECT_EQ(n, 0U);
        EXPECT_EQ(error, std::errc::operation_canceled);
        auto const later = on.call_after(1ms, [&] { mine.cancel(); });
        cairn::readiness const what = co_await mine.readable();
        EXPECT_EQ(what, cairn::readiness::none);
        EXPECT_EQ(cairn::send(b.get(), bytes("x"), error), 1U);
        std::size_t const m = co_await mine.read_some(data);
        EXPECT_EQ(m, 1U) << "it can be used again";
    };
    cairn::run(loop, work(loop));
}

TEST(AsyncFd, MayBeDestroyedByTheReaderWhileAWriterWaitedToo) {
    event_loop loop;
    auto [a, b] = cairn::socket_pair();
    auto mine = std::make_unique<async_fd>(loop, std::move(a));
    scope writers, readers;
    auto write = [](async_fd& to) -> task<> {
        std::vector<std::byte> const data(5'000'000);
        std::error_code error;
        (void)co_await to.write_all(data, error);
        ADD_FAILURE();
    };
    auto read = [](std::unique_ptr<async_fd>& from, scope& others) -> task<> {
        std::array<std::byte, 8> data;
        std::error_code error;
        (void)co_await from->read_some(data, error);
        others.cancel();
        from.reset();
    };
    writers.spawn(write(*mine));
    readers.spawn(read(mine, writers));
    EXPECT_EQ(writers.size() + readers.size(), 2U);
    b.reset();  // both directions at once
    while (!readers.empty()) loop.run_once();
    EXPECT_EQ(mine, nullptr);
}

TEST(AsyncFd, LetsOthersHaveTheirTurnThoughItIsAlwaysReady) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        auto [a, b] = cairn::socket_pair();
        async_fd hot(on, std::move(a));
        std::vector<std::byte> const much(100'000);
        std::error_code error;
        std::size_t left = cairn::send(b.get(), much, error);
        EXPECT_GT(left, 10'000U);
        bool other_ran = false;
        on.post([&] { other_ran = true; });
        std::array<std::byte, 1> one;
        int reads = 0;
        while (!other_ran) {
            left -= co_await hot.read_some(one);
            ++reads;
            if (left == 0) break;
        }
        EXPECT_TRUE(other_ran);
        EXPECT_LE(reads, 40);
        while (left != 0) left -= co_await hot.read_some(one);
    };
    cairn::run(loop, work(loop));
}

TEST(AsyncFd, WaitsForOtherDescriptorsThatTheUserReadsItself) {
    event_loop loop;
    auto work = [](event_loop& on) -> task<> {
        async_fd counter(on, unique_fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)));
        auto const soon = on.call_after(1ms, [&] { EXPECT_EQ(::eventfd_write(counter.get(), 7), 0); });
        cairn::readiness const what = co_await counter.readable();
        EXPECT_TRUE(cairn::has(what, cairn::readiness::in));
        eventfd_t value = 0;
        EXPECT_EQ(::eventfd_read(counter.get(), &value), 0);
        EXPECT_EQ(value, 7U);
        counter.clear(cairn::readiness::in);
        int deaths = 0;
        auto wait = [](async_fd& fd, int& count) -> task<> {
            mourner const here(count);
            (void)co_await fd.readable();
        };
        bool const again = co_await cairn::with_timeout(on, 2ms, wait(counter, deaths));
        EXPECT_FALSE(again);
    };
    cairn::run(loop, work(loop));
}

TEST(AsyncFd, AcceptsAndConnects) {
    event_loop loop;
    auto server = [](event_loop& on, async_fd& listener, int n) -> task<> {
        scope sessions;
        for (int i = 0; i < n; ++i) {
            unique_fd fd = co_await listener.accept();
            sessions.spawn(echo(on, std::move(fd)));
        }
        co_await sessions.join();
    };
    auto client = [](event_loop& on, cairn::endpoint to, int number) -> task<> {
        async_fd peer(on, co_await cairn::connect(on, to));
        std::string const sent = std::to_string(number);
        co_await peer.write_all(bytes(sent));
        std::array<std::byte, 16> data;
        std::size_t const n = co_await peer.read_some(data);
        EXPECT_EQ(text(std::span(data).first(n)), sent);
    };
    auto all = [&](event_loop& on) -> task<> {
        async_fd listener(on, cairn::listen(cairn::endpoint::loopback(0)));
        cairn::endpoint const at = cairn::endpoint::of(listener.get());
        scope tasks;
        tasks.spawn(server(on, listener, 20));
        for (int i = 0; i < 20; ++i) tasks.spawn(client(on, at, i));
        co_await tasks.join();
    };
    cairn::run(loop, all(loop));
}

TEST(AsyncFd, SaysThatNobodyListens) {
    event_loop loop;
    cairn::endpoint const nobody = [] {
        unique_fd const closed_soon = cairn::listen(cairn::endpoint::loopback(0));
        return cairn::endpoint::of(closed_soon.get());
    }();
    try {
        (void)cairn::run(loop, cairn::connect(loop, nobody));
        FAIL();
    } catch (std::system_error const& error) {
        EXPECT_EQ(error.code(), std::errc::connection_refused);
    }
    EXPECT_EQ(loop.watching(), 0U);
}

TEST(AsyncFd, RefusesWhatEpollDoesNotWatch) {
    event_loop loop;
    EXPECT_THROW(async_fd(loop, unique_fd(-1)), std::system_error);
    auto const file = [] { return unique_fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)); };
    EXPECT_THROW(async_fd(loop, file()), std::system_error);
    EXPECT_EQ(loop.watching(), 0U);
}

TEST(AsyncFd, MayBeMovedWhileSomebodyWaits) {
    event_loop loop;
    auto [a, b] = cairn::socket_pair();
    async_fd mine(loop, std::move(a));
    std::string got;
    auto read = [](async_fd& from, std::string& to) -> task<> {
        std::array<std::byte, 8> data;
        std::size_t const n = co_await from.read_some(data);
        to = text(std::span(data).first(n));
    };
    scope tasks;
    tasks.spawn(read(mine, got));
    async_fd moved(std::move(mine));
    async_fd assigned;
    assigned = std::move(moved);
    EXPECT_EQ(moved.get(), -1);  // NOLINT(bugprone-use-after-move): that is what is asked
    std::error_code error;
    EXPECT_EQ(cairn::send(b.get(), bytes("abc"), error), 3U);
    loop.run_once();
    EXPECT_EQ(got, "abc");
    EXPECT_EQ(loop.watching(), 1U);
    int const fd = assigned.get();
    auto [c, d] = cairn::socket_pair();
    assigned = async_fd(loop, std::move(c));
    EXPECT_EQ(::fcntl(fd, F_GETFD), -1) << "what it owned is closed";
    EXPECT_EQ(loop.watching(), 1U);
    unique_fd const back = assigned.release();
    EXPECT_NE(::fcntl(back.get(), F_GETFD), -1);
    EXPECT_EQ(loop.watching(), 0U);
}

TEST(AsyncFd, NeverResumesWhoStillWaitsAtItsEnd) {
    event_loop loop;
    int deaths = 0;
    auto wait = [](async_fd& on, bool to_write, int& count) -> task<> {
        mourner const here(count);
        std::vector<std::byte> data(5'000'000);
        if (to_write)
            co_await on.write_all(data);
        else
            (void)co_await on.read_some(data);
        ADD_FAILURE();
    };
    scope tasks;
    auto [a, b] = cairn::socket_pair();
    {
        async_fd mine(loop, std::move(a));
        tasks.spawn(wait(mine, false, deaths));
        tasks.spawn(wait(mine, true, deaths));
        b.reset();
    }
    loop.poll();
    EXPECT_EQ(deaths, 0);
    tasks.cancel();
    EXPECT_EQ(deaths, 2);
}

// Behaviour 42.
TEST(AsyncFd, MayOutliveItsLoop) {
    int deaths = 0;
    std::array<std::byte, 8> data{};
    std::error_code error;
    auto [a, b] = cairn::socket_pair();
    int const fd = a.get();
    scope tasks;
    async_fd mine;
    {
        event_loop loop;
        mine = async_fd(loop, std::move(a));
        auto wait = [](async_fd& on, int& count) -> task<> {
            mourner const here(count);
            (void)co_await on.readable();
            ADD_FAILURE();
        };
        tasks.spawn(wait(mine, deaths));
    }
    auto fails = [](async_fd& on, int& passed) -> task<> {
        std::array<std::byte, 8> some{};
        std::error_code code;
        (void)co_await on.read_some(some, code);
        passed += code == std::errc::operation_canceled;
        (void)co_await on.write_all(some, code);
        passed += code == std::errc::operation_canceled;
        (void)co_await on.accept(code);
        passed += code == std::errc::operation_canceled;
        cairn::readiness const what = co_await on.writable();
        passed += what == cairn::readiness::none;
    };
    int passed = 0;
    tasks.spawn(fails(mine, passed));
    EXPECT_EQ(passed, 4);
    EXPECT_EQ(mine.try_read(data, error), 0U);
    EXPECT_EQ(error, std::errc::operation_canceled);
    EXPECT_EQ(mine.try_write(data, error), 0U);
    EXPECT_EQ(error, std::errc::operation_canceled);
    mine.clear(cairn::readiness::in);
    mine.cancel();
    EXPECT_EQ(deaths, 0);
    tasks.cancel();
    EXPECT_EQ(deaths, 1);
    mine.reset();
    EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
}

// Behaviour 43.
TEST(AsyncFd, LeavesTheParentsWatchesAloneInAForkedChild) {
    auto loop = std::make_unique<event_loop>();
    auto [a, b] = cairn::socket_pair();
    auto mine = std::make_unique<async_fd>(*loop, std::move(a));
    std::string got;
    auto read = [](async_fd& from, std::string& to) -> task<> {
        std::array<std::byte, 8> data;
        std::size_t const n = co_await from.read_some(data);
        to = text(std::span(data).first(n));
    };
    auto tasks = std::make_unique<scope>();
    tasks->spawn(read(*mine, got));
    pid_t const child = ::fork();
    if (child == 0) {
        tasks.reset();
        mine.reset();
        loop.reset();
        ::_exit(0);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    std::error_code error;
    EXPECT_EQ(cairn::send(b.get(), bytes("abc"), error), 3U);
    EXPECT_EQ(loop->run_once(), 1U);
    EXPECT_EQ(got, "abc");
}

// Behaviour 41. The client sends a byte now and then, so that a limit for each read would never strike.
TEST(AsyncFd, EndsAHeaderThatTricklesIn) {
    event_loop loop;
    auto read_header = [](async_fd& peer) -> task<std::string> {
        std::string header;
        std::array<std::byte, 64> data;
        while (!header.ends_with("\r\n\r\n")) {
            std::size_t const n = co_await peer.read_some(data);
            if (n == 0) break;
            header += text(std::span(data).first(n));
        }
        co_return header;
    };
    auto serve = [&](event_loop& on, unique_fd fd, std::string& result) -> task<> {
        async_fd peer(on, std::move(fd));
        auto const header = co_await cairn::with_timeout(on, 20ms, read_header(peer));
        result = header.value_or("too slow");
    };
    auto trickle = [](event_loop& on, unique_fd fd, std::chrono::microseconds pause) -> task<> {
        async_fd peer(on, std::move(fd));
        std::error_code error;
        for (char const c : std::string_view("GET / HTTP/1.1\r\n\r\n")) {
            (void)co_await peer.write_all(std::as_bytes(std::span(&c, 1)), error);
            if (error) break;
            co_await cairn::sleep_for(on, pause);
        }
    };
    auto both = [&](event_loop& on) -> task<> {
        for (bool const slow : {false, true}) {
            auto [a, b] = cairn::socket_pair();
            std::string result;
            scope tasks;
            tasks.spawn(serve(on, std::move(a), result));
            tasks.spawn(trickle(on, std::move(b), slow ? 5ms : 0ms));
            co_await tasks.join();
            if (slow) {
                EXPECT_EQ(result, "too slow");
            }
        }
    };
    cairn::run(loop, both(loop));
}

// Behaviour 44, of which the longest times and short memory are above.
TEST(AsyncFd, EndsWithThousandsOfTasksThatWait) {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    std::size_t const n = std::min<std::size_t>(10'000, limit.rlim_cur > 200 ? limit.rlim_cur - 200 : 0) / 2;
    int deaths = 0;
    auto wait = [](async_fd peer, int& count) -> task<> {
        mourner const here(count);
        std::array<std::byte, 8> data;
        (void)co_await peer.read_some(data);
        ADD_FAILURE();
    };
    std::vector<unique_fd> others;
    for (bool const loop_first : {false, true}) {
        auto loop = std::make_unique<event_loop>();
        scope tasks;
        for (std::size_t i = 0; i < n; ++i) {
            auto [a, b] = cairn::socket_pair();
            tasks.spawn(wait(async_fd(*loop, std::move(a)), deaths));
            others.push_back(std::move(b));
        }
        while (loop->poll() != 0) {
        }
        EXPECT_EQ(tasks.size(), n);
        if (loop_first) loop.reset();
        tasks.cancel();
        others.clear();
    }
    EXPECT_EQ(deaths, static_cast<int>(2 * n));
}
TEST(AsyncFd, StopsWithASignal) {
    event_loop loop;
    bool stopped = false;
    int deaths = 0;
    auto work = [&](event_loop& on) -> task<> {
        scope tasks;
        tasks.spawn(sleep_long(on, deaths));
        cairn::signal_watch const watch(on, {SIGTERM}, [&](int) { tasks.cancel(); });
        EXPECT_EQ(::kill(::getpid(), SIGTERM), 0);
        co_await tasks.join();
        stopped = true;
    };
    cairn::run(loop, work(loop));
    EXPECT_TRUE(stopped);
    EXPECT_EQ(deaths, 1);
}

TEST(AsyncFd, SaysThatNoDescriptorIsLeftAndAcceptsAgainLater) {
    event_loop loop;
    async_fd listener(loop, cairn::listen(cairn::endpoint::loopback(0)));
    unique_fd const client = cairn::connect(cairn::endpoint::of(listener.get()));
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    rlimit none = before;
    none.rlim_cur = 0;
    // Looked at afterwards: to check the type of what it is called on, UBSan opens a pipe.
    std::vector<std::error_code> refused;
    auto serve = [&](event_loop& on) -> task<> {
        for (;;) {
            std::error_code error;
            unique_fd const fd = co_await listener.accept(error);
            if (!error) co_return;
            refused.push_back(error);
            co_await cairn::sleep_for(on, 1ms);
        }
    };
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    auto const soon = loop.call_after(10ms, [&] { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0); });
    cairn::run(loop, serve(loop));
    EXPECT_GE(refused.size(), 1U);
    EXPECT_LE(refused.size(), 20U);
    for (auto const& error : refused) EXPECT_EQ(error, std::errc::too_many_files_open);
}

// Random trees of tasks: they sleep, talk, throw, spawn, time out and are cancelled at any point. Whatever
// happens, every variable of every frame is destroyed once and no timer or watch is left.
class Chaos : public testing::TestWithParam<std::uint32_t> {};

struct chaos {
    event_loop& loop;
    std::mt19937 random;
    long alive = 0;
    long begun = 0;

    chaos(event_loop& on, std::uint32_t seed) : loop(on), random(seed) {}

    struct frame {
        chaos& of;
        explicit frame(chaos& in) : of(in) {
            ++of.alive;
            ++of.begun;
        }
        frame(frame const&) = delete;
        frame& operator=(frame const&) = delete;
        ~frame() { --of.alive; }
    };

    task<int> grow(int depth) {
        frame const here(*this);
        int sum = 0;
        for (int step = 0; step < 4; ++step) {
            switch (random() % 8) {
                case 0:
                    co_await cairn::sleep_for(loop, std::chrono::microseconds(random() % 300));
                    break;
                case 1:
                    co_await cairn::schedule(loop);
                    break;
                case 2:
                    if (depth != 0) {
                        auto const got = co_await cairn::with_timeout(
                            loop, std::chrono::microseconds(random() % 400), grow(depth - 1));
                        sum += got.value_or(0);
                    }
                    break;
                case 3:
                    if (depth != 0) {
                        scope inner;
                        for (int i = 0; i < 3; ++i) inner.spawn(child(depth - 1));
                        if (random() % 2 == 0) co_await inner.join();
                    }
                    break;
                case 4:
                    if (random() % 4 == 0) throw std::runtime_error("chaos");
                    break;
                case 5:
                    co_await talk();
                    break;
                default:
                    if (depth != 0) sum += co_await grow(depth - 1);
            }
        }
        co_return sum + 1;
    }
    task<> child(int depth) {
        frame const here(*this);
        (void)co_await grow(depth);
    }
    task<> talk() {
        frame const here(*this);
        auto [a, b] = cairn::socket_pair();
        async_fd left(loop, std::move(a)), right(loop, std::move(b));
        scope both;
        both.spawn(say(left, 1 + random() % 400'000));
        if (random() % 4 != 0) both.spawn(hear(right));
        co_await cairn::sleep_for(loop, std::chrono::microseconds(random() % 200));
    }
    task<> say(async_fd& to, std::size_t n) {
        frame const here(*this);
        std::vector<std::byte> const data(n);
        co_await to.write_all(data);
    }
    task<> hear(async_fd& from) {
        frame const here(*this);
        std::array<std::byte, 5'000> data;
        while (co_await from.read_some(data) != 0) {
        }
    }
};

TEST_P(Chaos, LeavesNoFrameNoTimerAndNoWatch) {
    event_loop loop;
    chaos all(loop, GetParam());
    scope roots;
    for (int round = 0; round < 30; ++round) {
        for (int i = 0; i < 5; ++i) roots.spawn(all.child(3));
        for (int i = 0; i < 3; ++i) loop.run_once(1ms);
        if (round % 10 == 9) roots.cancel();
    }
    roots.cancel();
    EXPECT_EQ(all.alive, 0);
    EXPECT_GT(all.begun, 150);
    EXPECT_EQ(loop.timers(), 0U);
    EXPECT_EQ(loop.watching(), 0U);
    loop.poll();
}
INSTANTIATE_TEST_SUITE_P(Seeds, Chaos, testing::Range(1U, support::sanitized ? 7U : 21U));

}  // namespace
