// SPDX-License-Identifier: MIT
// Chapter 3. "Linear search often beats binary search on small rings." Does it? Where, and why?
//
// The reason that is usually given is the cache: a small array is read in order. But a small array is in
// the first-level cache whatever the order. This program times four searches on fresh queries, shows what
// happens if the queries are not fresh, and lets the numbers say what the cost is: a branch that the CPU
// could not predict. No claim about time is asserted: the sentences below are computed from this run.
#include <cairn/lookup.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <random>
#include <string>
#include <vector>

namespace {

using position = std::uint32_t;

int failures = 0;

void check(bool holds, char const* claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

std::size_t volatile sink;  // what is not used is not computed

std::vector<position> random_positions(std::size_t n, std::uint64_t seed) {
    std::mt19937_64 random{seed};
    std::vector<position> positions(n);
    for (position& p : positions) p = static_cast<position>(random() >> 32);
    return positions;
}

/// Nanoseconds per lookup: the best of seven passes, each over queries that were not asked before.
template <class Index>
double time_fresh(Index const& index, std::vector<position> const& queries) {
    std::size_t const part = queries.size() / 7;
    double best = 1e9;
    for (std::size_t pass = 0; pass < 7; ++pass) {
        auto const begin = std::chrono::steady_clock::now();
        std::size_t sum = 0;
        for (std::size_t i = pass * part; i < (pass + 1) * part; ++i) sum += index.successor(queries[i]);
        sink = sum;
        std::chrono::duration<double, std::nano> const took = std::chrono::steady_clock::now() - begin;
        best = std::min(best, took.count() / static_cast<double>(part));
    }
    return best;
}

/// The same, but a thousand queries again and again.
template <class Index>
double time_repeated(Index const& index, std::vector<position> const& queries) {
    double best = 1e9;
    for (int pass = 0; pass < 60; ++pass) {
        auto const begin = std::chrono::steady_clock::now();
        std::size_t sum = 0;
        for (std::size_t i = 0; i < 1000; ++i) sum += index.successor(queries[i]);
        sink = sum;
        std::chrono::duration<double, std::nano> const took = std::chrono::steady_clock::now() - begin;
        best = std::min(best, took.count() / 1000);
    }
    return best;
}

}  // namespace

int main() {
    auto const queries = random_positions(70'000, 1);
    std::cout << std::fixed << std::setprecision(1);

    std::cout << "1. Nanoseconds per lookup, fresh queries, in this build on this machine\n"
              << "    points    linear  standard    binary   indexed\n";
    std::size_t linear_wins_to = 0;
    std::size_t standard_wins_from = 0;
    std::size_t mistakes = 0;
    double small_indexed = 0;
    double large_indexed = 0;
    for (std::size_t const n : {4U, 16U, 64U, 128U, 256U, 1024U, 16384U}) {
        auto circle = random_positions(n, n);
        std::sort(circle.begin(), circle.end());
        cairn::linear::index<position> const linear{circle};
        cairn::standard::index<position> const standard{circle};
        cairn::binary::index<position> const binary{circle};
        cairn::indexed::index<position> const indexed{circle};
        for (std::size_t i = 0; i < 2000; ++i) {  // answers first, then times
            std::size_t const expected = linear.successor(queries[i]);
            mistakes += standard.successor(queries[i]) != expected;
            mistakes += binary.successor(queries[i]) != expected;
            mistakes += indexed.successor(queries[i]) != expected;
        }
        bool const short_enough = n <= 1024;  // beyond that a linear scan only takes patience
        double const by_linear = short_enough ? time_fresh(linear, queries) : std::nan("");
        double const by_standard = time_fresh(standard, queries);
        double const by_indexed = time_fresh(indexed, queries);
        std::cout << std::setw(10) << n << std::setw(10);
        if (short_enough)
            std::cout << by_linear;
        else
            std::cout << "-";
        std::cout << std::setw(10) << by_standard << std::setw(10) << time_fresh(binary, queries)
                  << std::setw(10) << by_indexed << '\n';
        if (short_enough && by_linear < by_standard) linear_wins_to = n;
        if (short_enough && by_linear >= by_standard && standard_wins_from == 0) standard_wins_from = n;
        if (n == 4) small_indexed = by_indexed;
        large_indexed = by_indexed;
    }
    check(mistakes == 0, "all four give the same answer, every time");
    if (linear_wins_to != 0)
        std::cout << "  In this run linear beat std::lower_bound up to " << linear_wins_to << " points";
    else
        std::cout << "  In this run linear beat std::lower_bound at no size";
    if (standard_wins_from != 0) std::cout << " and lost from " << standard_wins_from << " on";
    std::cout << ".\n";

    std::cout << "\n2. The same 1,000 queries over and over: the branch predictor learns them by heart\n";
    auto circle = random_positions(1024, 1024);
    std::sort(circle.begin(), circle.end());
    cairn::standard::index<position> const standard{circle};
    double const fresh = time_fresh(standard, queries);
    double const repeated = time_repeated(standard, queries);
    std::cout
        << "  std::lower_bound, 1,024 points: fresh " << fresh << " ns, repeated " << repeated << " ns, "
        << fresh / repeated << " times as fast\n"
        << "  Nothing else has changed: same positions, same cache, same instructions. What is gone is the\n"
           "  waiting for wrong guesses. A benchmark that repeats its queries measures this and not your "
           "server.\n";

    std::cout
        << "\n3. What that says\n"
           "  A linear scan guesses wrong once, at its end. A binary search with branches guesses wrong at "
           "every\n"
           "  second step: log2(n) / 2 times. A wrong guess costs some 15 to 20 cycles, as much as 15 "
           "compares.\n"
           "  That is the whole secret of the small ring. Take the branch out (binary), and it is gone.\n"
        << "  indexed does not search: it computes. From 4 to 16,384 points it went from " << small_indexed
        << " to " << large_indexed << " ns.\n";

    std::cout << "\nThe trade-off: linear needs no index and no thought; binary needs no memory; indexed "
                 "needs 5 to 10\n"
                 "bytes a point and positions that are hashes. cairn-compare lookup draws the curves for "
                 "your machine.\n";
    // Exercises:
    // 1. Build this file with -O0, -O2 and -O3, and with another compiler. Which columns change, and why?
    // 2. Sort the queries before timing. Which strategy gains most? Is that a fair picture of a server?
    // 3. Give all points positions below 2^16, so that they share one bucket. What does `indexed` do then?
    return failures == 0 ? 0 : 1;
}
