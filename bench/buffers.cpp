// SPDX-License-Identifier: MIT
// What should stand between producers and a slow sink, and what does each choice cost?
#include "buffers.hpp"

#include <nlohmann/json.hpp>

#include "partner.hpp"

namespace cairn::bench {

answer question_buffers(context& ctx) {
    answer result;
    auto& question = result.question;
    question = {{"id", "buffers"},
                {"title", "What should stand before a slow sink?"},
                {"intro", nlohmann::json::array()},
                {"tables", nlohmann::json::array()},
                {"charts", nlohmann::json::array()},
                {"sentences", nlohmann::json::array()}};
    if (!partner::possible()) {
        question["intro"].push_back(
            "This machine has one core; producer and flusher would take turns on it.");
        return result;
    }
    question["intro"] = {
        "Flat out: producers push as fast as they can into a sink that looks at each event and does nothing "
        "else. Ratios above 1 say how many times faster cairn was: the median over the rounds, and its "
        "quartiles. At a pace: 100,000 events a second into a database. Push is what the call took; response "
        "is counted from when the event was due, so it includes the wait behind an earlier one.",
        "All queues have a thread behind them that gathers batches of the same size; moodycamel's has no "
        "bound. Each run at a pace has a process of its own; medians of the runs and their quartiles."};

    every_core const unbound;  // a flusher must not run on its producer's core only
    buffers_flat_out(ctx, result);
#if defined(CAIRN_BENCH_HAVE_SQLITE)
    buffers_paced(ctx, result);
    buffers_gain(ctx, result);
#else
    question["intro"].push_back("SQLite is not installed: nothing was measured at a pace.");
#endif
    buffers_stall(ctx, result);
    buffers_failing(ctx, result);
#if defined(CAIRN_BENCH_HAVE_SQLITE)
    buffers_killed(ctx, result);
#endif
    return result;
}

}  // namespace cairn::bench
