// SPDX-License-Identifier: MIT
// The second thread of a measurement.
#pragma once

#include <cairn/spsc_queue.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#endif

namespace cairn::bench {

/// Looks again and again: with a pause between, then with a yield.
template <class Try>
void until(Try attempt) {
    spin_then_yield policy;
    while (!attempt()) (void)policy.wait();
}

/// A thread on another core that does what it is handed, once each. It spins some 50 µs for the next, so that
/// it is awake in a run of measurements, then sleeps: other processes have partners on that core too, and one
/// that still looked around would take half of it from the next one that is measured.
class partner {
  public:
    partner() : thread_([this] { serve(); }) {}
    ~partner() {
        work_ = nullptr;
        (void)give();
        thread_.join();
    }
    partner(partner const&) = delete;
    partner& operator=(partner const&) = delete;

    /// Runs `other` there and `here` here; returns when both have ended.
    template <class Other, class Here>
    void together(Other&& other, Here&& here) {
        work_ = std::forward<Other>(other);
        std::uint32_t const turn = give();
        here();
        // acquire: pairs with the release in serve(), for what the work has written.
        until([&] { return done_.load(std::memory_order_acquire) == turn; });
    }

    /// Whether two threads can run on two cores here.
    [[nodiscard]] static bool possible() { return std::thread::hardware_concurrency() > 1; }

  private:
    static constexpr int looks = 2'000;

    [[nodiscard]] std::uint32_t give() {
        // release: pairs with the acquire in serve(), for work_ and all it refers to.
        std::uint32_t const turn = given_.fetch_add(1, std::memory_order_release) + 1;
        given_.notify_one();
        return turn;
    }
    static void move_to_another_core() {
#if defined(__linux__)
        // The main thread has bound itself to the last core that was allowed; the first one is ours.
        cpu_set_t set;
        for (int core = 0; core < CPU_SETSIZE; ++core) {
            CPU_ZERO(&set);
            CPU_SET(static_cast<std::size_t>(core), &set);
            if (sched_setaffinity(0, sizeof set, &set) == 0) return;
        }
#endif
    }
    void serve() {
        move_to_another_core();
        for (std::uint32_t turn = 1;; ++turn) {
            // acquire: pairs with the release in give().
            for (int left = looks; left != 0 && given_.load(std::memory_order_acquire) != turn; --left)
                detail::relax();
            given_.wait(turn - 1, std::memory_order_acquire);
            if (!work_) return;
            work_();
            done_.store(turn, std::memory_order_release);
        }
    }
    std::function<void()> work_;
    alignas(128) std::atomic<std::uint32_t> given_{0};
    alignas(128) std::atomic<std::uint32_t> done_{0};
    std::thread thread_;
};

}  // namespace cairn::bench
