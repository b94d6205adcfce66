// SPDX-License-Identifier: MIT
// What the operations of a loop cost without a server: events, posts, timers, memory.
#pragma once

#include <cstdint>

#include "harness.hpp"

namespace cairn::bench {

/// An event of 1,024 ready ones, the kernel's part included. And what of that is cairn's: a contestant whose
/// time is that from the first handler of a batch to the last.
inline constexpr auto dispatch_alone = "cairn, dispatch alone";
[[nodiscard]] cell_result measure_dispatch(context const& ctx);

/// Posts in a burst from another thread: the time that the poster takes for one.
[[nodiscard]] cell_result measure_post(context const& ctx);

/// Does one thing to each of 10,000 timers.
struct timer_cells {
    cell_result add, refresh, cancel;
};
[[nodiscard]] timer_cells measure_timers(context const& ctx);

struct lateness {
    double median = 0, p99 = 0;  // µs
    std::uint64_t early = 0, fired = 0;
};
/// Deadlines of 100 µs, one after the other.
/// `slack` is how much later than asked for the system may wake this thread, in ns (prctl PR_SET_TIMERSLACK).
[[nodiscard]] lateness measure_lateness(context const& ctx, unsigned long slack);

constexpr unsigned long usual_slack = 50'000;  // what Linux gives each thread

/// Bytes of the heap for each of 4,096 connections that are watched and idle: of a handler, of a coroutine.
[[nodiscard]] double memory_of_a_watch();
[[nodiscard]] double memory_of_a_coroutine();

}  // namespace cairn::bench
