// SPDX-License-Identifier: MIT
// A clock that stands still until a test moves it, for batchers: threads that wait by it wait for the test.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

namespace support {

struct fake_clock {
    using time_point = std::chrono::steady_clock::time_point;

    [[nodiscard]] static time_point now() noexcept { return time_point(std::chrono::nanoseconds(time)); }
    static void wait_until(std::condition_variable& condition, std::unique_lock<std::mutex>& lock,
                           time_point until) {
        std::list<sleeper>::iterator mine;
        {
            std::lock_guard const guard(mutex);
            if (now() >= until) return;
            mine = sleepers.insert(sleepers.end(), {&condition, lock.mutex(), until, now()});
        }
        condition.wait(lock);
        std::lock_guard const guard(mutex);
        sleepers.erase(mine);
    }

    /// Moves the time, and wakes all that wait.
    static void advance(std::chrono::nanoseconds by) {
        std::vector<sleeper> all;
        {
            std::lock_guard const guard(mutex);
            time += by.count();
            all.assign(sleepers.begin(), sleepers.end());
        }
        for (sleeper const& one : all) {
            // With its mutex, or the call could fall between a sleeper's look at the time and its sleep.
            std::lock_guard const lock(*one.mutex);
            one.condition->notify_all();
        }
    }
    /// Waits until n threads sleep that have seen the present time.
    static void settle(std::size_t n = 1) {
        while (at_rest().size() < n) std::this_thread::yield();
    }
    /// How long the one that wakes first will sleep.
    [[nodiscard]] static std::chrono::nanoseconds next() {
        settle();
        auto const all = at_rest();
        return *std::min_element(all.begin(), all.end()) - now();
    }

  private:
    struct sleeper {
        std::condition_variable* condition;
        std::mutex* mutex;
        time_point until, since;
    };
    [[nodiscard]] static std::vector<time_point> at_rest() {
        std::lock_guard const guard(mutex);
        std::vector<time_point> all;
        for (sleeper const& one : sleepers)
            if (one.since == now()) all.push_back(one.until);
        return all;
    }

    static inline std::atomic<std::int64_t> time{1'000'000'000};
    static inline std::mutex mutex;
    static inline std::list<sleeper> sleepers;
};

}  // namespace support
