// SPDX-License-Identifier: MIT
// Where nginx sends a request: `hash key consistent;` and plain `hash key;` in an upstream block.
//
//   upstream u {                           nginx_ring const u({
//       hash $arg_k consistent;
//       server 10.0.0.1:80 weight=2;           {"10.0.0.1:80", 2},
//       server 10.0.0.2:80;                    {"10.0.0.2:80"}});
//   }
//
// Consistent: a server has 160 points for each unit of its weight. They are CRC-32s of host, NUL, port and
// four bytes more: those of the point before, the first time zeros. A key belongs to the first point at or
// after its CRC-32. Plain: 15 bits out of the key's CRC-32, modulo the sum of the weights.
//
// Quirks that are kept:
//   - Points are chained, so a server's points depend on nothing but its text: what stands behind the last
//     colon, if it is digits only, is the port; "unix:" is cut off. "10.0.0.1" and "10.0.0.1:80" differ.
//   - Of several points at one position only one is kept: that of the server which stands first, since
//   glibc's
//     qsort leaves equal points in their order. (With another C library it may be another one of them.)
//   - The chain of a server ends in a circle if a CRC comes twice. Its points then fall on each other.
//   - Plain `hash` has 15 bits: of weights that sum up to more than 32,768 the rest gets nothing.
//   - Consistent, a server line that stands twice is one server of the circle; nginx takes turns between the
//     two, here find says the first. The same goes for a name that resolves to several addresses. Plain, each
//     address counts: give such a name once for each, in the order in which they were resolved.
// Not modelled: backup servers (leave them out), and what nginx tries after a server has failed.
//
// When not to use it: for a fleet of your own (placement.hpp). Source: nginx 1.22.1, verified by asking it.
// Cost: the CRC-32 of the key, 10 ns for 15 bytes, and 8 ns. Thread safety: as fleet.hpp.
//
//   using namespace cairn::fleets;
//   nginx_ring const consistent({{"10.0.0.1:80", 2}, {"10.0.0.2:80"}, {"unix:/run/app"}});
//   nginx_table const plain({{"10.0.0.1:80", 2}, {"10.0.0.2:80"}});
//   std::cout << consistent.find("user:42").address << ' ' << plain.find("user:42").address << '\n';
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../detail/crc32.hpp"
#include "../detail/fleet_servers.hpp"
#include "../fleet.hpp"

namespace cairn::fleets {

/// A server line of an upstream block: the address as it is written, with its port, and the weight.
struct nginx_server {
    std::string address;
    std::int64_t weight = 1;
    friend bool operator==(nginx_server const&, nginx_server const&) = default;
};

/// `hash key consistent;` A placement for fleet_ring.
class nginx_consistent {
  public:
    using server_type = nginx_server;
    using position_type = std::uint32_t;
    static constexpr bool drops_equal_points = true;
    static constexpr std::size_t points_per_weight = 160;
    static constexpr std::size_t max_address = 4096;
    /// The weights of all servers together may come to this.
    static constexpr std::int64_t max_weight = (std::int64_t{1} << 28) / points_per_weight;

    [[nodiscard]] std::uint32_t position(std::string_view key) const noexcept { return detail::crc32(key); }

    /// All points, those too that the ring drops. @throws std::invalid_argument for no server, an address
    /// that is empty or has a NUL, a weight below 1 or weights that sum up to more than max_weight;
    /// std::length_error for an address longer than max_address, or more than 65,535 servers.
    [[nodiscard]] fleet_points<std::uint32_t> points(std::span<nginx_server const> servers) const {
        check("fleets::nginx_consistent", servers, max_weight);
        fleet_points<std::uint32_t> all;
        for (std::size_t i = 0; i < servers.size(); ++i) {
            auto const [host, port] = split(servers[i].address);
            std::uint32_t const base = detail::crc32_feed(
                detail::crc32_feed(detail::crc32_feed(detail::crc32_start, host), {"", 1}), port);
            std::uint32_t point = 0;
            auto const count = static_cast<std::size_t>(servers[i].weight) * points_per_weight;
            for (std::size_t j = 0; j < count; ++j) {
                char const before[] = {static_cast<char>(point), static_cast<char>(point >> 8),
                                       static_cast<char>(point >> 16), static_cast<char>(point >> 24)};
                point = ~detail::crc32_feed(base, {before, sizeof before});
                all.add(point, i);
            }
        }
        return all;
    }

    friend bool operator==(nginx_consistent const&, nginx_consistent const&) = default;

  private:
    friend class nginx_plain;
    static void check(std::string_view program, std::span<nginx_server const> servers, std::int64_t most) {
        detail::require_servers(program, servers);
        for (nginx_server const& server : servers) {
            detail::require_name(program, server.address, max_address);
            detail::require_weight(program, server.address, server.weight, 1, most);
        }
        static_cast<void>(detail::sum_of_weights(program, servers, static_cast<std::uint64_t>(most),
                                                 [](auto const& server) { return server.weight; }));
    }

    struct host_and_port {
        std::string_view host;
        std::string_view port;
    };
    [[nodiscard]] static host_and_port split(std::string_view address) noexcept {
        auto const is_letter = [&](std::size_t i, char lower) { return (address[i] | 0x20) == lower; };
        if (address.size() >= 5 && is_letter(0, 'u') && is_letter(1, 'n') && is_letter(2, 'i') &&
            is_letter(3, 'x') && address[4] == ':')
            return {address.substr(5), {}};
        std::size_t const before = address.find_last_not_of("0123456789");
        if (before == address.npos || address[before] != ':') return {address, {}};
        return {address.substr(0, before), address.substr(before + 1)};
    }
};

/// `hash key;` A rule for fleet_table.
class nginx_plain {
  public:
    using server_type = nginx_server;
    static constexpr std::int64_t max_weight = std::int64_t{1} << 24;

    [[nodiscard]] std::uint32_t number(std::string_view key) const noexcept {
        return detail::crc32(key) >> 16 & 0x7fff;
    }

    /// Each server as often as its weight says. @throws as nginx_consistent::points.
    [[nodiscard]] std::vector<std::uint16_t> entries(std::span<nginx_server const> servers) const {
        nginx_consistent::check("fleets::nginx_plain", servers, max_weight);
        std::vector<std::uint16_t> all;
        for (std::size_t i = 0; i < servers.size(); ++i)
            all.insert(all.end(), static_cast<std::size_t>(servers[i].weight), static_cast<std::uint16_t>(i));
        return all;
    }

    friend bool operator==(nginx_plain const&, nginx_plain const&) = default;
};

using nginx_ring = fleet_ring<nginx_consistent>;
using nginx_table = fleet_table<nginx_plain>;

}  // namespace cairn::fleets
