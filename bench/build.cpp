// SPDX-License-Identifier: MIT
// What does it cost to build a ring, and to change one node of it?
#include <cairn/hash_ring.hpp>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "questions.hpp"

namespace cairn::bench {
namespace {

template <class Position>
using points_of = detail::point_list<Position>;

/// Fresh random points for each window, made before the clock starts: a sort of the same input again and
/// again teaches the branch predictor the input.
template <class Position>
[[nodiscard]] std::vector<points_of<Position>> inputs_of(std::size_t points, std::size_t count) {
    std::mt19937_64 random{points};
    std::vector<points_of<Position>> inputs(count);
    for (auto& input : inputs) {
        input.positions.resize(points);
        input.owners.resize(points);
        for (std::size_t i = 0; i < points; ++i) {
            input.positions[i] =
                static_cast<Position>(random() >> (64 - std::numeric_limits<Position>::digits));
            input.owners[i] = static_cast<std::uint16_t>(random() % 100);
        }
    }
    return inputs;
}

template <class Position>
[[nodiscard]] std::uint64_t index_and_sum(points_of<Position>& sorted) {
    std::uint64_t const owner = sorted.owners[sorted.owners.size() / 2];
    indexed::index<Position> const index(std::move(sorted.positions));
    return owner + index.successor(std::numeric_limits<Position>::max() / 3);
}

struct changes {
    summary anew_over_add;
    summary anew_over_remove;
};

/// Rings of `nodes` nodes with 160 points each: built at once, and changed by one node.
template <class Position>
[[nodiscard]] changes measure_changes(context const& ctx, std::size_t nodes, grid* cells) {
    using ring = hash_ring<std::string, indexed, virtual_nodes<Position>>;
    std::vector<typename ring::member> members;
    for (std::size_t i = 0; i < nodes; ++i) members.push_back({"node-" + std::to_string(i), 1});
    auto members_and_one = members;
    members_and_one.push_back({"one more", 1});
    ring const base(members);
    ring const after(members_and_one);
    std::string const removed = members[nodes / 2].node;
    ring scratch = base;
    scratch.add("one more");
    require_equal(after.fingerprint(), scratch.fingerprint(), "add", "a ring");
    scratch.remove("one more");
    require_equal(base.fingerprint(), scratch.fingerprint(), "remove", "a ring");

    ring changing = base;
    std::vector<contestant> const field{
        {"anew", 1,
         [&members_and_one](std::size_t) {
             ring const built(members_and_one);
             return static_cast<std::uint64_t>(built.points());
         }},
        {"add", 1,
         [&changing](std::size_t) {
             changing.add("one more");
             return static_cast<std::uint64_t>(changing.points());
         },
         [&changing, &base] { changing = base; }},
        {"remove", 1,
         [&changing, &removed](std::size_t) {
             changing.remove(removed);
             return static_cast<std::uint64_t>(changing.points());
         },
         [&changing, &after] { changing = after; }},
        {"copy", 1,
         [&base](std::size_t) {
             ring const copy = base;
             return static_cast<std::uint64_t>(copy.points());
         }},
    };
    auto const result = measure(ctx, field);
    if (cells != nullptr)
        for (auto const& name : result.names()) {
            auto const in_us = [](summary s) { return summary{s.median / 1e3, s.low / 1e3, s.high / 1e3}; };
            cells->add(static_cast<double>(nodes * 160), name, in_us(result.of(name)));
        }
    return {result.ratio("anew", "add"), result.ratio("anew", "remove")};
}

template <class Position>
[[nodiscard]] summary measure_sorts(context const& ctx, std::size_t points, grid* cells) {
    auto const inputs = inputs_of<Position>(points, std::clamp<std::size_t>((1U << 21) / points, 4, 64));
    std::vector<std::uint64_t> identities(100);
    xxh3 const hash;
    for (std::size_t i = 0; i < identities.size(); ++i) identities[i] = hash(i);
    auto const identity_of = [&identities](std::size_t owner) { return identities[owner]; };
    auto const input = [&inputs](std::size_t window) -> points_of<Position> const& {
        return inputs[window % inputs.size()];
    };
    auto reference = input(0);
    auto distributed = input(0);
    detail::sort_points_by_comparison(reference, identity_of);
    detail::sort_points(distributed, identity_of);
    require_equal(1, reference.positions == distributed.positions && reference.owners == distributed.owners,
                  "sort_points", std::to_string(points) + " points");
    points_of<Position> unsorted;  // both sort in place; the copy that they may spoil is not timed
    std::size_t window = 0;
    auto const prepare = [&] { unsorted = input(window++); };
    std::vector<contestant> const field{
        {"std::sort + index", 1,
         [&](std::size_t) {
             detail::sort_points_by_comparison(unsorted, identity_of);
             return index_and_sum(unsorted);
         },
         prepare},
        {"distribution + index", 1,
         [&](std::size_t) {
             detail::sort_points(unsorted, identity_of);
             return index_and_sum(unsorted);
         },
         prepare},
    };
    auto const result = measure(ctx, field);
    if (cells != nullptr)
        for (auto const& name : result.names()) {
            auto const s = result.of(name);
            cells->add(static_cast<double>(points), name, {s.median / 1e3, s.low / 1e3, s.high / 1e3});
        }
    return result.ratio("std::sort + index", "distribution + index");
}

}  // namespace

answer question_build(context& ctx) {
    grid sorts("build-sort", "From unsorted points to an index, 64-bit positions", "µs", "points");
    sorts.column("std::sort + index", "baseline");
    sorts.column("distribution + index", "ours");
    for (std::size_t points = 256; points <= 262'144; points *= ctx.quick ? 8 : 2) {
        progress("build: " + number(static_cast<double>(points)) + " points");
        (void)measure_sorts<std::uint64_t>(ctx, points, &sorts);
    }
    grid rings("build-ring", "A ring of 160 points a node: built anew, one node added or removed, copied",
               "µs", "points");
    for (auto const name : {"anew", "add", "remove", "copy"})
        rings.column(name, name == std::string_view("anew") ? "baseline" : "ours");
    for (std::size_t const nodes : {10U, 30U, 100U, 300U, 1'000U}) {
        progress("build: rings of " + std::to_string(nodes) + " nodes");
        (void)measure_changes<std::uint64_t>(ctx, nodes, &rings);
    }

    answer result;
    context more = ctx;
    more.rounds = ctx.quick ? 7 : 41;
    auto const add = [&](std::string what, double promised, summary const& s) {
        result.figures.push_back({std::move(what), "at least " + number(promised) + " x",
                                  number(s.median) + " x (" + number(s.low) + " to " + number(s.high) + ")",
                                  s.median >= promised});
    };
    progress("build: the promised figures");
    add("sort and index 16,384 points vs std::sort + index, 32", 6,
        measure_sorts<std::uint32_t>(more, 16'384, nullptr));
    add("sort and index 16,384 points vs std::sort + index, 64", 6,
        measure_sorts<std::uint64_t>(more, 16'384, nullptr));
    auto const changed = measure_changes<std::uint64_t>(more, 100, nullptr);
    add("add one of 100 nodes vs building anew", 3, changed.anew_over_add);
    add("remove one of 100 nodes vs building anew", 3, changed.anew_over_remove);

    result.question = {
        {"id", "build"},
        {"title", "What does building and changing a ring cost?"},
        {"intro",
         {"The points of a ring are hashes, so they need no sort by comparison: their top bits say where "
          "they go. A "
          "change of one node merges its points into those that are there, and indexes them again."}},
        {"tables", {sorts.table(), rings.table()}},
        {"charts",
         {sorts.chart(
              {"std::sort costs n log n compares, each mispredicted every second time; the distribution "
               "touches each point four times, with few branches that depend on the data.",
               "Both bend upwards where the points leave the second-level cache."}),
          rings.chart({"All lines have slope one: everything is linear in the points.",
                       "Adding or removing skips the hashing and the sorting of the points that stay."})}},
        {"sentences", nlohmann::json::array()}};
    return result;
}

}  // namespace cairn::bench
