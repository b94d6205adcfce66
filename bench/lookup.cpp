// SPDX-License-Identifier: MIT
// Which lookup strategy wins on a sorted circle, at what size, and why?
//
// Each strategy gets the same positions and the same queries: hashes of the user's keys, drawn at random
// with replacement, 4 million of them, so that no sequence comes twice within a cell. Throughput: the
// queries are independent, the CPU may overlap them. Latency: each query depends on the last answer.
#include <cairn/hash.hpp>
#include <cairn/lookup.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#if defined(CAIRN_BENCH_HAVE_ABSL)
#include <absl/container/btree_map.h>
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST)
#include <boost/container/flat_map.hpp>
#endif

#include "questions.hpp"

namespace cairn::bench {
namespace {

/// The lecture's ring: an array of structures, each with the name of its node, searched from the front.
struct linear_aos {
    static constexpr std::string_view name = "linear_aos";
    template <class Position>
    class index {
      public:
        explicit index(std::vector<Position> const& sorted) {
            for (Position const p : sorted) points_.push_back({"node", p});
        }
        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            for (std::size_t i = 0; i < points_.size(); ++i)
                if (points_[i].position >= h) return i;
            return 0;
        }

      private:
        struct point {
            std::string node;
            Position position;
        };
        std::vector<point> points_;
    };
};

/// An ordered map of somebody else's as a lookup: position -> rank, by lower_bound.
template <class Map, class Position>
class map_index {
  public:
    explicit map_index(std::vector<Position> const& sorted) {
        for (std::size_t i = 0; i < sorted.size(); ++i)
            ranks_.emplace_hint(ranks_.end(), sorted[i], static_cast<std::uint32_t>(i));
    }
    [[nodiscard]] std::size_t successor(Position h) const noexcept {
        auto const found = ranks_.lower_bound(h);
        return found == ranks_.end() ? 0 : found->second;
    }

  private:
    Map ranks_;
};

#if defined(CAIRN_BENCH_HAVE_ABSL)
struct absl_btree {
    static constexpr std::string_view name = "absl::btree_map";
    template <class Position>
    using index = map_index<absl::btree_map<Position, std::uint32_t>, Position>;
};
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST)
struct boost_flat {
    static constexpr std::string_view name = "boost::flat_map";
    template <class Position>
    using index = map_index<boost::container::flat_map<Position, std::uint32_t>, Position>;
};
#endif

constexpr std::size_t window_size = 1'024;
constexpr std::size_t query_count = std::size_t{1} << 22;

template <class Position>
class query_stream {
  public:
    explicit query_stream(context const& ctx) : queries_(query_count) {
        xxh3 const hash;
        std::mt19937_64 random{7};
        for (Position& query : queries_)
            query = static_cast<Position>(hash(ctx.keys[random() % ctx.keys.size()]) >> shift);
        // Few keys are few different queries; the low bits are theirs no more, but the places on the
        // circle are. (A ring does not look at low bits except to settle ties.)
        for (Position& query : queries_) query = static_cast<Position>(query ^ (random() & 0xff));
    }
    [[nodiscard]] Position const* window(std::size_t number) const noexcept {
        return queries_.data() + number % (query_count / window_size) * window_size;
    }

  private:
    static constexpr int shift = 64 - std::numeric_limits<Position>::digits;
    std::vector<Position> queries_;
};

template <class Position>
[[nodiscard]] std::vector<Position> random_circle(std::size_t points) {
    std::mt19937_64 random{points};
    std::vector<Position> circle(points);
    for (Position& p : circle)
        p = static_cast<Position>(random() >> (64 - std::numeric_limits<Position>::digits));
    std::sort(circle.begin(), circle.end());
    return circle;
}

enum class mode { throughput, latency };

/// A contestant over one index. The loop is the same for all; the index is inlined into it.
template <mode Mode, class Index, class Position>
[[nodiscard]] contestant contest(std::string name, std::shared_ptr<Index const> index,
                                 query_stream<Position> const& queries) {
    return {std::move(name), window_size, [index = std::move(index), &queries](std::size_t number) {
                Position const* const query = queries.window(number);
                std::size_t sum = 0;
                for (std::size_t i = 0; i < window_size; ++i) {
                    if constexpr (Mode == mode::throughput)
                        sum += index->successor(query[i]);
                    else  // the next query hangs on this answer; the low bits are flipped, no more
                        sum = index->successor(static_cast<Position>(query[i] ^ sum));
                }
                return static_cast<std::uint64_t>(sum);
            }};
}

/// Builds a strategy for this circle and checks it against the circle, then adds it to the field.
template <mode Mode, class Lookup, class Position>
void enter(context& ctx, std::vector<contestant>& field, std::vector<Position> const& circle,
           query_stream<Position> const& queries, std::string const& name = std::string{Lookup::name}) {
    auto index = std::make_shared<typename Lookup::template index<Position> const>(circle);
    std::size_t const slow = name.starts_with("linear") ? circle.size() / 1'024 + 1 : 1;
    for (std::size_t i = 0; i < window_size / slow; ++i) {
        Position const edge = static_cast<Position>(circle[i * 7 % circle.size()] + i % 3 - 1);
        for (Position const h : {queries.window(0)[i], edge}) {
            auto const rank =
                static_cast<std::size_t>(std::lower_bound(circle.begin(), circle.end(), h) - circle.begin());
            require_equal(rank == circle.size() ? 0 : rank, index->successor(h), name,
                          std::to_string(circle.size()) + " points");
            ++ctx.checked;
        }
    }
    field.push_back(contest<Mode>(name, std::move(index), queries));
}

constexpr std::size_t largest_for_linear = 4'096;

template <mode Mode, class Position>
[[nodiscard]] std::vector<contestant> field_of(context& ctx, std::vector<Position> const& circle,
                                               query_stream<Position> const& queries) {
    std::vector<contestant> field;
    if (circle.size() <= largest_for_linear) {
        enter<Mode, linear_aos>(ctx, field, circle, queries);
        enter<Mode, linear>(ctx, field, circle, queries);
        enter<Mode, linear_simd>(ctx, field, circle, queries);
    }
    enter<Mode, standard>(ctx, field, circle, queries);
    enter<Mode, binary>(ctx, field, circle, queries);
    enter<Mode, eytzinger>(ctx, field, circle, queries);
    enter<Mode, stree>(ctx, field, circle, queries);
    enter<Mode, tree>(ctx, field, circle, queries);
    enter<Mode, indexed>(ctx, field, circle, queries);
    enter<Mode, indexed_line>(ctx, field, circle, queries);
    enter<Mode, adaptive>(ctx, field, circle, queries);
#if defined(CAIRN_BENCH_HAVE_ABSL)
    enter<Mode, absl_btree>(ctx, field, circle, queries);
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST)
    enter<Mode, boost_flat>(ctx, field, circle, queries);
#endif
    return field;
}

template <mode Mode, class Position>
void run_grid(context& ctx, query_stream<Position> const& queries, nlohmann::json& question) {
    bool const fast = Mode == mode::throughput;
    std::string const bits = std::to_string(std::numeric_limits<Position>::digits);
    std::string const kind = fast ? "throughput" : "latency";
    grid cells("lookup-" + kind + "-" + bits,
               (fast ? "Throughput: independent lookups, " : "Latency: each lookup waits for the last, ") +
                   bits + "-bit positions",
               "ns per lookup", "points");
    for (auto const name : {"linear_aos", "linear", "standard", "tree"}) cells.column(name, "baseline");
    for (auto const name :
         {"linear_simd", "binary", "eytzinger", "stree", "indexed", "indexed_line", "adaptive"})
        cells.column(name, "ours");
    for (auto const name : {"absl::btree_map", "boost::flat_map"}) cells.column(name, "peer");

    for (std::size_t points = 1; points <= 262'144; points *= ctx.quick ? 8 : 2) {
        progress("lookup: " + kind + ", " + bits + " bit, " + number(static_cast<double>(points)) +
                 " points");
        auto const circle = random_circle<Position>(points);
        auto const result = measure(ctx, field_of<Mode>(ctx, circle, queries));
        for (auto const& name : result.names()) cells.add(static_cast<double>(points), name, result.of(name));
    }
    cells.crossover("linear", "standard", "points");
    cells.crossover("linear", "binary", "points");
    cells.crossover("linear_simd", "binary", "points");
    cells.crossover("linear_simd", "indexed", "points");
    cells.crossover("binary", "indexed", "points");
    cells.crossover("indexed", "indexed_line", "points");
    question["tables"].push_back(cells.table());
    question["charts"].push_back(cells.chart(
        fast ? std::vector<
                   std::string>{"The linear curves rise by two with each doubling from some 16 points on; "
                                "below that the "
                                "misprediction at their exit, about 15 to 20 cycles, is all they cost.",
                                "standard rises by a step with each doubling, half a misprediction and a "
                                "compare, if the "
                                "compiler made branches of it; binary, without branches, rises by a third of "
                                "that. Both bend "
                                "upwards where the positions leave the first and the second cache.",
                                "indexed stays flat, for it looks at one cell whatever the size, until the "
                                "cells leave the "
                                "second-level cache; from there on it pays one cache miss a lookup, and the "
                                "searches several."}
             : std::vector<std::string>{
                   "Here nothing overlaps, so each level of a search costs its full load and compare.",
                   "A linear scan of few points does well: the CPU guesses where it ends and goes on at "
                   "once, and "
                   "a right guess costs no waiting.",
                   "indexed waits for one multiplication-free chain: shift, one load, compare, count. Past "
                   "the "
                   "second-level cache that one load is a miss, and indexed_line, with half the memory, "
                   "misses "
                   "less often."}));
    for (auto const& text : cells.sentences())
        question["sentences"].push_back(kind + ", " + bits + " bit: " + text);
}

/// The promised figures, all contestants of one figure in one interleaved field.
template <class Position>
void figures_of(context const& ctx_in, query_stream<Position> const& queries, std::vector<figure>& figures) {
    context ctx = ctx_in;
    ctx.rounds = ctx.quick ? 7 : 41;
    std::string const bits = std::to_string(std::numeric_limits<Position>::digits);
    bool const narrow = sizeof(Position) == 4;
    auto const large = random_circle<Position>(16'384);
    progress("lookup: the promised figures, " + bits + " bit");

    auto const times = [](summary const& s) {
        return number(s.median) + " x (" + number(s.low) + " to " + number(s.high) + ")";
    };
    auto const at_least = [&](std::string what, double promised, summary const& s) {
        figures.push_back(
            {std::move(what), "at least " + number(promised) + " x", times(s), s.median >= promised});
    };

    auto const fast = measure(ctx, field_of<mode::throughput>(ctx, large, queries));
    at_least("throughput, indexed vs std::lower_bound, 16,384, " + bits, narrow ? 30 : 22,
             fast.ratio("standard", "indexed"));
    at_least("throughput, indexed vs std::map, 16,384, " + bits, 40, fast.ratio("tree", "indexed"));
    at_least("throughput, indexed vs binary, 16,384, " + bits, narrow ? 8 : 6,
             fast.ratio("binary", "indexed"));

    std::vector<contestant> two;
    enter<mode::throughput, indexed>(ctx, two, random_circle<Position>(4), queries, "4");
    enter<mode::throughput, indexed>(ctx, two, random_circle<Position>(1'024), queries, "1024");
    auto const flat = measure(ctx, two).ratio("1024", "4");
    figures.push_back({"throughput, indexed, 1,024 points vs 4 points, " + bits, "within 1.3 x", times(flat),
                       flat.median <= 1.3});

    auto const slow = measure(ctx, field_of<mode::latency>(ctx, large, queries));
    std::string best = "indexed";
    for (std::string const name : {"indexed_line", "adaptive", "stree", "binary", "eytzinger"})
        if (slow.of(name).median < slow.of(best).median) best = name;
    at_least("latency, " + best + " vs std::lower_bound, 16,384, " + bits, 5, slow.ratio("standard", best));

    auto const bytes = static_cast<double>(indexed::index<Position>(large).hot_bytes()) / 16'384.0;
    double const most = narrow ? 10 : 16;
    figures.push_back({"hot memory of indexed, " + bits, "at most " + number(most) + " bytes a point",
                       number(bytes) + " bytes a point", bytes <= most});
}

template <class Position>
void measure_width(context& ctx, nlohmann::json& question, std::vector<figure>& figures) {
    query_stream<Position> const queries(ctx);
    run_grid<mode::throughput>(ctx, queries, question);
    run_grid<mode::latency>(ctx, queries, question);
    figures_of(ctx, queries, figures);
}

}  // namespace

answer question_lookup(context& ctx) {
    answer result;
    result.question = {
        {"id", "lookup"},
        {"title", "Which lookup wins on a sorted circle?"},
        {"intro",
         {"A ring is a sorted circle of positions; a lookup finds the first position at or after a hash. "
          "All strategies below give the same answers, checked before they were timed.",
          "Throughput is what a server sees that routes independent requests; latency is what a "
          "program waits that needs one answer before it can ask the next question."}},
        {"tables", nlohmann::json::array()},
        {"charts", nlohmann::json::array()},
        {"sentences", nlohmann::json::array()}};
    measure_width<std::uint32_t>(ctx, result.question, result.figures);
    measure_width<std::uint64_t>(ctx, result.question, result.figures);
    return result;
}

}  // namespace cairn::bench
