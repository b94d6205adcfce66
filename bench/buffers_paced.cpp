// SPDX-License-Identifier: MIT
// What does push cost at 100,000 events a second into a real database, with each of the buffers?
#if defined(CAIRN_BENCH_HAVE_SQLITE)
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
#include "buffers_sqlite.hpp"

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;
constexpr auto our_name = "cairn";

template <template <class, class> class Buffer, class Event>
[[nodiscard]] paced_result into_sqlite(folder& where, buffer_settings const& settings, pace const& at) {
    std::string const path = where.file();
    paced_result const result = in_process([&] {
        auto sink = sqlite<Event>(path, sinks::synchronous::normal);
        return run_paced<Buffer, Event>(sink, settings, at);
    });
    std::error_code ignored;
    for (char const* const end : {"", "-wal", "-shm"}) std::filesystem::remove(path + end, ignored);
    if (result.wrong != 0) throw std::runtime_error("events were lost, doubled or out of order");
    return result;
}

/// A contestant of the paced tables: what it is called, and how one of its runs is made.
struct paced_contestant {
    std::string name;
    std::function<paced_result()> run;
};
template <template <class, class> class Buffer, class Event>
[[nodiscard]] paced_contestant paced_one(folder& where, buffer_settings const& settings, pace const& at) {
    using named = Buffer<Event, observed_sink<sinks::sqlite_sink<Event, row_of<Event>>>>;
    return {named::name, [&where, settings, at] { return into_sqlite<Buffer, Event>(where, settings, at); }};
}

/// One row of a paced table: medians over the rounds.
struct paced_row {
    std::string cell, name;
    std::size_t batch = 0, producers = 0;
    std::vector<paced_result> rounds;

    template <class Of>
    [[nodiscard]] summary over(Of of) const {
        std::vector<double> values;
        for (paced_result const& one : rounds) values.push_back(of(one));
        return summarise(std::move(values));
    }
    [[nodiscard]] double service(double part) const {
        return over([part](paced_result const& r) { return r.service.at(part); }).median;
    }
};

/// All contestants of a cell in turn, round by round, each run in a process of its own.
void run_cell(std::vector<paced_row>& rows, std::string const& cell, buffer_settings const& settings,
              std::vector<paced_contestant> const& contestants, std::size_t rounds) {
    std::size_t const first = rows.size();
    for (auto const& one : contestants)
        rows.push_back({cell, one.name, settings.batch, settings.producers, {}});
    for (std::size_t round = 0; round < rounds; ++round) {
        progress("buffers: " + cell + ", round " + std::to_string(round + 1));
        for (std::size_t i = 0; i < contestants.size(); ++i)
            rows[first + i].rounds.push_back(contestants[i].run());
    }
}

/// "1.23 µs", from nanoseconds.
[[nodiscard]] std::string duration(double ns) {
    if (ns < 1e3) return number(ns) + " ns";
    if (ns < 1e6) return number(ns / 1e3) + " µs";
    return number(ns / 1e6) + " ms";
}

[[nodiscard]] nlohmann::json paced_table(std::string const& id, std::string const& title,
                                         std::vector<paced_row> const& rows) {
    nlohmann::json lines = nlohmann::json::array();
    for (paced_row const& row : rows) {
        auto const cell = [&](auto of) {
            summary const s = row.over(of);
            return nlohmann::json{{"text", duration(s.median)},
                                  {"spread", duration(s.low) + " to " + duration(s.high)}};
        };
        auto const plain = [&](auto of) { return nlohmann::json{{"text", number(row.over(of).median)}}; };
        nlohmann::json line = {{{"text", row.cell}}, {{"text", row.name}}};
        for (double const part : {0.5, 0.99, 0.999, 0.9999})
            line.push_back(cell([part](paced_result const& r) { return r.service.at(part); }));
        line.push_back(cell([](paced_result const& r) { return r.service.most(); }));
        if (row.producers == 1) {
            line.push_back(cell([](paced_result const& r) { return r.response.at(0.999); }));
            line.push_back(cell([](paced_result const& r) { return r.response.most(); }));
        } else {
            line.push_back({{"text", "-"}});
            line.push_back({{"text", "-"}});
        }
        line.push_back(
            plain([](paced_result const& r) { return static_cast<double>(r.batches) / r.seconds; }));
        line.push_back(
            plain([](paced_result const& r) { return static_cast<double>(r.events) / r.seconds; }));
        line.push_back(plain([](paced_result const& r) { return r.peak / 1e6; }));
        lines.push_back(line);
    }
    return {{"id", id},
            {"title", title},
            {"unit", ""},
            {"columns",
             {"run", "buffer", "push p50", "p99", "p99.9", "p99.99", "max", "response p99.9", "max ",
              "commits/s", "events/s", "peak MB"}},
            {"rows", lines}};
}

/// The four forms of the lecture's table.
template <class Event>
[[nodiscard]] std::vector<paced_contestant> four_forms(folder& where, buffer_settings const& settings,
                                                       pace const& at) {
    return {paced_one<by_single, Event>(where, settings, at),
            paced_one<by_double, Event>(where, settings, at),
            paced_one<by_copy_buffer, Event>(where, settings, at),
            paced_one<by_batcher, Event>(where, settings, at)};
}
template <class Event>
[[nodiscard]] std::vector<paced_contestant> all_forms(folder& where, buffer_settings const& settings,
                                                      pace const& at) {
    auto all = four_forms<Event>(where, settings, at);
    all.push_back(paced_one<by_shared_batcher, Event>(where, settings, at));
    all.push_back(paced_one<by_deque, Event>(where, settings, at));
#if defined(CAIRN_BENCH_HAVE_CONCURRENTQUEUE)
    all.push_back(paced_one<by_moodycamel, Event>(where, settings, at));
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
    all.push_back(paced_one<by_tbb, Event>(where, settings, at));
#endif
#if defined(CAIRN_BENCH_HAVE_SPDLOG)
    all.push_back(paced_one<by_spdlog, Event>(where, settings, at));
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST)
    if (settings.producers == 1) all.push_back(paced_one<by_boost, Event>(where, settings, at));
#endif
    return all;
}

constexpr double rate = 100'000;

/// Batches of one size before they go, so no linger that would cut them short.
[[nodiscard]] buffer_settings settings_for(std::size_t batch, std::size_t producers) {
    return {.batch = batch,
            .capacity = std::max<std::size_t>(8'000, 2 * batch * producers),
            .producers = producers,
            .linger = std::chrono::nanoseconds(std::llround(3e9 * static_cast<double>(batch) / rate))};
}

[[nodiscard]] std::vector<paced_row> lecture_rows(context const& ctx, folder& where) {
    std::vector<paced_row> rows;
    std::size_t const rounds = ctx.quick ? 3 : 5;
    for (std::size_t const producers : {std::size_t{1}, std::size_t{2}}) {
        std::string const by = ", producers: " + std::to_string(producers);
        for (std::size_t const batch :
             {std::size_t{100}, std::size_t{1'000}, std::size_t{10'000}, std::size_t{100'000}}) {
            if (ctx.quick && batch != 1'000) continue;
            pace const at{rate, std::max(ctx.quick ? 0.2 : 0.5, 2.5 * static_cast<double>(batch) / rate)};
            buffer_settings const settings = settings_for(batch, producers);
            run_cell(rows, "64 bytes, batch " + count(static_cast<double>(batch)) + by, settings,
                     four_forms<event<64>>(where, settings, at), rounds);
        }
        if (ctx.quick) continue;
        buffer_settings const settings = settings_for(1'000, producers);
        pace const at{rate, 0.5};
        auto const size = [&]<class Event>(std::type_identity<Event>, std::string const& name) {
            run_cell(rows, name + ", batch 1,000" + by, settings, four_forms<Event>(where, settings, at),
                     rounds);
        };
        size(std::type_identity<event<16>>{}, "16 bytes");
        size(std::type_identity<event<256>>{}, "256 bytes");
        size(std::type_identity<event<1'024>>{}, "1,024 bytes");
        size(std::type_identity<std::string>{}, "std::string");
    }
    return rows;
}

[[nodiscard]] std::vector<paced_row> contest_rows(context const& ctx, folder& where) {
    std::vector<paced_row> rows;
    for (std::size_t const producers : {std::size_t{1}, std::size_t{2}}) {
        buffer_settings const settings = settings_for(1'000, producers);
        run_cell(rows, "producers: " + std::to_string(producers), settings,
                 all_forms<event<64>>(where, settings, {rate, ctx.quick ? 0.2 : 1.0}), ctx.quick ? 3 : 5);
    }
    return rows;
}

void paced_figures(std::vector<paced_row> const& rows, std::vector<figure>& figures) {
    auto const find = [&rows](std::size_t producers, std::string const& name) -> paced_row const* {
        for (paced_row const& row : rows)
            if (row.producers == producers && row.name == name) return &row;
        return nullptr;
    };
    // The median over the rounds of the ratio in a round.
    auto const times = [](paced_row const& slow, paced_row const& fast, double part) {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < fast.rounds.size(); ++i)
            ratios.push_back(slow.rounds[i].service.at(part) / fast.rounds[i].service.at(part));
        return summarise(std::move(ratios));
    };
    for (std::size_t const producers : {std::size_t{1}, std::size_t{2}}) {
        paced_row const* const ours = find(producers, our_name);
        if (ours == nullptr) continue;
        std::string const by = ", producers: " + std::to_string(producers);
        summary const own = ours->over([](paced_result const& r) { return r.service.at(0.999); });
        figures.push_back(
            {"batcher, 100,000/s into SQLite, push p99.9" + by, "at most 2.00 µs",
             duration(own.median) + " (" + duration(own.low) + " to " + duration(own.high) + ")",
             own.median <= 2'000});
        struct promise {
            char const* peer;
            double part, times;
        };
        for (promise const& one :
             {promise{"single", 0.999, 200}, promise{"moodycamel", 0.999, 5}, promise{"deque + cv", 0.999, 5},
              promise{"double", 0.9999, producers == 1 ? 10.0 : 5.0}}) {
            paced_row const* const peer = find(producers, one.peer);
            if (peer == nullptr) continue;
            summary const ratio = times(*peer, *ours, one.part);
            figures.push_back(
                {std::string("… push p") + (one.part < 0.9995 ? "99.9" : "99.99") + " vs " + one.peer + by,
                 "at most 1/" + number(one.times),
                 "1/" + number(ratio.median) + " (1/" + number(ratio.low) + " to 1/" + number(ratio.high) +
                     ")",
                 ratio.median >= one.times});
        }
        summary const cpu =
            ours->over([](paced_result const& r) { return 100 * (r.flusher_cpu - r.sink_cpu) / r.seconds; });
        figures.push_back({"… flusher's processor time beyond the sink's" + by, "at most 5 % of a core",
                           number(cpu.median) + " % (" + number(cpu.low) + " to " + number(cpu.high) + ")",
                           cpu.median <= 5});
    }
}

}  // namespace

void buffers_paced(context& ctx, answer& result) {
    folder where;
    auto& tables = result.question["tables"];
    tables.push_back(paced_table("buffers-lecture",
                                 "The lecture's table, measured: 100,000 events a second into SQLite",
                                 lecture_rows(ctx, where)));
    auto const contest = contest_rows(ctx, where);
    tables.push_back(
        paced_table("buffers-pace", "All of them: 64 bytes, batches of 1,000, into SQLite", contest));
    paced_figures(contest, result.figures);
}

}  // namespace cairn::bench
#endif
