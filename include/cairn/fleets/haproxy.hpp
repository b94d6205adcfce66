// SPDX-License-Identifier: MIT
// Where HAProxy sends a request under `hash-type consistent`.
//
//   backend b                              haproxy_ring<> const b({
//       balance hdr(x-key)
//       hash-type consistent
//       server s1 10.0.0.1:80                  {"s1"},
//       server s2 10.0.0.2:80 weight 2         {"s2", 2},
//       server s3 10.0.0.3:80 id 77            {"s3", 1, 77}});
//
// A server has 16 points for each unit of its weight: hashes of its id and the point's number, so neither its
// name nor its address counts. The key is hashed by the function after `consistent`, then, if `avalanche` is
// written, mixed once more:
//
//   hash-type consistent                   haproxy_ring<>                  sdbm and avalanche
//   hash-type consistent sdbm              haproxy_ring<sdbm, false>
//   hash-type consistent djb2 avalanche    haproxy_ring<djb2, true>
//   hash-type consistent wt6               haproxy_ring<wt6, false>
//   hash-type consistent crc32             haproxy_ring<crc32a, false>     (hashes.hpp: the whole CRC-32)
//
// Quirks that are kept:
//   - A key belongs to the nearest point, before or behind it, not to the next one clockwise; to the one
//     before if both are equally near. So the shares of equal servers are more even than on other rings.
//   - Without a function the key is mixed, with one it is not, not even if it is the same one.
//   - A server without an id gets the first that is free, from its place in the backend on, counted from 1.
//     Ids are spread 4,096 apart, modulo 2^32: ids that differ by 2^20 have the same points.
// Not modelled: `balance source` (it combines the words of the address, without any function), a server that
// is down, drained or of weight 0 (leave it out, give the others ids), slowstart, hash-balance-factor
// (bounded_loads.hpp is another form of it), and `hash-key` of 3.0. The hashing of ids was changed by
// accident in 3.0 to 3.2 until October 2025; this is the one before and after.
//
// When not to use it: for a fleet of your own (placement.hpp). Source: HAProxy 2.6.12, verified by asking it,
// all functions. Cost: 20 to 28 ns for 15 bytes, 8 of them sdbm. Thread safety: as fleet.hpp.
//
//   using namespace cairn::fleets;
//   haproxy_ring<> const backend({{"s1"}, {"s2", 2}, {"s3", 1, 77}});
//   haproxy_ring<djb2, false> const plain({{"s1"}, {"s2"}});
//   std::cout << backend.find("user:42").name << ' ' << plain.find("user:42").name << '\n';
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../detail/fleet_servers.hpp"
#include "../detail/text_hashes.hpp"
#include "../fleet.hpp"
#include "hashes.hpp"

namespace cairn::fleets {

struct sdbm {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::sdbm(key);
    }
};
struct djb2 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::djb2(key);
    }
};
struct wt6 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::wt6(key);
    }
};

/// A server line of a backend.
struct haproxy_server {
    std::string name;
    std::int64_t weight = 1;
    std::int64_t id = 0;  ///< 0: the first free one from its place on
    friend bool operator==(haproxy_server const&, haproxy_server const&) = default;
};

/// `hash-type consistent`. A placement for fleet_ring. @tparam Avalanche whether keys are mixed once more.
template <text_hash Hash = sdbm, bool Avalanche = true>
class haproxy_consistent {
  public:
    using server_type = haproxy_server;
    using position_type = std::uint32_t;
    static constexpr bool nearest = true;
    static constexpr std::size_t points_per_weight = 16;
    static constexpr std::int64_t max_weight = 256;
    static constexpr std::int64_t max_id = std::numeric_limits<std::int32_t>::max();

    [[nodiscard]] std::uint32_t position(std::string_view key) const noexcept {
        return Avalanche ? mixed(Hash{}(key)) : Hash{}(key);
    }

    /// All points. @throws std::invalid_argument for no server, an empty name, a name or an id that stands
    /// twice, a weight outside [1, 256], an id outside [0, max_id]; std::length_error for more than 65,535
    /// servers.
    [[nodiscard]] fleet_points<std::uint32_t> points(std::span<haproxy_server const> servers) const {
        auto const ids = ids_of(servers);
        fleet_points<std::uint32_t> all;
        for (std::size_t i = 0; i < servers.size(); ++i) {
            auto const count = static_cast<std::size_t>(servers[i].weight) * points_per_weight;
            for (std::size_t j = 0; j < count; ++j)
                all.add(mixed(ids[i] * 4096 + static_cast<std::uint32_t>(j)), i);
        }
        return all;
    }

    friend bool operator==(haproxy_consistent const&, haproxy_consistent const&) = default;

  private:
    /// An integer hash by Bob Jenkins, then a multiplication by a prime that is 3/4 of the circle.
    [[nodiscard]] static constexpr std::uint32_t mixed(std::uint32_t a) noexcept {
        a = (a + 0x7ed55d16) + (a << 12);
        a = (a ^ 0xc761c23c) ^ (a >> 19);
        a = (a + 0x165667b1) + (a << 5);
        a = (a + 0xd3a2646c) ^ (a << 9);
        a = (a + 0xfd7046c5) + (a << 3);
        a = (a ^ 0xb55a4f09) ^ (a >> 16);
        return a * 3221225473U;
    }

    /// The ids, those too that HAProxy would give, once nothing is wrong with the servers.
    [[nodiscard]] static std::vector<std::uint32_t> ids_of(std::span<haproxy_server const> servers) {
        constexpr std::string_view program = "fleets::haproxy_consistent";
        detail::require_servers(program, servers);
        std::vector<std::string_view> names;
        std::vector<std::uint32_t> taken;
        for (haproxy_server const& server : servers) {
            detail::require_name(program, server.name, std::numeric_limits<std::size_t>::max());
            detail::require_weight(program, server.name, server.weight, 1, max_weight);
            if (server.id < 0 || server.id > max_id)
                detail::refuse(program, "the id of server " + detail::node_name(server.name) +
                                            " must be from 0 to 2147483647, not " +
                                            std::to_string(server.id));
            names.push_back(server.name);
            if (server.id != 0) taken.push_back(static_cast<std::uint32_t>(server.id));
        }
        std::ranges::sort(names);
        if (auto const twice = std::ranges::adjacent_find(names); twice != names.end())
            detail::refuse(program, "duplicate server " + detail::node_name(*twice));
        std::ranges::sort(taken);
        if (auto const twice = std::ranges::adjacent_find(taken); twice != taken.end())
            detail::refuse(program, "duplicate id " + std::to_string(*twice));
        std::vector<std::uint32_t> ids;
        std::uint32_t next = 1;  // each server is at least one further than the one before it
        for (haproxy_server const& server : servers) {
            if (server.id == 0)
                while (std::ranges::binary_search(taken, next)) ++next;
            ids.push_back(server.id == 0 ? next : static_cast<std::uint32_t>(server.id));
            ++next;
        }
        return ids;
    }
};

template <text_hash Hash = sdbm, bool Avalanche = true>
using haproxy_ring = fleet_ring<haproxy_consistent<Hash, Avalanche>>;

}  // namespace cairn::fleets
