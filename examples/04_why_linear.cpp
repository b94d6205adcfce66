// SPDX-License-Identifier: MIT
// Chapter 4. "Linear search often beats binary search on small rings." Does it? Where, and why?
//
// A ring is a sorted array, and each key needs the first position at or after its hash. A lecture searches
// it from the left, and the reason that is usually given is the cache: a small array is read in order. But a
// small array is in the first-level cache whatever the order. This program times four searches on fresh
// queries, breaks its own benchmark by asking the same queries again, and counts what the cost really is:
// branches that the CPU could not predict. No claim about time is asserted: the sentences below are computed
// from this run.
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

// ---- A predictor in four lines, to count wrong guesses instead of guessing at them. ----

/// The two-bit counter, the textbook predictor of one branch: it changes its mind after two surprises. A
/// real CPU also remembers the path that led here, but no path foretells a random key.
struct predictor {
    int state = 0;  // 0, 1: guesses no; 2, 3: guesses yes
    int wrong = 0;
    bool operator()(bool taken) {
        wrong += (state >= 2) != taken;
        state = std::clamp(state + (taken ? 1 : -1), 0, 3);
        return taken;
    }
};

/// Wrong guesses per lookup, of a scan that stops at the answer and of a binary search that branches.
struct wrong_guesses {
    double linear;
    double binary;
};

wrong_guesses count_wrong(std::vector<position> const& circle, std::vector<position> const& keys) {
    predictor scan;
    predictor bisect;
    for (position const key : keys) {
        std::size_t rank = 0;
        while (rank < circle.size() && scan(circle[rank] < key)) ++rank;
        std::size_t first = 0;
        for (std::size_t left = circle.size(); left > 0;) {
            std::size_t const half = left / 2;
            if (bisect(circle[first + half] < key)) {
                first += half + 1;
                left -= half + 1;
            } else {
                left = half;
            }
        }
    }
    auto const lookups = static_cast<double>(keys.size());
    return {scan.wrong / lookups, bisect.wrong / lookups};
}

}  // namespace

int main() {
    auto const queries = random_positions(70'000, 1);
    std::cout << std::fixed << std::setprecision(1);

    std::cout
        << "1. Nanoseconds per lookup, fresh queries, in this build on this machine. linear: from the left;\n"
        << "   standard: std::lower_bound; binary: the same without branches; indexed: see below\n"
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

    std::cout << "\n2. The same 1,000 queries over and over, against fresh ones\n";
    auto circle = random_positions(1024, 1024);
    std::sort(circle.begin(), circle.end());
    cairn::standard::index<position> const standard{circle};
    double const fresh = time_fresh(standard, queries);
    double const repeated = time_repeated(standard, queries);
    std::cout << "  std::lower_bound, 1,024 points: fresh " << fresh << " ns, repeated " << repeated
              << " ns, " << fresh / repeated << " times as fast\n";
    // Half as fast again is far beyond noise. Below that, this build has no branch to learn: clang makes
    // conditional moves of std::lower_bound, g++ makes branches, and without optimisation either is buried.
    if (fresh > 1.5 * repeated)
        std::cout
            << "  Same positions, same instructions: what is gone is the waiting for wrong guesses. The\n"
               "  predictor has learned the queries by heart. A benchmark that repeats its queries\n"
               "  measures this and not your server.\n";
    else
        std::cout
            << "  No great difference: in this build little of the time is spent on wrong guesses. Build\n"
               "  with g++ -O2 to see the other case.\n";

    std::cout << "\n3. Wrong guesses per lookup, counted with the textbook predictor (not timed)\n"
                 "    points    linear scan    binary with branches    log2(n) / 2\n";
    bool once = true;
    bool every_second = true;
    std::vector<position> const counted(queries.begin(), queries.begin() + 2000);
    for (std::size_t const n : {16U, 64U, 256U, 1024U}) {
        auto points = random_positions(n, n);
        std::sort(points.begin(), points.end());
        auto const wrong = count_wrong(points, counted);
        double const theory = std::log2(static_cast<double>(n)) / 2;
        std::cout << std::setprecision(2) << std::setw(10) << n << std::setw(15) << wrong.linear
                  << std::setw(24) << wrong.binary << std::setw(15) << theory << '\n';
        once = once && wrong.linear < 1.3;
        every_second = every_second && wrong.binary > 0.7 * theory && wrong.binary < 1.3 * theory;
    }
    check(once, "a scan guesses wrong about once, at its end");
    check(every_second, "a search with branches guesses wrong at every second step");
    std::cout << std::setprecision(1)
              << "  A wrong guess costs a CPU some 15 to 20 cycles, as much as 15 compares. So the scan can\n"
                 "  afford many compares for each guess that it saves. The cache has no part in it: 256\n"
                 "  positions are 1 KiB. Take the branch out of the binary search, and the scan has nothing\n"
                 "  left to win by: compare the columns linear and binary above, in an optimised build.\n"
              << "  indexed does not search: it computes where to look, and has neither steps nor guesses\n"
                 "  that grow with n. In this run it took "
              << small_indexed << " ns at 4 points and " << large_indexed << " ns at 16,384.\n";

    // Its cells are a power of two, so the sizes of one doubling show all that there is.
    double least = 1e9;
    double most = 0;
    for (std::size_t n = 1'000; n <= 2'000; n += 20) {
        auto points = random_positions(n, n);
        std::sort(points.begin(), points.end());
        cairn::indexed::index<position> const index{points};
        double const bytes = static_cast<double>(index.hot_bytes()) / static_cast<double>(n);
        least = std::min(least, bytes);
        most = std::max(most, bytes);
    }
    std::cout << "\n4. What indexed costs: " << least << " to " << most
              << " bytes a point, for 1,000 to 2,000 points\n";
    check(least > 4.5 && most < 10.5, "5 to 10 bytes a point");

    std::cout
        << "\nThe trade-off: linear needs no index and no thought; binary needs no memory; indexed needs\n"
           "memory, and positions that are hashes. cairn-compare lookup draws the curves for your machine.\n"
           "Which server has a key is now answered, in some nanoseconds. How a request gets from the thread\n"
           "that takes it to the thread that works on it is chapter 5.\n";
    // Exercises (answers: README.md):
    // 1. Build this file with -O0, -O2 and -O3, and with another compiler. Which columns change, and why?
    // 2. Sort the queries of each pass before timing. Which strategy gains most? Is that a fair picture of a
    //    server?
    // 3. Give all points, and the queries, positions below 2^16, so that they share one bucket. What does
    //    indexed do then?
    return failures == 0 ? 0 : 1;
}
