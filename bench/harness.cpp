// SPDX-License-Identifier: MIT
#include "harness.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <limits>
#include <map>
#include <stdexcept>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

namespace cairn::bench {

summary summarise(std::vector<double> values) {
    if (values.empty()) return {};
    std::sort(values.begin(), values.end());
    auto const at = [&](double part) {
        double const place = part * static_cast<double>(values.size() - 1);
        auto const below = static_cast<std::size_t>(place);
        std::size_t const above = std::min(below + 1, values.size() - 1);
        return std::lerp(values[below], values[above], place - static_cast<double>(below));
    };
    return {at(0.5), at(0.25), at(0.75)};
}

double geometric_mean(std::vector<double> const& values) {
    double sum = 0;
    for (double const value : values) sum += std::log(value);
    return values.empty() ? 0 : std::exp(sum / static_cast<double>(values.size()));
}

std::size_t cell_result::at(std::string const& name) const {
    auto const found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) throw std::logic_error("no contestant named " + name);
    return static_cast<std::size_t>(found - names_.begin());
}

bool cell_result::has(std::string const& name) const {
    return std::find(names_.begin(), names_.end(), name) != names_.end();
}

summary cell_result::ratio(std::string const& slow, std::string const& fast) const {
    auto const& numerator = rounds_[at(slow)];
    auto const& denominator = rounds_[at(fast)];
    std::vector<double> ratios(numerator.size());
    for (std::size_t round = 0; round < ratios.size(); ++round)
        ratios[round] = numerator[round] / denominator[round];
    return summarise(std::move(ratios));
}

namespace {

/// Takes what Google Benchmark has measured instead of printing it.
class collector : public benchmark::BenchmarkReporter {
  public:
    bool ReportContext(Context const&) override { return true; }
    void ReportRuns(std::vector<Run> const& runs) override {
        for (Run const& run : runs)
            if (run.run_type == Run::RT_Iteration) {
                if (run.iterations == 0)
                    throw std::runtime_error(run.benchmark_name() + ": nothing was timed");
                seconds.push_back(run.real_accumulated_time / static_cast<double>(run.iterations));
            }
    }
    std::vector<double> seconds;  // per iteration, in the order of the contestants
};

}  // namespace

cell_result measure(context const& ctx, std::vector<contestant> const& contestants) {
    using clock = std::chrono::steady_clock;
    std::size_t const count = contestants.size();
    std::vector<std::string> names(count);
    std::vector<std::vector<double>> rounds(count);
    std::size_t window = 0;  // the same in a round for all

    benchmark::ClearRegisteredBenchmarks();
    for (std::size_t i = 0; i < count; ++i) {
        contestant const& one = contestants[i];
        names[i] = one.name;
        auto const prepare = [&one] {
            if (one.prepare) one.prepare();
        };
        prepare();
        benchmark::DoNotOptimize(one.run(0));
        prepare();
        auto const begin = clock::now();
        benchmark::DoNotOptimize(one.run(1));
        double const ms = one.seconds
                              ? 1e3 * one.seconds()
                              : std::chrono::duration<double, std::milli>(clock::now() - begin).count();
        auto const iterations = static_cast<benchmark::IterationCount>(
            std::clamp(std::ceil(ctx.milliseconds / std::max(ms, 1e-6)), 1.0, 1e6));
        auto* const registered =
            benchmark::RegisterBenchmark(one.name.c_str(), [&one, &window, prepare](benchmark::State& state) {
                std::size_t now = window;
                prepare();
                benchmark::DoNotOptimize(one.run(now++));  // warms the caches
                for (auto _ : state) {
                    if (one.prepare) {
                        state.PauseTiming();
                        one.prepare();
                        state.ResumeTiming();
                    }
                    benchmark::DoNotOptimize(one.run(now++));
                    if (one.seconds) state.SetIterationTime(one.seconds());
                }
            })->Iterations(iterations);
        if (one.seconds)
            registered->UseManualTime();
        else
            registered->UseRealTime();
    }
    for (std::size_t round = 0; round < ctx.rounds; ++round) {
        collector collected;
        window = 2 + round * 1'009;
        benchmark::RunSpecifiedBenchmarks(&collected);
        if (collected.seconds.size() != count) throw std::logic_error("a contestant was not timed");
        for (std::size_t i = 0; i < count; ++i)
            rounds[i].push_back(collected.seconds[i] * 1e9 / static_cast<double>(contestants[i].operations));
    }
    return {std::move(names), std::move(rounds)};
}

void pin_to_one_core() {
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    for (int core = CPU_SETSIZE - 1; core >= 0; --core) {
        auto const index = static_cast<std::size_t>(core);
        if (!CPU_ISSET(index, &allowed)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(index, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        return;
    }
#endif
}

every_core::every_core() {
#if defined(__linux__)
    cpu_set_t all;
    CPU_ZERO(&all);
    for (std::size_t core = 0; core < CPU_SETSIZE; ++core) CPU_SET(core, &all);
    (void)sched_setaffinity(0, sizeof all, &all);  // the kernel leaves out those that are not allowed
#endif
}

std::string number(double value) {
    if (!std::isfinite(value)) return "-";
    char text[32];
    double const size = std::abs(value);
    int const digits = size < 0.0995 ? 4 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    std::string grouped = text;
    if (digits == 0)
        for (std::size_t i = grouped.size(); i > 3 + (value < 0 ? 1U : 0U); i -= 3)
            grouped.insert(i - 3, ",");
    return grouped;
}

std::string count(double value) {
    std::string text = std::to_string(std::llround(value));
    for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
    return text;
}

void progress(std::string const& what) {
#if defined(__linux__)
    static bool const terminal = isatty(STDERR_FILENO) == 1;
#else
    static bool const terminal = false;
#endif
    static std::string last_stage;
    if (terminal) {
        std::cerr << "\r\033[K" << what << std::flush;
        return;
    }
    std::string const stage = what.substr(0, what.find(':'));  // a log file gets a line per question only
    if (stage != last_stage && !stage.empty()) std::cerr << stage << " ...\n";
    last_stage = stage;
}

void require_equal(std::uint64_t expected, std::uint64_t got, std::string const& who,
                   std::string const& where) {
    if (expected == got) return;
    throw std::runtime_error(who + " gives another answer than its reference on " + where +
                             ". No time was taken; please report this.");
}

void grid::column(std::string name, std::string role) {
    series_.push_back({std::move(name), std::move(role), {}});
}

void grid::add(double x, std::string const& name, summary value) {
    for (series& one : series_)
        if (one.name == name) one.points.push_back({x, value});
}

grid::series const* grid::find(std::string const& name) const {
    auto const found =
        std::find_if(series_.begin(), series_.end(), [&](series const& s) { return s.name == name; });
    return found == series_.end() ? nullptr : &*found;
}

nlohmann::json grid::table() const {
    std::map<double, nlohmann::json> rows;
    std::vector<series const*> shown;
    for (series const& one : series_)
        if (!one.points.empty()) shown.push_back(&one);
    nlohmann::json columns = nlohmann::json::array({x_label_});
    for (series const* one : shown) columns.push_back(one->name);
    for (series const* one : shown)
        for (point const& p : one->points) rows.try_emplace(p.x, nlohmann::json::array());
    for (auto& [x, row] : rows) {
        double best = std::numeric_limits<double>::infinity();
        row.push_back({{"text", count(x)}});
        for (series const* one : shown)
            for (point const& p : one->points)
                if (p.x == x && one->role != "reference") best = std::min(best, p.y.median);
        for (series const* one : shown) {
            nlohmann::json cell = {{"text", "-"}};
            for (point const& p : one->points)
                if (p.x == x) {
                    cell = {{"text", number(p.y.median)}};
                    if (p.y.high > p.y.low) cell["spread"] = number(p.y.low) + " to " + number(p.y.high);
                    if (p.y.median <= best && one->role != "reference") cell["winner"] = true;
                }
            row.push_back(std::move(cell));
        }
    }
    nlohmann::json body = nlohmann::json::array();
    for (auto& [x, row] : rows) body.push_back(std::move(row));
    return {{"id", id_}, {"title", title_}, {"unit", unit_}, {"columns", columns}, {"rows", body}};
}

nlohmann::json grid::chart(std::vector<std::string> why) const {
    nlohmann::json lines = nlohmann::json::array();
    for (series const& one : series_) {
        if (one.points.empty()) continue;
        nlohmann::json points = nlohmann::json::array();
        for (point const& p : one.points)
            points.push_back({{"x", p.x}, {"y", p.y.median}, {"lo", p.y.low}, {"hi", p.y.high}});
        std::string const drawn = one.role == "reference" ? "baseline" : one.role;
        lines.push_back({{"name", one.name}, {"role", drawn}, {"points", points}});
    }
    return {{"id", id_},
            {"title", title_},
            {"x", {{"label", x_label_}, {"scale", "log"}}},
            {"y", {{"label", unit_}, {"scale", "log"}}},
            {"series", lines},
            {"crossovers", crossovers_},
            {"why", why}};
}

void grid::crossover(std::string const& small_winner, std::string const& large_winner,
                     std::string const& things) {
    series const* const a = find(small_winner);
    series const* const b = find(large_winner);
    if (a == nullptr || b == nullptr || a->points.empty() || b->points.empty()) return;
    // The last size at which `small_winner` is not slower, among the sizes that both were measured at.
    std::vector<std::pair<point, point>> both;
    for (point const& p : a->points)
        for (point const& q : b->points)
            if (p.x == q.x) both.emplace_back(p, q);
    if (both.empty()) return;
    auto const lead = [](std::pair<point, point> const& at) {
        return std::log(at.first.y.median / at.second.y.median);
    };
    std::size_t last = both.size();
    for (std::size_t i = 0; i < both.size(); ++i)
        if (lead(both[i]) <= 0) last = i;
    if (last == both.size()) {
        sentence(small_winner + " is slower than " + large_winner + " at every size measured.");
    } else if (last + 1 == both.size()) {
        sentence(small_winner + " is not slower than " + large_winner +
                 " at the largest size both were measured at, " + count(both[last].first.x) + " " + things +
                 ".");
    } else {
        double const l0 = lead(both[last]);
        double const l1 = lead(both[last + 1]);
        double const part = l1 > l0 ? -l0 / (l1 - l0) : 0;
        auto const between = [&](double from, double to) {
            return std::exp(std::lerp(std::log(from), std::log(to), part));
        };
        double const x = between(both[last].first.x, both[last + 1].first.x);
        double const y = between(both[last].first.y.median, both[last + 1].first.y.median);
        std::string const text =
            large_winner + " overtakes " + small_winner + " at about " + count(x) + " " + things;
        crossovers_.push_back({{"x", x}, {"y", y}, {"text", text}});
        sentence(text + ".");
    }
}

}  // namespace cairn::bench
