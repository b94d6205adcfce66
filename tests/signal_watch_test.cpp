// SPDX-License-Identifier: MIT
#include <cairn/signal_watch.hpp>

#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace {

using namespace std::chrono_literals;

[[nodiscard]] bool is_blocked(int signal) {
    sigset_t now;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &now);
    return ::sigismember(&now, signal) == 1;
}

TEST(SignalWatch, CallsItsHandlerOnTheLoopForEachSignal) {
    cairn::event_loop loop;
    std::vector<int> seen;
    {
        cairn::signal_watch const watch(loop, {SIGUSR1, SIGUSR2}, [&](int signal) {
            EXPECT_TRUE(loop.running_in_this_thread());
            seen.push_back(signal);
            if (seen.size() == 2) loop.stop();
        });
        EXPECT_TRUE(is_blocked(SIGUSR1) && is_blocked(SIGUSR2));
        std::thread([] {
            ::kill(::getpid(), SIGUSR2);
            ::kill(::getpid(), SIGUSR1);
        }).join();
        EXPECT_TRUE(seen.empty());
        loop.run();
    }
    EXPECT_EQ(seen, (std::vector{SIGUSR1, SIGUSR2}));  // the system gives the lower number first
    EXPECT_FALSE(is_blocked(SIGUSR1) || is_blocked(SIGUSR2));
    EXPECT_EQ(loop.watching(), 0U);
}

TEST(SignalWatch, WakesALoopThatSleeps) {
    cairn::event_loop loop;
    int calls = 0;
    cairn::signal_watch const watch(loop, {SIGUSR1}, [&](int) {
        ++calls;
        loop.stop();
    });
    std::thread other([] {
        std::this_thread::sleep_for(2ms);
        ::kill(::getpid(), SIGUSR1);
    });
    loop.run();
    other.join();
    EXPECT_EQ(calls, 1);
}

TEST(SignalWatch, TakesASignalThatStillWaitsAwayAtItsEnd) {
    cairn::event_loop loop;
    std::optional<cairn::signal_watch> watch;
    watch.emplace(loop, std::initializer_list<int>{SIGUSR1}, [](int) {});
    ::kill(::getpid(), SIGUSR1);
    watch.reset();  // or the test would end here
    EXPECT_FALSE(is_blocked(SIGUSR1));
}

TEST(SignalWatch, LeavesASignalBlockedThatWasBlockedBefore) {
    sigset_t one, before;
    ::sigemptyset(&one);
    ::sigaddset(&one, SIGUSR1);
    ::pthread_sigmask(SIG_BLOCK, &one, &before);
    {
        cairn::event_loop loop;
        cairn::signal_watch const watch(loop, {SIGUSR1}, [](int) {});
        ::raise(SIGUSR1);
    }
    EXPECT_TRUE(is_blocked(SIGUSR1));
    timespec const at_once{};
    EXPECT_EQ(::sigtimedwait(&one, nullptr, &at_once), SIGUSR1);  // it is still there for its owner
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(SignalWatch, KeepsTheOtherSignalsWhenAHandlerThrows) {
    cairn::event_loop loop;
    int calls = 0;
    cairn::signal_watch const watch(loop, {SIGUSR1, SIGUSR2}, [&](int) {
        if (++calls == 1) throw std::runtime_error("first");
    });
    ::kill(::getpid(), SIGUSR1);
    ::kill(::getpid(), SIGUSR2);
    EXPECT_THROW(loop.run(), std::runtime_error);
    EXPECT_EQ(loop.poll(), 1U);
    EXPECT_EQ(loop.poll(), 0U);
    EXPECT_EQ(calls, 2);
}

TEST(SignalWatch, RefusesWhatIsNoSignalAndBlocksNothingThen) {
    cairn::event_loop loop;
    EXPECT_THROW(cairn::signal_watch(loop, {SIGUSR1, 12'345}, [](int) {}), std::system_error);
    EXPECT_FALSE(is_blocked(SIGUSR1));
}

}  // namespace
