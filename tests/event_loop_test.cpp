// SPDX-License-Identifier: MIT
#include <cairn/event_loop.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

using namespace std::chrono_literals;
using cairn::event_loop;
using cairn::has;
using cairn::readiness;
using cairn::registration;
using cairn::timer;
using cairn::unique_fd;
using clock_type = event_loop::clock;

/// A descriptor that is ready to read from set() to clear().
struct flag_fd {
    unique_fd fd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    explicit flag_fd(bool ready = false) {
        if (ready) set();
    }
    void set() const { EXPECT_EQ(::eventfd_write(fd.get(), 1), 0); }
    void clear() const {
        eventfd_t value = 0;
        EXPECT_EQ(::eventfd_read(fd.get(), &value), 0);
    }
    [[nodiscard]] int get() const { return fd.get(); }
};

struct pipe_ends {
    unique_fd reader, writer;
    pipe_ends() {
        int ends[2];
        EXPECT_EQ(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
        reader.reset(ends[0]);
        writer.reset(ends[1]);
    }
};

void write_some(int fd, std::string_view text) {
    std::error_code error;
    EXPECT_EQ(cairn::send(fd, std::as_bytes(std::span(text)), error), text.size()) << error.message();
}
std::string read_all(int fd) {
    std::string text;
    char some[4096];
    for (ssize_t n = 0; (n = ::read(fd, some, sizeof some)) > 0;)
        text.append(some, static_cast<std::size_t>(n));
    return text;
}
auto const ignore = [](readiness) {};

/// Polls until nothing is left to do; at most so often.
void settle(event_loop& loop) {
    for (int i = 0; i < 100 && loop.poll() != 0; ++i) {
    }
}

// ---- Handlers that change what is watched. ----

TEST(EventLoop, LetsAHandlerRemoveItselfAndKeepsItAliveUntilItReturns) {
    event_loop loop;
    flag_fd const ready(true);
    auto const alive = std::make_shared<int>(7);
    registration self;
    int calls = 0;
    self = loop.watch(ready.get(), readiness::in, [&, alive = alive](readiness) {
        self.reset();
        EXPECT_EQ(alive.use_count(), 2);  // this closure has one
        EXPECT_EQ(*alive, 7);
        ++calls;
    });
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(alive.use_count(), 1);
    EXPECT_EQ(loop.poll(), 0U);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(loop.watching(), 0U);
}

TEST(EventLoop, DoesNotCallAHandlerThatWasRemovedInTheSameBatch) {
    event_loop loop;
    std::array<flag_fd, 2> const ready{flag_fd(true), flag_fd(true)};
    std::array<registration, 2> watches;
    auto const alive = std::make_shared<int>();
    int calls = 0;
    for (std::size_t i = 0; i < 2; ++i)
        watches[i] = loop.watch(ready[i].get(), readiness::in, [&, i, alive](readiness) {
            ++calls;
            watches[1 - i].reset();
            EXPECT_EQ(alive.use_count(), 2);  // that of the other one is gone at once
        });
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(calls, 1);
}

TEST(EventLoop, NeverTellsTheNewOwnerOfADescriptorOfTheOldOnesEvents) {
    event_loop loop;
    std::array<std::optional<flag_fd>, 2> ready;
    for (auto& one : ready) one.emplace(true);
    std::array<registration, 2> watches;
    std::optional<flag_fd> fresh;
    registration fresh_watch;
    int stale = 0, calls = 0;
    for (std::size_t i = 0; i < 2; ++i)
        watches[i] = loop.watch(ready[i]->get(), readiness::in, [&, i](readiness) {
            ++calls;
            std::size_t const other = 1 - i;
            int const number = ready[other]->get();
            watches[other].reset();
            ready[other].reset();
            fresh.emplace();
            EXPECT_EQ(fresh->get(), number);  // the same number, in the same batch, in the same slot
            fresh_watch = loop.watch(number, readiness::in, [&stale](readiness) { ++stale; });
            watches[i].reset();
        });
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    EXPECT_EQ(stale, 0);
    EXPECT_EQ(calls, 1);
    fresh->set();
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(stale, 1);
}

TEST(EventLoop, LetsAHandlerAddThreeThousandOthers) {
    event_loop loop;
    flag_fd const ready(true);
    std::vector<flag_fd> more;
    std::vector<registration> watches;
    int calls = 0;
    std::array<std::uint64_t, 3> const canary{1, 2, 3};
    registration first = loop.watch(ready.get(), readiness::in, [&, canary](readiness) {
        first.disable();
        for (int i = 0; i < 3'000; ++i) {
            more.emplace_back(true);
            watches.push_back(loop.watch(more.back().get(), readiness::in, [&calls](readiness) { ++calls; }));
        }
        EXPECT_EQ(canary, (std::array<std::uint64_t, 3>{1, 2, 3}));  // the closure has not moved
    });
    EXPECT_EQ(loop.poll(), 1U);
    for (int i = 0; i < 100; ++i) loop.poll();  // 128 at a time at first
    EXPECT_GT(calls, 3'000);
    EXPECT_EQ(loop.watching(), 3'001U);
}

TEST(EventLoop, LetsAHandlerModifyItsInterest) {
    event_loop loop;
    auto const [here, there] = cairn::socket_pair();
    std::vector<readiness> seen;
    registration watch = loop.watch(here.get(), readiness::out, [&](readiness what) {
        seen.push_back(what);
        watch.modify(readiness::in);
    });
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    write_some(there.get(), "x");
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(seen, (std::vector{readiness::out, readiness::in}));
}

TEST(EventLoop, DropsWhatIsNoLongerAskedForInTheSameBatch) {
    event_loop loop;
    std::array<flag_fd, 2> const ready{flag_fd(true), flag_fd(true)};
    std::array<registration, 2> watches;
    int calls = 0;
    for (std::size_t i = 0; i < 2; ++i)
        watches[i] = loop.watch(ready[i].get(), readiness::in, [&, i](readiness) {
            ++calls;
            watches[1 - i].modify(readiness::pri);
        });
    EXPECT_EQ(loop.poll(), 1U);
    watches[0].modify(readiness::in);
    watches[1].modify(readiness::in);
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(calls, 2);
    for (std::size_t i = 0; i < 2; ++i) watches[i].modify(readiness::in);
    calls = 0;
    for (std::size_t i = 0; i < 2; ++i) {
        watches[i] = {};
        watches[i] = loop.watch(ready[i].get(), readiness::in, [&, i](readiness) {
            ++calls;
            watches[1 - i].disable();
        });
    }
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(calls, 1);
}

TEST(EventLoop, PropagatesAHandlersExceptionAndKeepsTheRestOfTheBatch) {
    event_loop loop;
    std::vector<flag_fd> ready;
    std::vector<registration> watches;
    int calls = 0;
    for (int i = 0; i < 5; ++i) {
        ready.emplace_back(true);
        // Edges: an event that is lost now would never come again.
        watches.push_back(loop.watch(ready.back().get(), readiness::in | readiness::edge, [&](readiness) {
            if (++calls == 2) throw std::runtime_error("second");
        }));
    }
    EXPECT_THROW(loop.run(), std::runtime_error);
    EXPECT_EQ(calls, 2);
    EXPECT_FALSE(loop.running_in_this_thread());
    EXPECT_EQ(loop.poll(), 3U);
    EXPECT_EQ(calls, 5);
    EXPECT_EQ(loop.poll(), 0U);
}

TEST(EventLoop, KeepsTheHandlerThatRemovesItselfAndThrowsUntilItIsOver) {
    event_loop loop;
    flag_fd const ready(true);
    auto const alive = std::make_shared<int>();
    registration self;
    self = loop.watch(ready.get(), readiness::in, [&, alive = alive](readiness) {
        self.reset();
        throw std::runtime_error("gone");
    });
    EXPECT_THROW(loop.poll(), std::runtime_error);
    EXPECT_EQ(alive.use_count(), 1);
    EXPECT_EQ(loop.watching(), 0U);
}

// ---- Running and stopping. ----

TEST(EventLoop, RefusesToRunWithinAHandler) {
    event_loop loop;
    int refused = 0;
    loop.post([&] {
        for (int i = 0; i < 3; ++i) try {
                if (i == 0) loop.run();
                if (i == 1) static_cast<void>(loop.run_once(0s));
                if (i == 2) static_cast<void>(loop.poll());
            } catch (std::logic_error const&) {
                ++refused;
            }
        EXPECT_TRUE(loop.running_in_this_thread());
    });
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(refused, 3);
    EXPECT_EQ(loop.poll(), 0U);  // and it still runs after that
}

TEST(EventLoop, StopsFromAnotherThread) {
    event_loop loop;
    for (int i = 0; i < 200; ++i) {
        int written = 0;
        std::thread other([&] {
            written = i + 1;
            loop.stop();
        });
        loop.run();
        EXPECT_EQ(written, i + 1);  // what came before stop() is seen after run()
        other.join();
    }
}

TEST(EventLoop, ReturnsAtOnceIfItWasStoppedBefore) {
    event_loop loop;
    int calls = 0;
    loop.post([&] { ++calls; });
    loop.stop();
    loop.run();
    EXPECT_EQ(calls, 0);
    loop.stop();
    EXPECT_EQ(loop.run_once(), 0U);
    loop.stop();
    loop.stop();
    loop.run();
    EXPECT_EQ(loop.run_once(), 1U);  // two stops were one
    EXPECT_EQ(calls, 1);
}

TEST(EventLoop, StopsAfterTheHandlerThatAsksForItAndGoesOnWithTheRestWhenRunAgain) {
    event_loop loop;
    std::vector<flag_fd> ready;
    std::vector<registration> watches;
    std::string order;
    for (int i = 0; i < 3; ++i) {
        ready.emplace_back(true);
        watches.push_back(loop.watch(ready.back().get(), readiness::in | readiness::edge, [&](readiness) {
            order += 'i';
            loop.stop();
        }));
    }
    for (int i = 0; i < 2; ++i)
        loop.post([&] {
            order += 'p';
            loop.stop();
        });
    std::vector<timer> timers;
    for (int i = 0; i < 2; ++i)
        timers.push_back(loop.call_at(clock_type::now(), [&] {
            order += 't';
            loop.stop();
        }));
    std::string expected;
    for (char const next : std::string("iiipptt")) {
        loop.run();
        expected += next;
        EXPECT_EQ(order, expected);
    }
    EXPECT_EQ(loop.poll(), 0U);
}

TEST(EventLoop, KeepsAStopThatCameWithAnException) {
    event_loop loop;
    loop.post([&] {
        loop.stop();
        throw std::runtime_error("both");
    });
    EXPECT_THROW(loop.run(), std::runtime_error);
    loop.run();  // returns: what was asked for is not lost
}

TEST(EventLoop, WaitsInRunOnceForAsLongAsItIsTold) {
    event_loop loop;
    auto const before = clock_type::now();
    EXPECT_EQ(loop.run_once(3ms), 0U);
    EXPECT_GE(clock_type::now() - before, 3ms);
    EXPECT_EQ(loop.run_once(0s), 0U);
    EXPECT_EQ(loop.run_once(-1h), 0U);
    auto const soon = loop.call_after(1ms, [] {});
    EXPECT_EQ(loop.run_once(std::chrono::hours::max()), 1U);
}

TEST(EventLoop, RunsDescriptorsThenPostedWorkThenTimersInEachTurn) {
    event_loop loop;
    flag_fd const ready(true);
    std::string order;
    auto const due = loop.call_at(clock_type::now(), [&] { order += 't'; });
    loop.post([&] {
        order += 'p';
        loop.post([&] { order += 'P'; });
    });
    registration watch = loop.watch(ready.get(), readiness::in, [&](readiness) {
        order += 'i';
        if (order.size() > 1) watch.reset();
    });
    settle(loop);
    EXPECT_EQ(order, "iptiP");
}

// ---- Posted work. ----

TEST(EventLoop, RunsPostsOfAnotherThreadInTheirOrder) {
    event_loop loop;
    constexpr int n = support::sanitized ? 20'000 : 100'000;
    int expected = 0;
    bool in_order = true;
    std::thread producer([&] {
        for (int i = 0; i < n; ++i)
            loop.post([&, i] {
                in_order = in_order && i == expected++;
                if (i == n - 1) loop.stop();
            });
    });
    loop.run();
    producer.join();
    EXPECT_TRUE(in_order);
    EXPECT_EQ(expected, n);
}

TEST(EventLoop, KeepsTheOrderOfEachOfFourProducers) {
    event_loop loop;
    constexpr int n = support::sanitized ? 5'000 : 25'000;
    std::array<int, 4> next{};
    int out_of_order = 0, ended = 0;
    std::vector<std::thread> producers;
    for (std::size_t p = 0; p < 4; ++p)
        producers.emplace_back([&, p] {
            for (int i = 0; i < n; ++i)
                loop.post([&, p, i] {
                    if (next[p]++ != i) ++out_of_order;
                    if (i == n - 1 && ++ended == 4) loop.stop();
                });
        });
    loop.run();
    for (auto& p : producers) p.join();
    EXPECT_EQ(out_of_order, 0);
    EXPECT_EQ(next, (std::array{n, n, n, n}));
}

TEST(EventLoop, NeverRunsAPostFromWithinPost) {
    event_loop loop;
    bool ran = false;
    loop.post([&] {
        loop.post([&] { ran = true; });
        EXPECT_FALSE(ran);
        bool at_once = false;
        loop.dispatch([&] { at_once = true; });
        EXPECT_TRUE(at_once);
    });
    EXPECT_FALSE(ran);
    settle(loop);
    EXPECT_TRUE(ran);
    bool later = false;
    loop.dispatch([&] { later = true; });  // does not run: this is not its thread yet
    EXPECT_FALSE(later);
    settle(loop);
    EXPECT_TRUE(later);
}

TEST(EventLoop, ServesDescriptorsAndTimersWhileWorkPostsItself) {
    event_loop loop;
    int reads = 0, ticks = 0;
    flag_fd const ready(true);
    registration const watch = loop.watch(ready.get(), readiness::in, [&](readiness) { ++reads; });
    timer const tick = loop.call_every(1ns, [&] { ++ticks; });
    std::function<void()> again = [&] {
        if (reads >= 100 && ticks >= 100) return loop.stop();
        loop.post(again);
    };
    loop.post(again);
    loop.run();
    EXPECT_GE(std::min(reads, ticks), 100);
}

TEST(EventLoop, LetsAHandlerPostAsItIsCopied) {
    event_loop loop;
    struct talkative {
        event_loop* loop;
        int* ran;
        talkative(event_loop& l, int& r) : loop(&l), ran(&r) {}
        talkative(talkative const& from) : loop(from.loop), ran(from.ran) {
            loop->post([r = ran] { *r += 100; });
        }
        void operator()() const { *ran += 1; }
    };
    int ran = 0;
    talkative const one(loop, ran);
    loop.post(one);
    settle(loop);
    EXPECT_EQ(ran, 101);
}

TEST(EventLoop, TakesAFloodOfPosts) {
    event_loop loop;
    int ran = 0;
    for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < 200'000; ++i) loop.post([&ran] { ++ran; });
        settle(loop);
        EXPECT_EQ(ran, 200'000 * (round + 1));
    }
}

TEST(EventLoop, KeepsPostedWorkBehindOneThatThrows) {
    event_loop loop;
    int ran = 0;
    loop.post([] { throw std::runtime_error("first"); });
    for (int i = 0; i < 3; ++i) loop.post([&] { ++ran; });
    EXPECT_THROW(loop.run(), std::runtime_error);
    EXPECT_EQ(ran, 0);
    EXPECT_EQ(loop.poll(), 3U);
}

// ---- Timers. ----

TEST(EventLoop, ServesDescriptorsWhileTimersOfZeroArmThemselvesAgain) {
    event_loop loop;
    int reads = 0;
    flag_fd const ready(true);
    registration const watch = loop.watch(ready.get(), readiness::in, [&](readiness) {
        if (++reads == 100) loop.stop();
    });
    std::vector<timer> timers(10);
    std::function<void(std::size_t)> add = [&](std::size_t i) {
        timers[i] = loop.call_after(0s, [&add, i] { add(i); });
    };
    for (std::size_t i = 0; i < timers.size(); ++i) add(i);
    loop.run();
    EXPECT_EQ(reads, 100);
}

void interrupted(int) {}

TEST(EventLoop, NeitherEndsNorShortensAWaitWhenASignalInterruptsIt) {
    struct sigaction action{};
    action.sa_handler = interrupted;  // without SA_RESTART, which epoll_wait would not heed anyway
    struct sigaction before{};
    ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
    event_loop loop;
    std::atomic<bool> over{false};
    std::thread pest([&, target = ::pthread_self()] {
        while (!over.load()) {
            ::pthread_kill(target, SIGUSR1);
            std::this_thread::sleep_for(200us);
        }
    });
    auto const due = clock_type::now() + 10ms;
    bool fired = false;
    timer const late = loop.call_at(due, [&] {
        EXPECT_GE(clock_type::now(), due);
        fired = true;
    });
    EXPECT_EQ(loop.run_once(), 1U);
    EXPECT_TRUE(fired);
    auto const begin = clock_type::now();
    EXPECT_EQ(loop.run_once(5ms), 0U);
    EXPECT_GE(clock_type::now() - begin, 5ms);
    over.store(true);
    pest.join();
    ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(EventLoop, FiresEqualDeadlinesInTheOrderInWhichTheyWereSet) {
    event_loop loop;
    std::vector<int> order, expected;
    std::vector<timer> timers;
    auto const when = clock_type::now() + 1ms;
    for (int i = 0; i < 100; ++i) {
        timers.push_back(loop.call_at(when, [&, i] { order.push_back(i); }));
        expected.push_back(i);
    }
    while (order.size() < 100) static_cast<void>(loop.run_once());
    EXPECT_EQ(order, expected);
}

TEST(EventLoop, LetsATimerCancelAnotherThatIsDueInTheSameTurn) {
    event_loop loop;
    int calls = 0;
    std::array<timer, 2> timers;
    for (std::size_t i = 0; i < 2; ++i)
        timers[i] = loop.call_at(clock_type::now(), [&, i] {
            ++calls;
            EXPECT_TRUE(timers[1 - i].cancel());
        });
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(loop.timers(), 0U);
}

TEST(EventLoop, LetsAPeriodicTimerCancelItself) {
    event_loop loop;
    auto const alive = std::make_shared<int>();
    int beats = 0;
    timer beat;
    beat = loop.call_every(100us, [&, alive = alive] {
        if (++beats == 3) {
            EXPECT_TRUE(beat.cancel());
            EXPECT_EQ(alive.use_count(), 2);  // this closure is there until it returns
            loop.stop();
        }
    });
    loop.run();
    EXPECT_EQ(beats, 3);
    EXPECT_EQ(alive.use_count(), 1);
    EXPECT_EQ(loop.run_once(1ms), 0U);
}

TEST(EventLoop, LeavesOutTheBeatsThatWereMissedAndKeepsToTheRest) {
    event_loop loop;
    std::vector<clock_type::duration> beats;
    auto const start = clock_type::now();
    timer const beat = loop.call_every(2ms, [&] {
        beats.push_back(clock_type::now() - start);
        if (beats.size() == 1) std::this_thread::sleep_for(7ms);  // over the second, third and fourth
        if (beats.size() == 4) loop.stop();
    });
    loop.run();
    // Never early: each beat is one of the grid, and none comes twice.
    for (std::size_t i = 0; i < beats.size(); ++i) EXPECT_GE(beats[i], 2ms * static_cast<int>(i + 1));
    EXPECT_GE(beats[3], 2ms * 6);
    EXPECT_THROW(static_cast<void>(loop.call_every(0s, [] {})), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(loop.call_every(-1s, [] {})), std::invalid_argument);
}

TEST(EventLoop, NeverFiresATimerEarly) {
    event_loop loop;
    std::vector<timer> timers;
    int early = 0, fired = 0;
    for (auto const delay :
         {0ns, 1ns, 999ns, 1'000ns, 50'000ns, 100'000ns, 333'333ns, 999'999ns, 1'000'001ns, 2'500'000ns})
        for (int i = 0; i < 20; ++i) {
            auto const due = clock_type::now() + delay;
            timers.push_back(loop.call_after(delay, [&, due] {
                ++fired;
                if (clock_type::now() < due) ++early;
            }));
            loop.poll();
        }
    while (fired < 200) static_cast<void>(loop.run_once());
    EXPECT_EQ(early, 0);
}

TEST(EventLoop, CountsADelayFromTheCallAndNotFromTheTurn) {
    event_loop loop;
    timer late;
    loop.post([&] {
        static_cast<void>(loop.now());
        std::this_thread::sleep_for(5ms);  // by now, now() is old
        auto const due = clock_type::now() + 1ms;
        late = loop.call_after(1ms, [&, due] {
            EXPECT_GE(clock_type::now(), due);
            loop.stop();
        });
    });
    loop.run();
}

TEST(EventLoop, SetsFiveHundredTimersLaterAndEarlier) {
    event_loop loop;
    std::vector<timer> timers;
    std::vector<int> order;
    auto const start = clock_type::now();
    for (int i = 0; i < 500; ++i)
        timers.push_back(loop.call_at(start + 500us, [&, i] { order.push_back(i); }));
    for (int i = 0; i < 500; ++i)  // later, in reverse
        EXPECT_TRUE(timers[static_cast<std::size_t>(i)].rearm(start + 3ms - std::chrono::microseconds(i)));
    EXPECT_TRUE(timers[77].rearm(start + 1us));
    while (order.size() < 500) static_cast<void>(loop.run_once());
    std::vector<int> expected{77};
    for (int i = 499; i >= 0; --i)
        if (i != 77) expected.push_back(i);
    EXPECT_EQ(order, expected);
    EXPECT_GE(clock_type::now(), start + 3ms);
    EXPECT_FALSE(timers[0].rearm(start));
}

TEST(EventLoop, LetsATimerArmItselfAgain) {
    event_loop loop;
    int calls = 0;
    timer again = loop.call_after(0s, [&] {
        if (++calls < 5) {
            EXPECT_TRUE(again.rearm_after(10us));
        }
    });
    while (calls < 5) static_cast<void>(loop.run_once());
    EXPECT_FALSE(again);
    EXPECT_FALSE(again.rearm_after(1us));
    EXPECT_EQ(loop.timers(), 0U);
}

TEST(EventLoop, PropagatesATimersExceptionAndKeepsTheOthers) {
    event_loop loop;
    int fired = 0;
    auto const when = clock_type::now();
    timer const bad = loop.call_at(when, [] { throw std::runtime_error("timer"); });
    timer const good = loop.call_at(when, [&] { ++fired; });
    timer const beat = loop.call_every(1us, [&] {
        if (++fired < 3) throw std::runtime_error("beat");
    });
    EXPECT_THROW(loop.run(), std::runtime_error);
    EXPECT_FALSE(bad);
    int thrown = 0;
    while (fired < 4) try {
            static_cast<void>(loop.run_once());
        } catch (std::runtime_error const&) {
            ++thrown;
        }
    EXPECT_EQ(thrown, 1);
    EXPECT_TRUE(beat);  // a beat that throws is followed by others
}

TEST(EventLoop, FiresADetachedTimerWithoutItsHandle) {
    event_loop loop;
    auto const alive = std::make_shared<int>();
    loop.call_after(1us, [alive, &loop] { loop.stop(); }).detach();
    EXPECT_EQ(alive.use_count(), 2);
    loop.run();
    EXPECT_EQ(alive.use_count(), 1);
}

TEST(EventLoop, TakesTheLongestAndShortestTimesThereAre) {
    event_loop loop;
    std::vector<timer> never, now;
    int early = 0, fired = 0;
    auto const f = [&] { ++early; };
    never.push_back(loop.call_after(clock_type::duration::max(), f));
    never.push_back(loop.call_after(std::chrono::hours::max(), f));
    never.push_back(loop.call_after(std::chrono::duration<double>(1e300), f));
    never.push_back(
        loop.call_after(std::chrono::duration<double>(std::numeric_limits<double>::infinity()), f));
    never.push_back(loop.call_at(clock_type::time_point::max(), f));
    never.push_back(loop.call_every(std::chrono::years::max(), f));
    never.push_back(loop.call_after(std::chrono::hours(24 * 365 * 200), f));
    auto const g = [&] { ++fired; };
    now.push_back(loop.call_after(clock_type::duration::min(), g));
    now.push_back(loop.call_after(std::chrono::hours::min(), g));
    now.push_back(loop.call_at(clock_type::time_point::min(), g));
    now.push_back(loop.call_after(std::chrono::duration<float, std::pico>(-1.0F), g));
    EXPECT_EQ(loop.run_once(1ms), 4U);
    EXPECT_EQ(loop.run_once(1ms), 0U);
    EXPECT_EQ(loop.run_once(std::chrono::duration<double>(1e-4)), 0U);
    EXPECT_EQ(early, 0);
    EXPECT_EQ(fired, 4);
    // The rest of a nanosecond counts as a whole one.
    EXPECT_EQ(cairn::detail::saturate(std::chrono::duration<std::int64_t, std::pico>(1)), 1ns);
    EXPECT_EQ(cairn::detail::saturate(-1ms), -1ms);
}

TEST(EventLoop, TellsTheTimeOfTheTurn) {
    event_loop loop;
    auto const before = clock_type::now();
    EXPECT_GE(loop.now(), before);
    loop.post([&] {
        auto const now = loop.now();
        EXPECT_GE(now, before);
        std::this_thread::sleep_for(1ms);
        EXPECT_EQ(loop.now(), now);
    });
    loop.poll();
    EXPECT_GE(loop.now(), before + 1ms);
}

// ---- What descriptors tell. ----

TEST(EventLoop, TellsOfHangUpToOneThatAskedOnlyForInput) {
    event_loop loop;
    pipe_ends pipe;
    readiness seen{};
    registration const watch = loop.watch(pipe.reader.get(), readiness::in, [&](readiness r) { seen = r; });
    pipe.writer.reset();
    EXPECT_EQ(loop.run_once(), 1U);
    EXPECT_TRUE(has(seen, readiness::hup));
}

TEST(EventLoop, TellsAHalfCloseFromAHangUpAndCanStillWrite) {
    event_loop loop;
    auto const [here, there] = cairn::socket_pair();
    readiness seen{};
    registration const watch = loop.watch(here.get(), readiness::in | readiness::out | readiness::rdhup,
                                          [&](readiness r) { seen = r; });
    std::error_code error;
    write_some(there.get(), "last words");
    cairn::shutdown_write(there.get(), error);
    ASSERT_FALSE(error);
    EXPECT_EQ(loop.run_once(), 1U);
    EXPECT_TRUE(has(seen, readiness::rdhup) && has(seen, readiness::in) && has(seen, readiness::out));
    EXPECT_FALSE(has(seen, readiness::hup));
    EXPECT_EQ(read_all(here.get()), "last words");
    write_some(here.get(), "an answer");
    EXPECT_EQ(read_all(there.get()), "an answer");
}

TEST(EventLoop, TellsAWriterOfAnErrorWhenNobodyReads) {
    event_loop loop;
    pipe_ends pipe;
    readiness seen{};
    registration const watch = loop.watch(pipe.writer.get(), readiness::none, [&](readiness r) { seen = r; });
    EXPECT_EQ(loop.poll(), 0U);
    pipe.reader.reset();
    EXPECT_EQ(loop.run_once(), 1U);
    EXPECT_TRUE(has(seen, readiness::err));
}

TEST(EventLoop, RefusesWhatCannotBeWatchedAndForgetsItsHandler) {
    event_loop loop;
    flag_fd const ready;
    registration const first = loop.watch(ready.get(), readiness::in, ignore);
    auto const alive = std::make_shared<int>();
    auto const handler = [alive](readiness) {};
    auto const code_of = [&](int fd) {
        std::error_code error;
        registration const none = loop.watch(fd, readiness::in, handler, error);
        EXPECT_FALSE(none);
        EXPECT_EQ(none.fd(), -1);
        try {
            static_cast<void>(loop.watch(fd, readiness::in, handler));
            ADD_FAILURE() << "no exception";
        } catch (std::system_error const& thrown) {
            EXPECT_EQ(thrown.code(), error);
            EXPECT_NE(std::string(thrown.what()).find("epoll_ctl"), std::string::npos);
        }
        return error;
    };
    EXPECT_EQ(code_of(ready.get()), std::errc::file_exists);
    unique_fd const file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(code_of(file.get()), std::errc::operation_not_permitted);
    EXPECT_EQ(code_of(-1), std::errc::bad_file_descriptor);
    EXPECT_EQ(code_of(9'999), std::errc::bad_file_descriptor);
    EXPECT_EQ(alive.use_count(), 2);
    EXPECT_EQ(loop.watching(), 1U);
}

TEST(EventLoop, EndsAWatchHarmlesslyAfterItsDescriptorWasClosed) {
    event_loop loop;
    flag_fd closed(true);
    int const number = closed.get();
    registration old = loop.watch(number, readiness::in, ignore);
    closed.fd.reset();
    EXPECT_EQ(loop.poll(), 0U);
    // The number has another owner before the old watch ends: that one must not suffer.
    flag_fd fresh(true);
    ASSERT_EQ(fresh.get(), number);
    int calls = 0;
    registration watch = loop.watch(number, readiness::in, [&](readiness) { ++calls; });
    EXPECT_THROW(old.modify(readiness::out), std::system_error);
    old.disable();
    old.reset();
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(calls, 1);
    fresh.fd.reset();
    watch.reset();
    EXPECT_EQ(loop.watching(), 0U);
}

TEST(EventLoop, DoesNotSpinWhenADuplicateKeepsReportingAfterAClose) {
    event_loop loop;
    flag_fd closed(true);
    unique_fd const duplicate(::fcntl(closed.get(), F_DUPFD_CLOEXEC, 0));
    int stale = 0, calls = 0;
    registration watch = loop.watch(closed.get(), readiness::in, [&](readiness) { ++stale; });
    flag_fd const other;
    registration const alive = loop.watch(other.get(), readiness::in, [&](readiness) {
        ++calls;
        other.clear();
    });
    closed.fd.reset();
    watch.reset();  // epoll cannot find it any more, and reports it for ever
    for (int i = 0; i < 3; ++i) EXPECT_EQ(loop.poll(), 0U);
    EXPECT_EQ(stale, 0);
    // In the set that was made anew it is not: a wait lasts, and the others are still watched.
    rusage before{}, after{};
    ASSERT_EQ(::getrusage(RUSAGE_THREAD, &before), 0);
    EXPECT_EQ(loop.run_once(20ms), 0U);
    ASSERT_EQ(::getrusage(RUSAGE_THREAD, &after), 0);
    EXPECT_LT(after.ru_nvcsw - before.ru_nvcsw, 10);
    EXPECT_GE(after.ru_nvcsw - before.ru_nvcsw, 1);
    other.set();
    EXPECT_EQ(loop.run_once(), 1U);
    EXPECT_EQ(calls, 1);
    std::thread poster([&] { loop.post([] {}); });
    EXPECT_EQ(loop.run_once(), 1U);  // it can still be woken
    poster.join();
}

TEST(EventLoop, TellsAOneShotOnceUntilItIsEnabledAgain) {
    event_loop loop;
    flag_fd const ready(true);
    int calls = 0;
    registration watch =
        loop.watch(ready.get(), readiness::in | readiness::one_shot, [&](readiness) { ++calls; });
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    watch.enable();
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    watch.modify(readiness::in | readiness::one_shot);
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    watch.disable();
    watch.enable();
    watch.enable();
    EXPECT_EQ(loop.poll(), 1U);
    watch.modify(readiness::in);
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(calls, 6);
}

TEST(EventLoop, TellsAnEdgeOnceUntilThereIsMore) {
    event_loop loop;
    flag_fd const ready(true);
    int calls = 0;
    registration watch =
        loop.watch(ready.get(), readiness::in | readiness::edge, [&](readiness) { ++calls; });
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    ready.set();
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    watch.modify(readiness::in | readiness::edge);  // asks epoll to look again
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(calls, 3);
}

TEST(EventLoop, TellsADisabledOneNothingNotEvenAHangUp) {
    event_loop loop;
    pipe_ends pipe;
    int calls = 0;
    registration watch = loop.watch(pipe.reader.get(), readiness::in, [&](readiness) { ++calls; });
    watch.disable();
    watch.disable();
    pipe.writer.reset();
    EXPECT_EQ(loop.run_once(2ms), 0U);
    watch.modify(readiness::in | readiness::rdhup);  // does not enable it
    EXPECT_EQ(loop.run_once(2ms), 0U);
    EXPECT_EQ(loop.watching(), 1U);
    watch.enable();
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(calls, 1);
}

TEST(EventLoop, IsFairToOthersWhileOneDescriptorIsAlwaysReady) {
    event_loop loop;
    constexpr int n = 600;  // more than a batch
    std::vector<flag_fd> ready;
    std::vector<registration> watches;
    std::vector<int> calls(n);
    for (std::size_t i = 0; i < n; ++i) {
        ready.emplace_back(true);
        watches.push_back(
            loop.watch(ready.back().get(), readiness::in, [&calls, i](readiness) { ++calls[i]; }));
    }
    while (*std::max_element(calls.begin(), calls.end()) < 20) loop.poll();
    EXPECT_GE(*std::min_element(calls.begin(), calls.end()), 18);
}

// ---- What is kept, and for how long. ----

TEST(EventLoop, DestroysHandlersAndPostedWorkAtItsEnd) {
    auto const alive = std::make_shared<int>();
    flag_fd const ready(true);
    {
        event_loop loop;
        auto watch = std::make_shared<registration>();
        *watch = loop.watch(ready.get(), readiness::in, [alive, watch](readiness) {});  // owns its own watch
        loop.call_after(1h, [alive] {}).detach();
        loop.call_every(1h, [alive] {}).detach();
        auto chained = std::make_shared<timer>();
        *chained = loop.call_after(1h, [alive, chained] {});
        for (int i = 0; i < 10; ++i) loop.post([alive] {});
        struct posts_again {
            event_loop* loop;
            std::shared_ptr<int> alive;
            posts_again(event_loop& l, std::shared_ptr<int> a) : loop(&l), alive(std::move(a)) {}
            posts_again(posts_again&& from) noexcept = default;
            ~posts_again() {
                if (alive) loop->post([kept = alive] {});
            }
            void operator()() const {}
        };
        loop.post(posts_again(loop, alive));
        EXPECT_EQ(alive.use_count(), 16);
    }
    EXPECT_EQ(alive.use_count(), 1);
}

TEST(EventLoop, StoresClosuresOfAnySizeAndAlignment) {
    event_loop loop;
    flag_fd const ready(true);
    std::array<char, 500> big{};
    big.back() = 'b';
    struct alignas(128) wide {
        std::unique_ptr<int> value;  // cannot be copied
        int* sum;
        void operator()() const {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(this) % 128, 0U);
            *sum += *value;
        }
        void operator()(readiness) const { (*this)(); }
    };
    int sum = 0;
    loop.post([&, big] { sum += big.back() == 'b'; });
    loop.post(wide{std::make_unique<int>(10), &sum});
    timer const one = loop.call_after(0s, [&, big] { sum += big.back() == 'b' ? 100 : 0; });
    timer const two = loop.call_after(0s, wide{std::make_unique<int>(1'000), &sum});
    registration watch =
        loop.watch(ready.get(), readiness::in | readiness::edge, wide{std::make_unique<int>(10'000), &sum});
    settle(loop);
    EXPECT_EQ(sum, 11'111);
}

TEST(EventLoop, AllocatesNothingToDispatchPostRearmOrFire) {
    event_loop loop;
    flag_fd const ready(true);
    int calls = 0;
    std::array<std::uint64_t, 3> const three_words{};
    registration watch = loop.watch(ready.get(), readiness::in, [&calls, three_words](readiness) {
        calls += 1 + static_cast<int>(three_words[0]);
    });
    timer tick =
        loop.call_every(1ns, [&calls, three_words] { calls += 1 + static_cast<int>(three_words[0]); });
    timer idle = loop.call_after(1h, [] {});
    auto const some_work = [&] {
        for (int i = 0; i < 64; ++i) loop.post([&calls, a = 1, b = 2L] { calls += a + static_cast<int>(b); });
        idle.rearm_after(1h);
        idle.rearm_after(1min);
        timer const brief =
            loop.call_after(0s, [&calls, three_words] { calls += 1 + static_cast<int>(three_words[0]); });
        watch.modify(readiness::in | readiness::out);
        watch.modify(readiness::in);
        loop.poll();
    };
    for (int i = 0; i < 4; ++i) some_work();
    std::size_t const before = support::allocations;
    for (int i = 0; i < 100; ++i) some_work();
    EXPECT_EQ(support::allocations, before);
    EXPECT_GT(calls, 0);
}

TEST(EventLoop, LetsHandlesBeMovedAndAssigned) {
    event_loop loop;
    flag_fd const one(true), two(true);
    int calls = 0;
    registration a = loop.watch(one.get(), readiness::in, [&](readiness) { calls += 1; });
    registration b = std::move(a);
    EXPECT_FALSE(a);
    EXPECT_TRUE(b);
    EXPECT_EQ(b.fd(), one.get());
    b = loop.watch(two.get(), readiness::in, [&](readiness) { calls += 10; });  // ends the first
    registration& same = b;
    b = std::move(same);
    EXPECT_EQ(loop.watching(), 1U);
    loop.poll();
    EXPECT_EQ(calls, 10);
    b = {};
    EXPECT_EQ(loop.watching(), 0U);
    std::error_code error;
    a.modify(readiness::in, error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    EXPECT_THROW(a.enable(), std::system_error);
    a.disable();
    a.reset();

    timer t = loop.call_after(1h, [] {});
    timer u = std::move(t);
    EXPECT_FALSE(t);
    EXPECT_FALSE(t.cancel());
    timer& also = u;
    u = std::move(also);
    EXPECT_TRUE(u);
    u = loop.call_after(2h, [] {});
    EXPECT_EQ(loop.timers(), 1U);
    u = {};
    EXPECT_EQ(loop.timers(), 0U);
}

TEST(EventLoop, LetsRegistrationsAndTimersOutliveIt) {
    flag_fd const ready(true);
    registration watch;
    timer late, beat;
    auto const alive = std::make_shared<int>();
    {
        event_loop loop;
        watch = loop.watch(ready.get(), readiness::in, [alive](readiness) {});
        late = loop.call_after(1h, [alive] {});
        beat = loop.call_every(1h, [alive] {});
    }
    EXPECT_EQ(alive.use_count(), 1);  // what they stood for is gone
    EXPECT_FALSE(watch || late || beat);
    EXPECT_EQ(watch.fd(), -1);
    watch.disable();
    std::error_code error;
    watch.enable(error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    EXPECT_THROW(watch.modify(readiness::out), std::system_error);
    EXPECT_FALSE(late.rearm_after(1s));
    EXPECT_FALSE(late.cancel());
    beat.detach();
    watch.reset();
    event_loop another;  // and one that comes after it has nothing to do with them
    watch = another.watch(ready.get(), readiness::in, ignore);
    EXPECT_EQ(another.poll(), 1U);
}

TEST(EventLoop, LeavesTheParentsWatchesAloneInAForkedChild) {
    auto loop = std::make_unique<event_loop>();
    flag_fd const ready;
    int calls = 0;
    registration watch = loop->watch(ready.get(), readiness::in, [&](readiness) {
        ++calls;
        ready.clear();
    });
    pid_t const child = ::fork();
    if (child == 0) {  // the copy must end without a trace, and must not run
        std::error_code error;
        watch.modify(readiness::out, error);
        bool refused = error.value() == ESTALE;
        try {
            loop->run();
            refused = false;
        } catch (std::logic_error const&) {
        }
        watch.reset();
        loop.reset();
        ::_exit(refused ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ready.set();
    EXPECT_EQ(loop->run_once(), 1U);
    EXPECT_EQ(calls, 1);
}

TEST(EventLoop, ClosesItsDescriptorsOnExec) {
    auto const open_ones = [] {
        std::vector<int> fds;
        for (int fd = 0; fd < 256; ++fd)
            if (::fcntl(fd, F_GETFD) >= 0) fds.push_back(fd);
        return fds;
    };
    auto const before = open_ones();
    {
        event_loop const loop;
        auto fds = open_ones();
        EXPECT_GE(fds.size(), before.size() + 2);
        for (int const fd : fds)
            if (std::find(before.begin(), before.end(), fd) == before.end()) {
                EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << fd;
            }
    }
    EXPECT_EQ(open_ones(), before);
}

TEST(EventLoop, EndsWithTenThousandDescriptorsWatched) {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    std::size_t const n = std::min<std::size_t>(10'000, limit.rlim_cur > 200 ? limit.rlim_cur - 200 : 0);
    auto const alive = std::make_shared<int>();
    std::vector<flag_fd> ready;
    std::vector<registration> outlive;
    {
        event_loop loop;
        for (std::size_t i = 0; i < n; ++i) {
            ready.emplace_back(true);
            outlive.push_back(loop.watch(ready.back().get(), readiness::in, [alive](readiness) {}));
        }
        std::size_t calls = 0;
        while (calls < 2 * n) calls += loop.poll();
        EXPECT_EQ(loop.watching(), n);
        EXPECT_EQ(alive.use_count(), static_cast<long>(n) + 1);
    }
    EXPECT_EQ(alive.use_count(), 1);
}

TEST(EventLoop, ChangesNothingWhenMemoryFails) {
    flag_fd const ready;
    auto const alive = std::make_shared<int>();
    struct big {  // does not fit: an allocation of its own
        std::shared_ptr<int> alive;
        std::array<char, 100> rest{};
        void operator()() const {}
        void operator()(readiness) const {}
    };
    bool done = false;
    for (std::size_t n = 0; !done; ++n) {
        event_loop loop;
        std::size_t watched = 0, timed = 0;
        registration watch;
        timer late;
        bool posted = false;
        {
            support::fail_after const limit(n);
            try {
                watch = loop.watch(ready.get(), readiness::in, big{alive});
                watched = 1;
                late = loop.call_after(1h, big{alive});
                timed = 1;
                loop.post(big{alive});
                posted = true;
                done = true;
            } catch (std::bad_alloc const&) {
            }
        }
        EXPECT_EQ(loop.watching(), watched);
        EXPECT_EQ(loop.timers(), timed);
        EXPECT_EQ(alive.use_count(), static_cast<long>(1 + watched + timed + posted));
        EXPECT_EQ(loop.poll(), posted ? 1U : 0U);
        // And all of it works once there is memory again.
        if (!watch) watch = loop.watch(ready.get(), readiness::in, ignore);
        late = loop.call_after(0s, [] {});
        EXPECT_EQ(loop.poll(), 1U);
    }
}

TEST(EventLoop, PostsAndStopsFromManyThreadsWhileItRunsAgainAndAgain) {
    constexpr int n = support::sanitized ? 2'000 : 20'000;
    event_loop loop;
    std::atomic<int> posted{0};
    int ran = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < n; ++i) {
                loop.post([&] { ++ran; });
                loop.dispatch([&] { ++ran; });
                posted.fetch_add(2);
                if (i % 16 == 0) loop.stop();
            }
            loop.stop();
        });
    timer const tick = loop.call_every(50us, [] {});
    while (posted.load() != 6 * n) loop.run();
    for (auto& t : threads) t.join();
    settle(loop);
    EXPECT_EQ(ran, 6 * n);
}

}  // namespace
