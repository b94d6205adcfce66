// SPDX-License-Identifier: MIT
// The questions that cairn-compare answers. Each one measures, and returns its part of the document:
// tables, charts, and the sentences that a reader should take away.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "harness.hpp"

namespace cairn::bench {

/// A figure that cairn promises, what was measured in this run, and whether that keeps the promise.
struct figure {
    std::string what;
    std::string promised;
    std::string measured;
    bool kept;
};

/// An answer: the JSON of the question, and the promised figures that it measured on the way.
struct answer {
    nlohmann::json question;
    std::vector<figure> figures;
};

/// The members that a router of type `Router` is made of: these nodes, all of weight 1.
template <class Router>
[[nodiscard]] std::vector<typename Router::member> members_of(std::vector<std::string> const& nodes) {
    std::vector<typename Router::member> members;
    members.reserve(nodes.size());
    for (std::string const& node : nodes) members.push_back({node, 1});
    return members;
}

/// A router of these nodes.
template <class Router, class... Options>
[[nodiscard]] Router router_of(std::vector<std::string> const& nodes, Options... options) {
    return Router(members_of<Router>(nodes), std::move(options)...);
}

[[nodiscard]] answer question_lookup(context& ctx);
[[nodiscard]] answer question_routing(context& ctx);
[[nodiscard]] answer question_movement(context& ctx);
[[nodiscard]] answer question_balance(context& ctx);
[[nodiscard]] answer question_build(context& ctx);
[[nodiscard]] answer question_spsc(context& ctx);
[[nodiscard]] answer question_pool(context& ctx);
[[nodiscard]] answer question_interner(context& ctx);
[[nodiscard]] answer question_buffers(context& ctx);
[[nodiscard]] answer question_loop(context& ctx);

}  // namespace cairn::bench
