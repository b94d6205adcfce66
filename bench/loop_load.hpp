// SPDX-License-Identifier: MIT
// Servers under load: what each one's processor does for a request.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "harness.hpp"
#include "loop_servers.hpp"

namespace cairn::bench {

struct served_cell {
    std::string name;
    std::vector<std::string> servers, roles;
    std::vector<std::vector<double>> cpu;   // by server: ns a request, one value a round
    std::vector<std::vector<double>> rate;  // requests a second

    [[nodiscard]] std::size_t at(std::string const& server) const {
        return static_cast<std::size_t>(std::find(servers.begin(), servers.end(), server) - servers.begin());
    }
    [[nodiscard]] bool has(std::string const& server) const { return at(server) != servers.size(); }
    /// The median over the rounds of a server's processor time a request, as a multiple of another's.
    [[nodiscard]] summary ratio(std::string const& server, std::string const& to) const {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < cpu.front().size(); ++i)
            ratios.push_back(cpu[at(server)][i] / cpu[at(to)][i]);
        return summarise(std::move(ratios));
    }
};

/// All servers are up at once; each gets its slice of a round, in an order that is drawn anew.
[[nodiscard]] served_cell serve(context const& ctx, protocol p, std::size_t connections);

/// System calls that a server makes for a request, of those that ptrace sees; 0 if it cannot look.
[[nodiscard]] double system_calls(server_kind const& kind);

}  // namespace cairn::bench
