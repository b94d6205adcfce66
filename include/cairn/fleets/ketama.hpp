// SPDX-License-Identifier: MIT
// Where the original ketama puts a key: the C library that Richard Jones wrote for last.fm in 2007, after
// which the others are named.
//
// A server has about 160 points a unit of its share of the memory, four for each MD5 of a label
// "address-7". The address is the text that stands in the servers' file, port and all: 10.0.1.1:11211. A key
// belongs to the first point at or after the first four bytes of its MD5.
//
// Quirks that are kept:
//   - The counts are floats rounded down: shares that should add up to 160 points a server add up to less
//     (1,264 of 1,280 in its own example of eight servers), and a very light server has no point at all.
//   - Of two points at one position the server that stands first in the file has it.
//   - The address may have 22 bytes at most. It overruns its buffer at the 23rd; here that is an exception.
//   - Keys are C strings there: they end at the first NUL. Here a NUL is a byte like any other.
// On purpose otherwise: there all circles of a process share one memory segment, and ending one ends all.
//
// When not to use it: for a fleet of your own (placement.hpp), nor for libmemcached's or twemproxy's ketama:
// they leave the port 11211 out of the label, so hardly a point is the same.
// Source: RJ/ketama at 18cf9a7, verified by its own program's answers (tests/golden). Cost: the MD5 of the
// key, 110 ns, and 10 ns; 40 ns a key by find_each. Thread safety: as fleet.hpp.
//
//   cairn::fleets::ketama_ring const ring({{"10.0.1.1:11211", 600}, {"10.0.1.2:11211", 300}});
//   std::string const& address = ring.find("user:42").address;   // weights are megabytes, as in its file
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "../detail/fleet_servers.hpp"
#include "../fleet.hpp"
#include "hashes.hpp"

namespace cairn::fleets {

/// A line of ketama's file: an address with its port, and how much memory the server has.
struct ketama_server {
    std::string address;
    std::int64_t weight = 1;
    friend bool operator==(ketama_server const&, ketama_server const&) = default;
};

/// The placement of the original library, for fleet_ring.
class ketama {
  public:
    using server_type = ketama_server;
    using position_type = std::uint32_t;
    static constexpr std::size_t max_address = 22;
    static constexpr std::int64_t max_weight = std::int64_t{1} << 47;

    [[nodiscard]] std::uint32_t position(std::string_view key) const noexcept { return md5{}(key); }
    void positions(std::span<std::string_view const> keys, std::span<std::uint32_t> out) const noexcept {
        detail::hash_each(md5{}, keys, out);
    }

    /// All points. @throws std::invalid_argument for no server, an address that is empty or has a NUL, a
    /// weight outside [1, max_weight]; std::length_error for an address longer than max_address, or more than
    /// 65,535 servers.
    [[nodiscard]] fleet_points<std::uint32_t> points(std::span<ketama_server const> servers) const {
        static_assert(detail::exact_floats, "On this platform, or with these flags, the counts differ.");
        constexpr std::string_view program = "fleets::ketama";
        detail::require_servers(program, servers);
        for (ketama_server const& server : servers) {
            detail::require_name(program, server.address, max_address);
            detail::require_weight(program, server.address, server.weight, 1, max_weight);
        }
        std::uint64_t const sum = detail::sum_of_weights(program, servers, ~std::uint64_t{0},
                                                         [](auto const& server) { return server.weight; });
        fleet_points<std::uint32_t> all;
        for (std::size_t i = 0; i < servers.size(); ++i) {
            // The share is a float, the product a double, and the floor that of a float again.
            float const share = static_cast<float>(servers[i].weight) / static_cast<float>(sum);
            double const exact = double{share} * 40.0 * static_cast<double>(servers.size());
            auto const labels = static_cast<std::size_t>(std::floor(static_cast<float>(exact)));
            detail::add_md5_points(all, servers[i].address + '-', labels, i);
        }
        return all;
    }

    friend bool operator==(ketama const&, ketama const&) = default;
};

using ketama_ring = fleet_ring<ketama>;

}  // namespace cairn::fleets
