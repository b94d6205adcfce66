// SPDX-License-Identifier: MIT
// What is a batch worth to a database, and what does linger do to the number of commits?
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

#include <cairn/batcher.hpp>

#include "buffer_runs.hpp"
#include "buffers.hpp"
#include "buffers_sqlite.hpp"

#if defined(CAIRN_BENCH_HAVE_POSTGRES)
#include "sinks/postgres_sink.hpp"
#endif

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;

struct linger_row {
    double milliseconds;
    summary commits, age;  // per second; ms from an event's making to its commit, the median
};

/// Each event carries the time at which it was made in its first free bytes.
struct aging_sink {
    sinks::sqlite_sink<event<64>, row_of<event<64>>> inner;
    histogram ages;
    void operator()(std::span<event<64>> batch) {
        inner(batch);
        std::int64_t const now = std::chrono::steady_clock::now().time_since_epoch().count();
        for (auto const& e : batch) {
            std::int64_t made = 0;
            std::memcpy(&made, e.rest.data(), sizeof made);
            ages.add(now - made);
        }
    }
};
struct linger_run {
    double commits, age;
};
[[nodiscard]] linger_run run_linger(std::string const& path, std::chrono::nanoseconds linger,
                                    double seconds) {
    return in_process([&] {
        using clock = std::chrono::steady_clock;
        aging_sink sink{sqlite<event<64>>(path, sinks::synchronous::full), {}};
        auto const to = [&sink](std::span<event<64>> batch) { sink(batch); };
        std::uint64_t batches = 0;
        auto const start = clock::now();
        {
            batch_options options;
            options.linger = linger;
            batcher<event<64>, decltype(to)> buffer(to, options);
            auto lane = buffer.make_producer();
            auto const n = static_cast<std::uint64_t>(10'000 * seconds);
            for (std::uint64_t i = 0; i < n; ++i) {
                auto const due = start + std::chrono::microseconds(100 * i);
                while (clock::now() < due) detail::relax();
                auto made = events<event<64>>::make(i);
                std::int64_t const now = clock::now().time_since_epoch().count();
                std::memcpy(made.rest.data(), &now, sizeof now);
                if (lane.push(made) != push_result::ok) throw std::runtime_error("an event was refused");
            }
            (void)buffer.flush();
            batches = buffer.stats().batches;
        }
        double const took = std::chrono::duration<double>(clock::now() - start).count();
        return linger_run{static_cast<double>(batches) / took, sink.ages.at(0.5) / 1e6};
    });
}
[[nodiscard]] std::vector<linger_row> linger_rows(context const& ctx, folder& where) {
    std::vector<linger_row> rows;
    constexpr std::array<double, 5> lingers{0, 1, 5, 20, 100};
    std::vector<std::vector<double>> commits(lingers.size()), ages(lingers.size());
    for (int round = 0; round < (ctx.quick ? 2 : 5); ++round)
        for (std::size_t i = 0; i < lingers.size(); ++i) {
            progress("buffers: linger " + number(lingers[i]) + " ms");
            linger_run const one =
                run_linger(where.file(), std::chrono::nanoseconds(std::llround(1e6 * lingers[i])),
                           ctx.quick ? 0.3 : 1.0);
            commits[i].push_back(one.commits);
            ages[i].push_back(one.age);
        }
    for (std::size_t i = 0; i < lingers.size(); ++i)
        rows.push_back({lingers[i], summarise(commits[i]), summarise(ages[i])});
    return rows;
}
[[nodiscard]] nlohmann::json linger_table(std::vector<linger_row> const& rows) {
    nlohmann::json lines = nlohmann::json::array();
    for (auto const& row : rows)
        lines.push_back({{{"text", number(row.milliseconds) + " ms"}},
                         {{"text", number(row.commits.median)},
                          {"spread", number(row.commits.low) + " to " + number(row.commits.high)}},
                         {{"text", number(row.age.median) + " ms"},
                          {"spread", number(row.age.low) + " to " + number(row.age.high)}},
                         {{"text", row.milliseconds == 0 ? "-" : number(1e3 / row.milliseconds)}}});
    return {{"id", "buffers-linger"},
            {"title", "Linger against commits: 10,000 events a second into SQLite, synchronous = FULL"},
            {"unit", ""},
            {"columns", {"linger", "commits/s", "age of an event at its commit, p50", "1 / linger"}},
            {"rows", lines}};
}

/// Rows a second, in transactions of `batch` rows.
template <class Sink>
[[nodiscard]] double rows_a_second(Sink& sink, std::size_t batch, double seconds) {
    using clock = std::chrono::steady_clock;
    std::vector<event<64>> rows(batch);
    std::uint64_t n = 0;
    auto const start = clock::now();
    double took = 0;
    do {
        for (auto& row : rows) row.number = n++;
        sink(std::span(rows));
        took = std::chrono::duration<double>(clock::now() - start).count();
    } while (took < seconds);
    return static_cast<double>(n) / took;
}
struct gain {
    std::string what;
    double promised;
    std::vector<double> single, batched;
};
void measure_sqlite_gain(context const& ctx, folder& where, std::vector<gain>& gains) {
    gain full{"SQLite, synchronous = FULL: batches of 1,000", 150, {}, {}};
    gain normal{"SQLite, synchronous = NORMAL: batches of 1,000", 30, {}, {}};
    double const seconds = ctx.quick ? 0.2 : 0.5;
    for (int round = 0; round < (ctx.quick ? 3 : 7); ++round)
        for (gain* const one : {&full, &normal}) {
            progress("buffers: " + one->what);
            auto sink = sqlite<event<64>>(
                where.file(), one == &full ? sinks::synchronous::full : sinks::synchronous::normal);
            one->single.push_back(rows_a_second(sink, 1, seconds));
            one->batched.push_back(rows_a_second(sink, 1'000, seconds));
        }
    gains.push_back(std::move(full));
    gains.push_back(std::move(normal));
}
#if defined(CAIRN_BENCH_HAVE_POSTGRES)
void measure_postgres_gain(context const& ctx, char const* dsn, std::vector<gain>& gains) {
    gain one{"PostgreSQL: COPY of 10,000", 150, {}, {}};
    double const seconds = ctx.quick ? 0.2 : 0.5;
    sinks::postgres_connection single(dsn);
    // Not a temporary one: what goes there need not reach the disk.
    single.run("DROP TABLE IF EXISTS cairn_compare_one_by_one");
    single.run("CREATE TABLE cairn_compare_one_by_one (number bigint NOT NULL, body bytea NOT NULL)");
    sinks::table to = event_table();
    to.name = "cairn_compare_events";
    single.run("DROP TABLE IF EXISTS cairn_compare_events");
    sinks::postgres_sink<event<64>, row_of<event<64>>> copied(dsn, to, row_of<event<64>>{});
    // A row as text, in a statement and a transaction of its own.
    auto inserted = [&single](std::span<event<64>> rows) {
        std::string body;
        for (event<64> const& row : rows) {
            body.assign(2 * row.rest.size(), '0');
            single.run("INSERT INTO cairn_compare_one_by_one VALUES (" + std::to_string(row.number) +
                       ", '\\x" + body + "')");
        }
    };
    for (int round = 0; round < (ctx.quick ? 3 : 7); ++round) {
        progress("buffers: " + one.what);
        one.single.push_back(rows_a_second(inserted, 1, seconds));
        one.batched.push_back(rows_a_second(copied, 10'000, seconds));
    }
    single.run("DROP TABLE IF EXISTS cairn_compare_events, cairn_compare_one_by_one");
    gains.push_back(std::move(one));
}
#endif
[[nodiscard]] nlohmann::json gain_table(std::vector<gain> const& gains) {
    nlohmann::json lines = nlohmann::json::array();
    for (gain const& one : gains) {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < one.single.size(); ++i) ratios.push_back(one.batched[i] / one.single[i]);
        summary const ratio = summarise(ratios);
        lines.push_back(
            {{{"text", one.what}},
             {{"text", number(summarise(one.single).median)}},
             {{"text", number(summarise(one.batched).median)}},
             {{"text", number(ratio.median)}, {"spread", number(ratio.low) + " to " + number(ratio.high)}}});
    }
    return {{"id", "buffers-gain"},
            {"title", "What a batch is worth: rows of 64 bytes a second"},
            {"unit", ""},
            {"columns", {"database", "one by one", "in batches", "times"}},
            {"rows", lines}};
}

void gain_figures(std::vector<gain> const& gains, std::vector<figure>& figures) {
    for (gain const& one : gains) {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < one.single.size(); ++i) ratios.push_back(one.batched[i] / one.single[i]);
        summary const ratio = summarise(ratios);
        figures.push_back(
            {one.what + " vs one INSERT a transaction", "at least " + number(one.promised) + " x",
             number(ratio.median) + " x (" + number(ratio.low) + " to " + number(ratio.high) + ")",
             ratio.median >= one.promised});
    }
}

}  // namespace

void buffers_gain(context& ctx, answer& result) {
    folder where;
    result.question["tables"].push_back(linger_table(linger_rows(ctx, where)));
    std::vector<gain> gains;
    measure_sqlite_gain(ctx, where, gains);
#if defined(CAIRN_BENCH_HAVE_POSTGRES)
    if (char const* const dsn = std::getenv("CAIRN_PG_DSN"))
        measure_postgres_gain(ctx, dsn, gains);
    else
        result.question["intro"].push_back(
            "No PostgreSQL: set CAIRN_PG_DSN, or run this by bench/with_postgres, which brings a server.");
#endif
    result.question["tables"].push_back(gain_table(gains));
    gain_figures(gains, result.figures);
}

}  // namespace cairn::bench
#endif
