// SPDX-License-Identifier: MIT
// How evenly are the keys spread?
#include <cairn/hash_ring.hpp>
#include <cairn/router.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "input.hpp"
#include "questions.hpp"

namespace cairn::bench {
namespace {

struct spread {
    double max_over_mean = 0;
    double deviation = 0;
};

/// Of the exact shares of a ring.
[[nodiscard]] spread spread_of(std::vector<double> const& shares) {
    auto const n = static_cast<double>(shares.size());
    spread result;
    for (double const share : shares) {
        result.max_over_mean = std::max(result.max_over_mean, share * n);
        result.deviation += (share * n - 1) * (share * n - 1) / n;
    }
    result.deviation = std::sqrt(result.deviation);
    return result;
}

[[nodiscard]] spread ring_spread(std::vector<std::string> const& nodes, std::size_t points_per_weight) {
    return spread_of(router_of<hash_ring<>>(nodes, virtual_nodes<>(points_per_weight)).shares());
}

}  // namespace

answer question_balance(context& ctx) {
    // The luck of the names: 20 sets of 100 names give a median and quartiles.
    grid uneven("balance-points", "Fullest of 100 nodes, above the mean", "max / mean - 1",
                "points per node");
    grid deviation("balance-deviation", "Standard deviation of the shares of 100 nodes", "of the mean",
                   "points per node");
    uneven.column("ring", "ours");
    deviation.column("ring", "ours");
    deviation.column("1 / sqrt(points)", "reference");
    std::size_t const sets = ctx.quick ? 5 : 20;
    for (std::size_t const points : {1U, 4U, 10U, 40U, 100U, 160U, 250U, 500U, 1'000U, 2'000U}) {
        progress("balance: " + std::to_string(points) + " points a node");
        std::vector<double> peaks;
        std::vector<double> deviations;
        for (std::size_t set = 0; set < sets; ++set) {
            std::vector<std::string> names;
            for (std::size_t i = 0; i < 100; ++i)
                names.push_back("set-" + std::to_string(set) + "-node-" + std::to_string(i));
            auto const s = ring_spread(names, points);
            peaks.push_back(s.max_over_mean - 1);
            deviations.push_back(s.deviation);
        }
        auto const x = static_cast<double>(points);
        uneven.add(x, "ring", summarise(std::move(peaks)));
        deviation.add(x, "ring", summarise(std::move(deviations)));
        double const law = 1 / std::sqrt(x);
        deviation.add(x, "1 / sqrt(points)", {law, law, law});
    }

    // The user's keys on the user's nodes, next to what chance alone would give.
    progress("balance: your keys");
    auto const& nodes = ctx.nodes;
    nlohmann::json rows = nlohmann::json::array();
    auto const row = [&](std::string const& name, auto const& report, std::string const& exact) {
        rows.push_back({{{"text", name}},
                        {{"text", number(report.max_over_mean)}},
                        {{"text", number(100 * report.standard_deviation) + " %"}},
                        {{"text", exact}}});
    };
    auto const ring_160 = router_of<hash_ring<>>(nodes);
    auto const ring_1000 = router_of<hash_ring<>>(nodes, virtual_nodes<>(1'000));
    auto const exact = [](hash_ring<> const& ring) { return number(spread_of(ring.shares()).max_over_mean); };
    row("ring, 160 points", balance(ring_160, ctx.keys), exact(ring_160));
    row("ring, 1000 points", balance(ring_1000, ctx.keys), exact(ring_1000));
    row("modulo", balance(modulo<>(nodes.size()), ctx.keys), "1.00");
    row("jump", balance(jump<>(nodes.size()), ctx.keys), "1.00");
    row("rendezvous", balance(router_of<rendezvous<std::string>>(nodes), ctx.keys), "1.00");
    row("maglev", balance(router_of<maglev<std::string>>(nodes), ctx.keys), "");
    row("anchor", balance(anchor<>(nodes.size(), 2 * nodes.size()), ctx.keys), "1.00");
    double const chance = std::sqrt(static_cast<double>(nodes.size()) / static_cast<double>(ctx.keys.size()));

    answer result;
    auto const hundred = default_nodes(100).items;
    for (auto const& [points, most] : {std::pair<std::size_t, double>{160, 1.25}, {1'000, 1.09}}) {
        auto const s = ring_spread(hundred, points);
        result.figures.push_back({"max/mean of 100 equal nodes at " + std::to_string(points) + " points",
                                  "at most " + number(most), number(s.max_over_mean),
                                  s.max_over_mean <= most});
    }
    result.question = {
        {"id", "balance"},
        {"title", "How evenly are the keys spread?"},
        {"intro",
         {"The fullest node decides how large a fleet must be. The shares of a ring are computed from its "
          "arcs, not "
          "sampled; a router without arcs is as even as the keys are many."}},
        {"tables",
         {uneven.table(),
          deviation.table(),
          {{"id", "balance-keys"},
           {"title", std::to_string(ctx.keys.size()) + " keys on " + std::to_string(nodes.size()) + " nodes"},
           {"unit", ""},
           {"columns", {"router", "max / mean of these keys", "standard deviation", "max / mean, exact"}},
           {"rows", rows}}}},
        {"charts",
         {uneven.chart({"Four times the points halve the excess of the fullest node.",
                        "The band shows the quartiles over sets of names: with few points it is luck how "
                        "full the fullest "
                        "node is."}),
          deviation.chart(
              {"A node's share is a sum of as many random arcs as it has points, so its deviation falls with "
               "the square root: a line of slope minus one half."})}},
        {"sentences",
         {"Chance alone gives a standard deviation of " + number(100 * chance) +
          " % for so many keys on so many nodes."}}};
    return result;
}

}  // namespace cairn::bench
