// SPDX-License-Identifier: MIT
// How cairn-compare measures: all contestants of a cell in one process, round after round, A B C A B C,
// each round on fresh queries. Google Benchmark times each run; the statistics are over the rounds.
//
// Why rounds: a virtual machine's cores are shared, and a neighbour may slow a whole second down. Two
// contestants that run side by side are slowed alike, so the ratio of a round holds where the absolute
// times do not. What is reported is the median of the ratios, never the ratio of two separate medians.
// Why fresh queries: a branch predictor of today learns a repeated sequence of 16,000 queries by heart.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace cairn::bench {

/// What the user asked for, and what all questions share.
struct context {
    std::vector<std::string> keys;   // the user's, or the system's words, or generated
    std::vector<std::string> nodes;  // the user's, or node-0 … node-99
    bool user_nodes = false;
    bool quick = false;
    std::size_t rounds = 31;
    double milliseconds = 2.0;  // the length of one timed run
    std::uint64_t checked = 0;  // answers compared before anything was timed
};

/// Median and quartiles.
struct summary {
    double median = 0;
    double low = 0;
    double high = 0;
};
[[nodiscard]] summary summarise(std::vector<double> values);
[[nodiscard]] double geometric_mean(std::vector<double> const& values);

/// One contestant of a cell. `run(window, count)` does `count` operations on the queries of a window and
/// returns a value that depends on all of them; windows of different numbers share no queries.
struct contestant {
    std::string name;
    std::size_t operations;  // per call of run
    std::function<std::uint64_t(std::size_t window)> run;
    std::function<void()> prepare = {};  // before each call of run, not timed
    /// For work in another process: how many seconds of a call of run count. Else the call is timed.
    std::function<double()> seconds = {};
};

/// The result of a cell: nanoseconds per operation, one value a round, for each contestant.
class cell_result {
  public:
    cell_result(std::vector<std::string> names, std::vector<std::vector<double>> rounds)
        : names_(std::move(names)), rounds_(std::move(rounds)) {}

    [[nodiscard]] std::vector<std::string> const& names() const noexcept { return names_; }
    [[nodiscard]] bool has(std::string const& name) const;
    [[nodiscard]] summary of(std::string const& name) const { return summarise(rounds_[at(name)]); }
    /// The median over the rounds of slow / fast: how many times faster `fast` was.
    [[nodiscard]] summary ratio(std::string const& slow, std::string const& fast) const;

  private:
    [[nodiscard]] std::size_t at(std::string const& name) const;
    std::vector<std::string> names_;
    std::vector<std::vector<double>> rounds_;
};

/// Times all contestants against each other. Each run lasts about `ctx.milliseconds`, after one untimed
/// call on other queries.
[[nodiscard]] cell_result measure(context const& ctx, std::vector<contestant> const& contestants);

/// Binds this thread to one core: a migration in the middle of a round would hit one contestant only.
void pin_to_one_core();

/// Lets this thread, and those that it starts, run on every core, until it ends: then it is bound again.
class every_core {
  public:
    every_core();
    every_core(every_core const&) = delete;
    every_core& operator=(every_core const&) = delete;
    ~every_core() { pin_to_one_core(); }
};

/// "1.23", "45.6", "789", "1,234": three digits that count.
[[nodiscard]] std::string number(double value);

/// "7", "1,234": a number of things, rounded.
[[nodiscard]] std::string count(double value);

/// Ends the line of progress on standard error, if it is a terminal or not.
void progress(std::string const& what);

/// Throws if contestants disagree: no time is worth anything then.
void require_equal(std::uint64_t expected, std::uint64_t got, std::string const& who,
                   std::string const& where);

/// Builds a table and a chart from the same cells: rows are x values, columns are contestants.
class grid {
  public:
    grid(std::string id, std::string title, std::string unit, std::string x_label)
        : id_(std::move(id)),
          title_(std::move(title)),
          unit_(std::move(unit)),
          x_label_(std::move(x_label)) {}

    /// Declares a column. `role` is "ours", "peer", "baseline", or "reference": a line to compare with that
    /// takes no part in the contest.
    void column(std::string name, std::string role);
    /// Adds a value; the same x as before stays in the same row.
    void add(double x, std::string const& name, summary value);

    [[nodiscard]] nlohmann::json table() const;
    [[nodiscard]] nlohmann::json chart(std::vector<std::string> why) const;
    /// "linear is faster than standard up to about 93 points": where the two curves cross, by
    /// interpolation between neighbouring sizes on logarithmic axes.
    void crossover(std::string const& small_winner, std::string const& large_winner,
                   std::string const& things);
    [[nodiscard]] std::vector<std::string> const& sentences() const noexcept { return sentences_; }
    void sentence(std::string text) { sentences_.push_back(std::move(text)); }

  private:
    struct point {
        double x;
        summary y;
    };
    struct series {
        std::string name;
        std::string role;
        std::vector<point> points;
    };
    [[nodiscard]] series const* find(std::string const& name) const;

    std::string id_, title_, unit_, x_label_;
    std::vector<series> series_;
    nlohmann::json crossovers_ = nlohmann::json::array();
    std::vector<std::string> sentences_;
};

}  // namespace cairn::bench
