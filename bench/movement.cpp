// SPDX-License-Identifier: MIT
// How many keys move when a node comes or goes?
#include <cairn/hash_ring.hpp>
#include <cairn/router.hpp>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "input.hpp"
#include "questions.hpp"

namespace cairn::bench {
namespace {

[[nodiscard]] summary exactly(double value) { return {value, value, value}; }

/// The share of `keys` that another node owns afterwards.
template <class Before, class After>
[[nodiscard]] double share_moved(Before const& before, After const& after,
                                 std::vector<std::string> const& keys) {
    return movement(before, after, keys).fraction();
}

}  // namespace

answer question_movement(context& ctx) {
    // At least 100,000 keys, or the sampling error would be larger than the differences.
    std::vector<std::string> keys = ctx.keys;
    for (std::size_t i = 0; keys.size() < 100'000; ++i) keys.push_back(ctx.keys[i] + "#" + std::to_string(i));

    grid grown("movement-add", "Share of the keys that move when one node is added", "share of the keys",
               "nodes before");
    grown.column("1 / (n + 1), the least", "reference");
    grown.column("modulo", "baseline");
    for (auto const name : {"ring", "jump", "rendezvous", "maglev", "anchor"}) grown.column(name, "ours");
    for (std::size_t const n : {2U, 5U, 10U, 20U, 50U, 100U, 200U, 500U}) {
        progress("movement: " + std::to_string(n) + " nodes and one more");
        auto const before = default_nodes(n).items;
        auto const after = default_nodes(n + 1).items;
        auto const x = static_cast<double>(n);
        anchor<> const anchor_before(n, 2 * n + 2);
        anchor<> anchor_after = anchor_before;
        (void)anchor_after.add();
        grown.add(x, "1 / (n + 1), the least", exactly(1 / (x + 1)));
        grown.add(x, "modulo", exactly(share_moved(modulo<>(n), modulo<>(n + 1), keys)));
        grown.add(x, "ring",
                  exactly(share_moved(router_of<hash_ring<>>(before), router_of<hash_ring<>>(after), keys)));
        grown.add(x, "jump", exactly(share_moved(jump<>(n), jump<>(n + 1), keys)));
        if (n <= 200)
            grown.add(x, "rendezvous",
                      exactly(share_moved(router_of<rendezvous<std::string>>(before),
                                          router_of<rendezvous<std::string>>(after), keys)));
        grown.add(x, "maglev",
                  exactly(share_moved(router_of<maglev<std::string>>(before),
                                      router_of<maglev<std::string>>(after), keys)));
        grown.add(x, "anchor", exactly(share_moved(anchor_before, anchor_after, keys)));
    }

    // The user's own nodes, if there are any: what happens if the middle one goes.
    auto const& nodes = ctx.nodes;
    nlohmann::json rows = nlohmann::json::array();
    answer result;
    if (nodes.size() >= 2) {
        auto fewer = nodes;
        std::size_t const gone = nodes.size() / 2;
        fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(gone));
        auto const row = [&](std::string const& name, auto const& report, std::string const& remark) {
            rows.push_back({{{"text", name}},
                            {{"text", number(100 * report.fraction()) + " %"}},
                            {{"text", number(100 * report.unnecessary_fraction()) + " %"}},
                            {{"text", remark}}});
        };
        anchor<> const anchor_before(nodes.size(), 2 * nodes.size());
        anchor<> anchor_after = anchor_before;
        anchor_after.remove(gone);
        auto const before = router_of<hash_ring<>>(nodes);
        auto const after = router_of<hash_ring<>>(fewer);
        row("ring", movement(before, after, keys),
            "exact by moved(): " + number(100 * moved(before, after).share) + " %");
        row("rendezvous",
            movement(router_of<rendezvous<std::string>>(nodes), router_of<rendezvous<std::string>>(fewer),
                     keys),
            "");
        row("maglev",
            movement(router_of<maglev<std::string>>(nodes), router_of<maglev<std::string>>(fewer), keys), "");
        row("anchor", movement(anchor_before, anchor_after, keys), "");
        rows.push_back(
            {{{"text", "jump"}}, {{"text", "-"}}, {{"text", "-"}}, {{"text", "only the last shard can go"}}});
        auto const by_number = movement(modulo<>(nodes.size()), modulo<>(nodes.size() - 1), keys);
        rows.push_back({{{"text", "modulo"}},
                        {{"text", number(100 * by_number.fraction()) + " %"}},
                        {{"text", "-"}},
                        {{"text", "by shard number"}}});
    }

    // One newcomer's share is luck, with a standard deviation of 8 % at 160 points; so a hundred of them.
    auto const before = router_of<hash_ring<>>(default_nodes(100).items);
    std::vector<double> of_ideal;
    bool only_to_new = true;
    for (std::size_t i = 0; i < 100; ++i) {
        std::string const name = "newcomer-" + std::to_string(i);
        auto after = before;
        after.add(name);
        auto const plan = moved(before, after);
        of_ideal.push_back(plan.share * 101);
        for (auto const& arc : plan.arcs) only_to_new = only_to_new && arc.to == name;
    }
    summary const s = summarise(of_ideal);
    result.figures.push_back({"101st of equal nodes: keys moved, against 1/101", "within 10 %, to it only",
                              number(s.median) + " (" + number(s.low) + " to " + number(s.high) + ")" +
                                  (only_to_new ? ", to it only" : ", to others too"),
                              std::abs(s.median - 1) <= 0.10 && only_to_new});

    result.question = {
        {"id", "movement"},
        {"title", "How many keys move when a node comes or goes?"},
        {"intro",
         {"A key that moves is a cache miss, or a record to copy. With n nodes and one more, 1/(n + 1) of "
          "the keys must "
          "move; what is above that line is waste."}},
        {"tables",
         {grown.table(),
          {{"id", "movement-remove"},
           {"title", "One of " + std::to_string(nodes.size()) + " nodes removed"},
           {"unit", ""},
           {"columns", {"router", "moved", "between nodes that stay", "remark"}},
           {"rows", rows}}}},
        {"charts",
         {grown.chart({"modulo moves nearly everything: n/(n + 1) of the keys get another remainder.",
                       "ring, jump, rendezvous and anchor lie on the ideal line, up to the luck of the keys; "
                       "maglev pays a "
                       "little for its even table, more as the nodes grow towards the table's size."})}},
        {"sentences", nlohmann::json::array()}};
    return result;
}

}  // namespace cairn::bench
