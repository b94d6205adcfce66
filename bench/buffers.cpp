// SPDX-License-Identifier: MIT
// What should stand between producers and a slow sink, and what does each choice cost?
#include <cairn/batch_buffer.hpp>
#include <cairn/batcher.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "buffer_peers.hpp"
#include "buffer_runs.hpp"
#include "partner.hpp"
#include "questions.hpp"

#if defined(CAIRN_BENCH_HAVE_SQLITE)
#include "sinks/sqlite_sink.hpp"
#endif
#if defined(CAIRN_BENCH_HAVE_POSTGRES)
#include "sinks/postgres_sink.hpp"
#endif

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;
constexpr auto our_name = "cairn";

// ---- Flat out: how fast do events get through, if the sink costs nothing? ----

/// A buffer that lives from round to round, its producers, and its sink.
template <template <class, class> class Buffer, class Event>
class flat_out {
  public:
    flat_out(partner& other, buffer_settings const& settings)
        : other_(other),
          producers_(settings.producers),
          buffer_(std::make_unique<Buffer<Event, counting_sink>>(counting_sink{&to_}, settings)) {}

    static constexpr std::size_t events_a_run = 200'000;
    void run() {
        auto const push = [this](std::size_t producer, std::size_t n) {
            for (std::size_t i = 0; i < n; ++i)
                buffer_->push(producer, events<Event>::make(number_of(producer, sent_[producer]++)));
        };
        if (producers_ == 1)
            push(0, events_a_run);
        else
            other_.together([&] { push(1, events_a_run / 2); }, [&] { push(0, events_a_run / 2); });
        all_sent_ += events_a_run;
        buffer_->flush();
        // acquire: pairs with the release in receiver::take().
        until([this] { return to_.got.load(std::memory_order_acquire) == all_sent_; });
        if (to_.wrong != 0) throw std::runtime_error("events were lost, doubled or out of order");
    }

  private:
    partner& other_;
    std::size_t producers_;
    receiver to_;
    std::array<std::uint64_t, 2> sent_{};
    std::uint64_t all_sent_ = 0;
    std::unique_ptr<Buffer<Event, counting_sink>> buffer_;
};

template <template <class, class> class Buffer, class Event>
void join(std::vector<contestant>& contestants, partner& other, buffer_settings const& settings) {
    auto const made = std::make_shared<flat_out<Buffer, Event>>(other, settings);
    contestants.push_back(
        {Buffer<Event, counting_sink>::name, made->events_a_run, [made](std::size_t window) {
             made->run();
             return std::uint64_t{window};
         }});
}

template <class Event>
[[nodiscard]] std::vector<contestant> contest(partner& other, std::size_t producers) {
    // No linger, so the last events of a run do not wait for company that does not come.
    buffer_settings const settings{.batch = 1'000, .capacity = 4'000, .producers = producers, .linger = 0ns};
    std::vector<contestant> all;
    join<by_batcher, Event>(all, other, settings);
    join<by_shared_batcher, Event>(all, other, settings);
    join<by_deque, Event>(all, other, settings);
#if defined(CAIRN_BENCH_HAVE_CONCURRENTQUEUE)
    join<by_moodycamel, Event>(all, other, settings);
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
    join<by_tbb, Event>(all, other, settings);
#endif
#if defined(CAIRN_BENCH_HAVE_SPDLOG)
    join<by_spdlog, Event>(all, other, settings);
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST)
    if (producers == 1) join<by_boost, Event>(all, other, settings);
#endif
    join<by_single, Event>(all, other, settings);
    join<by_double, Event>(all, other, settings);
    join<by_copy_buffer, Event>(all, other, settings);
    return all;
}

struct flat_cell {
    std::string name;
    double bytes;
    std::size_t producers;
    cell_result result;
};

[[nodiscard]] std::vector<flat_cell> measure_flat_out(context const& ctx) {
    std::vector<flat_cell> cells;
    partner other;
    auto const measure_event = [&]<class Event>(std::type_identity<Event>, std::string const& name) {
        for (std::size_t const producers : {std::size_t{1}, std::size_t{2}}) {
            progress("buffers: flat out, " + name + ", producers: " + std::to_string(producers));
            cells.push_back({name, std::is_same_v<Event, std::string> ? 0.0 : double{sizeof(Event)},
                             producers, measure(ctx, contest<Event>(other, producers))});
        }
    };
    if (!ctx.quick) measure_event(std::type_identity<event<16>>{}, "16 bytes");
    measure_event(std::type_identity<event<64>>{}, "64 bytes");
    if (!ctx.quick) {
        measure_event(std::type_identity<event<256>>{}, "256 bytes");
        measure_event(std::type_identity<event<1'024>>{}, "1,024 bytes");
        measure_event(std::type_identity<std::string>{}, "std::string, 48");
    }
    return cells;
}

[[nodiscard]] nlohmann::json flat_table(std::vector<flat_cell> const& cells, std::size_t producers) {
    nlohmann::json columns = {"event", "cairn, ns"}, rows = nlohmann::json::array();
    for (flat_cell const& at : cells) {
        if (at.producers != producers) continue;
        nlohmann::json row = {{{"text", at.name}}, {{"text", number(at.result.of(our_name).median)}}};
        for (auto const& name : at.result.names()) {
            if (name == our_name) continue;
            if (rows.empty()) columns.push_back(name + ", x");
            summary const ratio = at.result.ratio(name, our_name);
            row.push_back({{"text", number(ratio.median)},
                           {"spread", number(ratio.low) + " to " + number(ratio.high)}});
        }
        rows.push_back(row);
    }
    return {{"id", "buffers-flat-out-" + std::to_string(producers)},
            {"title", "Flat out, a sink that only counts, producers: " + std::to_string(producers)},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}

// ---- At a pace, into a real database. ----

#if defined(CAIRN_BENCH_HAVE_SQLITE)

/// A folder for databases, gone at the end.
class folder {
  public:
    folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "cairn-compare-XXXXXX").string();
        if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no folder for databases");
        path_ = pattern;
    }
    folder(folder const&) = delete;
    folder& operator=(folder const&) = delete;
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    /// A name that no file has yet.
    [[nodiscard]] std::string file() { return (path_ / ("db" + std::to_string(++files_))).string(); }

  private:
    std::filesystem::path path_;
    int files_ = 0;
};

template <class Event>
struct row_of {
    [[nodiscard]] std::tuple<std::int64_t, std::span<std::byte const>> operator()(Event const& e) const {
        return {static_cast<std::int64_t>(events<Event>::number(e)), events<Event>::body(e)};
    }
};
[[nodiscard]] sinks::table event_table() {
    return {.name = "events", .columns = {"number", "body"}, .key = 0};
}
template <class Event>
[[nodiscard]] sinks::sqlite_sink<Event, row_of<Event>> sqlite(std::string const& path,
                                                              sinks::synchronous sync) {
    sinks::sqlite_options options;
    options.sync = sync;
    return {path, event_table(), row_of<Event>{}, options};
}

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
                 all_forms<event<64>>(where, settings, {rate, ctx.quick ? 0.2 : 1.0}), ctx.quick ? 3 : 7);
    }
    return rows;
}

// ---- Linger, and what batches are worth. ----

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
    single.run("CREATE TEMPORARY TABLE one_by_one (number bigint NOT NULL, body bytea NOT NULL)");
    sinks::table to = event_table();
    to.name = "cairn_compare_events";
    single.run("DROP TABLE IF EXISTS cairn_compare_events");
    sinks::postgres_sink<event<64>, row_of<event<64>>> copied(dsn, to, row_of<event<64>>{});
    // A row as text, in a statement and a transaction of its own.
    auto inserted = [&single](std::span<event<64>> rows) {
        std::string body;
        for (event<64> const& row : rows) {
            body.assign(2 * row.rest.size(), '0');
            single.run("INSERT INTO one_by_one VALUES (" + std::to_string(row.number) + ", '\\x" + body +
                       "')");
        }
    };
    for (int round = 0; round < (ctx.quick ? 3 : 7); ++round) {
        progress("buffers: " + one.what);
        one.single.push_back(rows_a_second(inserted, 1, seconds));
        one.batched.push_back(rows_a_second(copied, 10'000, seconds));
    }
    single.run("DROP TABLE IF EXISTS cairn_compare_events");
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

#endif  // CAIRN_BENCH_HAVE_SQLITE

// ---- The stall law. ----

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
    double predicted;  // ms
    summary observed;  // ms, the longest response of a run
};
constexpr std::size_t stall_batch = 1'000;
constexpr double stall_rate = 100'000, stall_ms = 101.6;

template <template <class, class> class Buffer>
void add_stall(std::vector<stall_row>& rows, std::vector<std::function<double()>>& runs,
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
               }).response.most() /
               1e6;
    });
}
[[nodiscard]] std::vector<stall_row> stall_rows(context const& ctx) {
    std::vector<stall_row> rows;
    std::vector<std::function<double()>> runs;
    add_stall<by_single>(rows, runs, stall_batch);
    add_stall<by_double>(rows, runs, 2 * stall_batch);
    add_stall<by_copy_buffer>(rows, runs, 2 * stall_batch);
    for (std::size_t const n : {2U, 3U, 4U, 8U, 12U}) add_stall<by_batcher>(rows, runs, n * stall_batch);
    std::vector<std::vector<double>> observed(rows.size());
    for (int round = 0; round < (ctx.quick ? 3 : 5); ++round)
        for (std::size_t i = 0; i < rows.size(); ++i) {
            progress("buffers: the stall law, " + rows[i].name);
            observed[i].push_back(runs[i]());
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

// ---- Memory. ----

/// Peak memory beyond that of the events of a full batcher, in bytes.
[[nodiscard]] double memory_overhead() {
    constexpr std::size_t capacity = 50'000;
    using big = event<1'024>;
    auto const result = in_process([&] {
        struct slow_sink {
            void operator()(std::span<big>) const { std::this_thread::sleep_for(1ms); }
        } sink;
        // Faster than the sink: the buffer fills up.
        return run_paced<by_batcher, big>(
            sink, {.batch = 1'000, .capacity = capacity, .producers = 1, .linger = 50ms}, {1'500'000, 0.2});
    });
    return result.peak - double{capacity} * sizeof(big);
}

// ---- A sink that fails. ----

/// Fails in 30 % of its calls: before it has taken the batch, or after, so that the batch comes again.
struct failing_sink {
    std::vector<std::vector<bool>>* taken;  // by producer and number: the key of an idempotent table
    std::uint64_t* doubled;
    std::uint64_t* out_of_order;
    std::vector<std::uint64_t>* last;
    std::uint64_t random = 88'172'645'463'325'252U;

    void operator()(std::span<event<16>> batch) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        auto const chance = random % 100;
        if (chance < 15) throw std::runtime_error("before the commit");
        bool const again = contains(batch.front());
        for (auto const& e : batch) {
            auto const producer = static_cast<std::size_t>(e.number >> 48);
            std::uint64_t const i = e.number & ((std::uint64_t{1} << 48) - 1);
            if (contains(e)) {
                *doubled += !again;  // a batch that comes again comes whole
                continue;
            }
            (*taken)[producer][i] = true;
            *out_of_order += i != (*last)[producer]++;
        }
        if (chance < 30) throw std::runtime_error("after the commit");
    }
    [[nodiscard]] bool contains(event<16> const& e) const {
        return (*taken)[static_cast<std::size_t>(e.number >> 48)][e.number & ((std::uint64_t{1} << 48) - 1)];
    }
};
struct failing_result {
    std::uint64_t sent, lost, doubled, out_of_order, retries;
};
[[nodiscard]] failing_result run_failing(context const& ctx) {
    progress("buffers: a sink that fails");
    constexpr std::size_t producers = 4;
    std::uint64_t const each = ctx.quick ? 50'000 : 2'500'000;
    std::vector<std::vector<bool>> taken(producers, std::vector<bool>(each));
    std::vector<std::uint64_t> last(producers);
    failing_result result{producers * each, 0, 0, 0, 0};
    {
        batch_options options;
        options.retry.attempts = 1'000'000;  // never a dead letter
        options.retry.first = 10us;
        options.retry.longest = 100us;
        options.linger = 0ns;
        batcher<event<16>, failing_sink> buffer(
            failing_sink{&taken, &result.doubled, &result.out_of_order, &last}, options);
        std::vector<std::thread> threads;
        for (std::size_t p = 0; p < producers; ++p)
            threads.emplace_back([&, p, lane = buffer.make_producer()]() mutable {
                for (std::uint64_t i = 0; i < each; ++i)
                    if (lane.push(events<event<16>>::make(number_of(p, i))) != push_result::ok)
                        std::terminate();
            });
        for (auto& one : threads) one.join();
        (void)buffer.close();
        result.retries = buffer.stats().retries;
    }
    for (auto const& one : taken)
        result.lost += static_cast<std::uint64_t>(std::count(one.begin(), one.end(), false));
    return result;
}

// ---- What is promised. ----

void flat_figures(std::vector<flat_cell> const& cells, std::vector<figure>& figures) {
    struct promise {
        std::size_t producers;
        char const* peer;
        double times;
    };
    for (promise const& one :
         {promise{2, "moodycamel", 2}, promise{2, "deque + cv", 5}, promise{2, "tbb bounded", 8},
          promise{2, "spdlog's queue", 20}, promise{1, "moodycamel", 2.5}, promise{1, "deque + cv", 3},
          promise{1, "tbb bounded", 4}})
        for (flat_cell const& at : cells) {
            if (at.producers != one.producers || at.bytes != 64 || !at.result.has(one.peer)) continue;
            summary const ratio = at.result.ratio(one.peer, our_name);
            figures.push_back(
                {"batcher flat out, 64 bytes, producers: " + std::to_string(one.producers) + ", vs " +
                     one.peer,
                 "at least " + number(one.times) + " x",
                 number(ratio.median) + " x (" + number(ratio.low) + " to " + number(ratio.high) + ")",
                 ratio.median >= one.times});
        }
}

#if defined(CAIRN_BENCH_HAVE_SQLITE)
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
#endif

void stall_figures(std::vector<stall_row> const& rows, std::vector<figure>& figures) {
    double worst = 0, idle = 0;
    std::string where;
    for (stall_row const& row : rows) {
        if (row.predicted == 0) {
            idle = row.observed.median;
        } else if (double const over = row.observed.median - row.predicted; where.empty() || over > worst) {
            worst = over;
            where = row.name + ", " + count(static_cast<double>(row.capacity));
        }
    }
    figures.push_back({"the stall law: longest response beyond the prediction", "at most 2.00 ms",
                       number(worst) + " ms in the worst row (" + where + ")", worst <= 2});
    figures.push_back({"… with a capacity of rate x stall", "no pause (1 ms is the machine's)",
                       number(idle) + " ms", idle <= 1});
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

[[nodiscard]] nlohmann::json flat_chart(std::vector<flat_cell> const& cells) {
    grid chart("buffers-flat-out", "Flat out, one producer, a sink that only counts", "ns per event",
               "bytes an event");
    for (flat_cell const& at : cells) {
        if (at.producers != 1 || at.bytes == 0) continue;
        if (&at == &cells.front())
            for (auto const& name : at.result.names())
                chart.column(name, name.starts_with(our_name)                               ? "ours"
                                   : name == "single" || name == "double" || name == "copy" ? "baseline"
                                                                                            : "peer");
        for (auto const& name : at.result.names()) chart.add(at.bytes, name, at.result.of(name));
    }
    return chart.chart(
        {"Each event crosses from the producer's core to the flusher's, but for \"single\", whose "
         "sink runs in the producer. A lane moves a line and a count; a shared queue also moves "
         "its lock or its counters at each event."});
}

}  // namespace

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
    auto const flat = measure_flat_out(ctx);
    question["tables"].push_back(flat_table(flat, 1));
    question["tables"].push_back(flat_table(flat, 2));
    question["charts"].push_back(flat_chart(flat));
    flat_figures(flat, result.figures);
#if defined(CAIRN_BENCH_HAVE_SQLITE)
    {
        folder where;
        question["tables"].push_back(paced_table(
            "buffers-lecture", "The lecture's table, measured: 100,000 events a second into SQLite",
            lecture_rows(ctx, where)));
        auto const contest = contest_rows(ctx, where);
        question["tables"].push_back(
            paced_table("buffers-pace", "All of them: 64 bytes, batches of 1,000, into SQLite", contest));
        paced_figures(contest, result.figures);
        question["tables"].push_back(linger_table(linger_rows(ctx, where)));
        std::vector<gain> gains;
        measure_sqlite_gain(ctx, where, gains);
#if defined(CAIRN_BENCH_HAVE_POSTGRES)
        if (char const* const dsn = std::getenv("CAIRN_PG_DSN"))
            measure_postgres_gain(ctx, dsn, gains);
        else
            question["intro"].push_back(
                "No PostgreSQL: set CAIRN_PG_DSN, or run this by bench/with_postgres, which brings a "
                "server.");
#endif
        question["tables"].push_back(gain_table(gains));
        gain_figures(gains, result.figures);
    }
#else
    question["intro"].push_back("SQLite is not installed: nothing was measured at a pace.");
#endif
    auto const stalls = stall_rows(ctx);
    question["tables"].push_back(stall_table(stalls));
    question["charts"].push_back(pause_chart(stalls));
    stall_figures(stalls, result.figures);
    double const overhead = memory_overhead();
    result.figures.push_back({"batcher, peak memory beyond 50,000 events of 1,024 bytes", "at most 1.00 MB",
                              number(overhead / 1e6) + " MB", overhead <= 1e6});
    failing_result const failing = run_failing(ctx);
    ctx.checked += failing.sent;
    result.figures.push_back({"a sink that fails in 30 % of calls, 4 producers: lost, doubled, out of order",
                              "0 of " + count(static_cast<double>(failing.sent)),
                              count(static_cast<double>(failing.lost)) + ", " +
                                  count(static_cast<double>(failing.doubled)) + ", " +
                                  count(static_cast<double>(failing.out_of_order)) + " after " +
                                  count(static_cast<double>(failing.retries)) + " retries",
                              failing.lost + failing.doubled + failing.out_of_order == 0});
    return result;
}

}  // namespace cairn::bench
