// SPDX-License-Identifier: MIT
// How long does push wait when the sink stalls, and how much memory does a full buffer take?
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "buffer_peers.hpp"
#include "buffer_runs.hpp"
#include "buffers.hpp"

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;
constexpr auto our_name = "cairn";

/// 1.6 ms a call, and every 20th call 100 ms more.
struct stalling_sink {
    int calls = 0;
    template <class Event>
    void operator()(std::span<Event>) {
        std::this_thread::sleep_for(++calls % 20 == 0 ? 101'600us : 1'600us);
    }
};
struct stall_row {
    std::string name;
    std::size_t capacity;
    double predicted;           // ms
    summary observed;           // ms, the longest response of a run
    std::uint64_t blocked = 0;  // pushes that had to wait, in all runs
};
constexpr std::size_t stall_batch = 1'000;
constexpr double stall_rate = 100'000, stall_ms = 101.6;

template <template <class, class> class Buffer>
void add_stall(std::vector<stall_row>& rows, std::vector<std::function<paced_result()>>& runs,
               std::size_t capacity) {
    buffer_settings const settings{
        .batch = stall_batch, .capacity = capacity, .producers = 1, .linger = 50ms};
    rows.push_back({Buffer<event<64>, observed_sink<stalling_sink>>::name,
                    capacity,
                    // The sink has had one batch out of the buffer when it stalls, the rest fills up.
                    std::max(0.0, stall_ms - 1e3 * static_cast<double>(capacity - stall_batch) / stall_rate),
                    {}});
    runs.emplace_back([settings] {
        return in_process([&] {
            stalling_sink sink;
            return run_paced<Buffer, event<64>>(sink, settings, {stall_rate, 0.5});
        });
    });
}
[[nodiscard]] std::vector<stall_row> stall_rows(context const& ctx) {
    std::vector<stall_row> rows;
    std::vector<std::function<paced_result()>> runs;
    add_stall<by_single>(rows, runs, stall_batch);
    add_stall<by_double>(rows, runs, 2 * stall_batch);
    add_stall<by_copy_buffer>(rows, runs, 2 * stall_batch);
    for (std::size_t const n : {2U, 3U, 4U, 8U, 12U}) add_stall<by_batcher>(rows, runs, n * stall_batch);
    std::vector<std::vector<double>> observed(rows.size());
    for (int round = 0; round < (ctx.quick ? 3 : 5); ++round)
        for (std::size_t i = 0; i < rows.size(); ++i) {
            progress("buffers: the stall law, " + rows[i].name);
            paced_result const one = runs[i]();
            observed[i].push_back(one.response.most() / 1e6);
            rows[i].blocked += one.blocked;
        }
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].observed = summarise(observed[i]);
    return rows;
}
[[nodiscard]] nlohmann::json stall_table(std::vector<stall_row> const& rows) {
    nlohmann::json lines = nlohmann::json::array();
    for (auto const& row : rows)
        lines.push_back({{{"text", row.name}},
                         {{"text", count(static_cast<double>(row.capacity))}},
                         {{"text", number(row.predicted) + " ms"}},
                         {{"text", number(row.observed.median) + " ms"},
                          {"spread", number(row.observed.low) + " to " + number(row.observed.high)}}});
    return {{"id", "buffers-stall"},
            {"title",
             "The stall law: 100,000 events a second in batches of 1,000, a sink that stalls for 100 ms in "
             "every 20th call"},
            {"unit", ""},
            {"columns", {"buffer", "capacity", "predicted pause", "longest response"}},
            {"rows", lines}};
}

[[nodiscard]] nlohmann::json pause_chart(std::vector<stall_row> const& rows) {
    grid chart("buffers-stall-chart", "The longest pause, by capacity", "ms", "capacity, events");
    chart.column("predicted", "baseline");
    chart.column(our_name, "ours");
    for (stall_row const& row : rows) {
        if (row.name != our_name) continue;
        chart.add(static_cast<double>(row.capacity), our_name, row.observed);
        if (row.predicted > 0)
            chart.add(static_cast<double>(row.capacity), "predicted",
                      {row.predicted, row.predicted, row.predicted});
    }
    return chart.chart(
        {"While the sink stalls for T, events go on coming. The pause begins when the buffer is "
         "full, and ends with the stall: T - (capacity - batch) / rate."});
}

void stall_figures(std::vector<stall_row> const& rows, std::vector<figure>& figures) {
    double worst = 0, idle = 0;
    std::uint64_t blocked = 0;
    std::string where;
    for (stall_row const& row : rows) {
        if (row.predicted == 0) {
            idle = row.observed.median;
            blocked = row.blocked;
        } else if (double const over = row.observed.median - row.predicted; where.empty() || over > worst) {
            worst = over;
            where = row.name + ", " + count(static_cast<double>(row.capacity));
        }
    }
    figures.push_back({"the stall law: longest response beyond the prediction", "at most 2.00 ms",
                       number(worst) + " ms in the worst row (" + where + ")", worst <= 2});
    // The longest response is then the machine's: a core that somebody else had for a while.
    figures.push_back({"… with a capacity of rate x stall: pushes that had to wait", "0",
                       count(static_cast<double>(blocked)) + "; longest response " + number(idle) + " ms",
                       blocked == 0});
}

/// Peak memory beyond that of the events of a full batcher, in bytes.
[[nodiscard]] double memory_overhead() {
    constexpr std::size_t capacity = 50'000;
    using big = event<1'024>;
    auto const result = in_process([&] {
        struct slow_sink {
            void operator()(std::span<big>) const { std::this_thread::sleep_for(1ms); }
        } sink;
        // A small one first: the pages of the program's code are not the batcher's.
        (void)run_paced<by_batcher, big>(
            sink, {.batch = 100, .capacity = 200, .producers = 1, .linger = 50ms}, {1'500'000, 0.01});
        // Faster than the sink: the buffer fills up.
        return run_paced<by_batcher, big>(
            sink, {.batch = 1'000, .capacity = capacity, .producers = 1, .linger = 50ms}, {1'500'000, 0.2});
    });
    return result.peak - double{capacity} * sizeof(big);
}

}  // namespace

void buffers_stall(context& ctx, answer& result) {
    auto const rows = stall_rows(ctx);
    result.question["tables"].push_back(stall_table(rows));
    result.question["charts"].push_back(pause_chart(rows));
    stall_figures(rows, result.figures);
    double const overhead = memory_overhead();
    result.figures.push_back({"batcher, peak memory beyond 50,000 events of 1,024 bytes", "at most 1.00 MB",
                              number(overhead / 1e6) + " MB", overhead <= 1e6});
}

}  // namespace cairn::bench
