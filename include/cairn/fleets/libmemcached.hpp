// SPDX-License-Identifier: MIT
// Where libmemcached puts a key: its ketama circles, and its modulo.
//
// libmemcached is the C library under many clients of memcached: PHP's memcached and Python's pylibmc are
// made of it. A program with cairn reads what they wrote if it is given the same servers in the same order,
// and the same settings:
//
//   settings of libmemcached                           cairn, with `using namespace cairn::fleets`
//   ------------------------------------------------   ---------------------------------------------------
//   none, or DISTRIBUTION MODULA                       libmemcached_modula_table<>
//   DISTRIBUTION CONSISTENT or CONSISTENT_KETAMA       libmemcached_ring<>
//   the same, HASH FNV1A_32 set before the servers     libmemcached_ring<fnv1a_32>
//   the same, HASH FNV1A_32 set after the servers      libmemcached_ring<fnv1a_32, one_at_a_time>
//   the same, set after servers that have weights      ... and {libmemcached_weights::never}
//   KETAMA_WEIGHTED                                    libmemcached_ring<md5>, {libmemcached_weights::always}
//   DISTRIBUTION CONSISTENT_WEIGHTED                   libmemcached_ring<>, {libmemcached_weights::always}
//   DISTRIBUTION CONSISTENT_KETAMA_SPY                 ... and libmemcached_labels::spy
//
// (PHP's OPT_LIBKETAMA_COMPATIBLE is KETAMA_WEIGHTED. With SORT_HOSTS, give the servers in its order.)
//
// Plain, a server has 100 points, each the hash of a label: "host-7", or "host:port-7" if the port is not
// 11211. Weighted, a server has about 160 points a unit of its share, four for each MD5 of such a label. A
// key belongs to the first point at or after its hash.
//
// Quirks that are kept, since other clients have them:
//   - The first weight above 1 makes the whole circle a weighted one, of MD5 points, without being asked to.
//     The hash of the keys stays as it was. Set after the servers, CONSISTENT and CONSISTENT_KETAMA forget
//     the weights; SPY does not.
//   - Weighted counts are computed in float, and fall short: of 25 equal servers each has 156 points, of 24
//     and of 26 it has 160. The 25th server moves more keys than it should. A very light server has no point.
//   - A weight of 0 counts as 1. MODULA ignores weights. HASH leaves the circle alone once there are servers.
//   - A hash that adds up chars (hashes.hpp) takes bytes from 0x80 on for negative. CRC has 15 bits.
//   - The setting KETAMA_HASH is stored there, and nothing asks for it.
//   - A server that stands twice in the list is two servers; the first has all the keys, but under MODULA.
// On purpose otherwise: libmemcached 1.1.4 aborts the process at the 101st host of a ketama circle; we do
// not.
//
// When not to use it: for a fleet of your own (placement.hpp). With prefixes and HASH_WITH_PREFIX_KEY, give
// find the prefix and the key as one text. Not modelled: auto-ejection (take a dead server out), the
// distributions RANDOM and VIRTUAL_BUCKET. Source: libmemcached 1.1.4, verified by linking it: 200 random
// fleets, 100,000 keys, all of the settings above. Cost: as fleet.hpp, and the hash is the larger part. For
// 15 bytes and 100 servers find takes 13 to 27 ns, a quarter to a seventh of memcached_generate_hash by the
// same hash; by MD5 120 ns, more than half, since 110 of them are the MD5. find_each takes 11 ns a key by
// one_at_a_time, an eighth of theirs, and 40 by MD5. `cairn-compare routing` shows both beside the bare hash.
// Thread safety: as fleet.hpp.
//
//   using namespace cairn::fleets;
//   libmemcached_ring<> const ring({{"10.0.0.1"}, {"10.0.0.2"}, {"10.0.0.3", 11212}});
//   libmemcached_server const& server = ring.find("user:42");
//   std::cout << server.host << ':' << server.port << '\n';
//   libmemcached_ring<md5> const by_md5({{"10.0.0.1"}, {"10.0.0.2", 11211, 3}},
//                                       libmemcached_ketama<md5>{libmemcached_weights::always});
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../detail/fleet_servers.hpp"
#include "../fleet.hpp"
#include "hashes.hpp"

namespace cairn::fleets {

/// A server as libmemcached knows it. The host is taken as it is written: a name and the address that it
/// stands for are different servers. A Unix socket is its path and port 0.
struct libmemcached_server {
    std::string host;
    std::uint16_t port = 11211;
    std::int64_t weight = 1;  ///< 0 counts as 1
    friend bool operator==(libmemcached_server const&, libmemcached_server const&) = default;
};

/// When a server has points in proportion to its weight.
enum class libmemcached_weights {
    if_any,  ///< once a weight is above 1: CONSISTENT, CONSISTENT_KETAMA and SPY, set before the servers
    always,  ///< KETAMA_WEIGHTED, CONSISTENT_WEIGHTED
    never    ///< CONSISTENT or CONSISTENT_KETAMA, set when the servers were there already
};

/// What is hashed for a point of a server.
enum class libmemcached_labels {
    plain,  ///< "host-7" for port 11211, else "host:port-7"
    spy     ///< "/host:port-7", as spymemcached does it
};

/// The ketama circles. A placement for fleet_ring. @tparam KeyHash the setting HASH.
/// @tparam PointHash what HASH was when the servers were added; the points of a weighted circle are MD5.
template <text_hash KeyHash = one_at_a_time, text_hash PointHash = KeyHash>
class libmemcached_ketama {
  public:
    using server_type = libmemcached_server;
    using position_type = std::uint32_t;
    static constexpr bool low_bits_only = requires { PointHash::bits; };
    static constexpr std::size_t max_host = 1024;
    static constexpr std::int64_t max_weight = std::numeric_limits<std::uint32_t>::max();

    constexpr explicit libmemcached_ketama(libmemcached_weights weights = libmemcached_weights::if_any,
                                           libmemcached_labels labels = libmemcached_labels::plain) noexcept
        : weights_(weights), labels_(labels) {}

    [[nodiscard]] std::uint32_t position(std::string_view key) const noexcept { return KeyHash{}(key); }
    void positions(std::span<std::string_view const> keys, std::span<std::uint32_t> out) const noexcept {
        detail::hash_each(KeyHash{}, keys, out);
    }

    /// All points. @throws std::invalid_argument for no server, a host that is empty or has a NUL, a weight
    /// below 0 or a sum of weights above max_weight; std::length_error for a host longer than max_host, or
    /// more than 65,535 servers.
    [[nodiscard]] fleet_points<std::uint32_t> points(std::span<libmemcached_server const> servers) const {
        check(servers);
        std::uint64_t const sum =
            detail::sum_of_weights("fleets::libmemcached_ketama", servers, max_weight, weight_of);
        bool const weighted = weights_ == libmemcached_weights::always ||
                              (weights_ == libmemcached_weights::if_any &&
                               std::ranges::any_of(servers, [](auto const& s) { return s.weight > 1; }));
        fleet_points<std::uint32_t> all;
        for (std::size_t i = 0; i < servers.size(); ++i) {
            if (weighted) {
                std::size_t const labels =
                    detail::labels_in_float(weight_of(servers[i]), sum, servers.size());
                detail::add_md5_points(all, stem_of(servers[i]), labels, i);
            } else {
                detail::numbered_label label(stem_of(servers[i]));
                for (std::size_t j = 0; j < 100; ++j) all.add(PointHash{}(label.with(j)), i);
            }
        }
        return all;
    }

    friend bool operator==(libmemcached_ketama const&, libmemcached_ketama const&) = default;

  private:
    [[nodiscard]] static std::uint64_t weight_of(libmemcached_server const& server) noexcept {
        return server.weight == 0 ? 1 : static_cast<std::uint64_t>(server.weight);
    }
    static void check(std::span<libmemcached_server const> servers) {
        constexpr std::string_view program = "fleets::libmemcached_ketama";
        detail::require_servers(program, servers);
        for (libmemcached_server const& server : servers) {
            detail::require_name(program, server.host, max_host);
            detail::require_weight(program, server.host, server.weight, 0, max_weight);
        }
    }
    [[nodiscard]] std::string stem_of(libmemcached_server const& server) const {
        std::string const port = ':' + std::to_string(server.port);
        if (labels_ == libmemcached_labels::spy) return '/' + server.host + port + '-';
        return server.port == 11211 ? server.host + '-' : server.host + port + '-';
    }

    libmemcached_weights weights_;
    libmemcached_labels labels_;
};

/// MODULA: the hash modulo the number of servers, whatever their weights. A rule for fleet_table.
template <text_hash KeyHash = one_at_a_time>
class libmemcached_modula {
  public:
    using server_type = libmemcached_server;

    [[nodiscard]] std::uint32_t number(std::string_view key) const noexcept { return KeyHash{}(key); }

    /// One for each server. @throws std::invalid_argument for no server; std::length_error for more than
    /// 65,535.
    [[nodiscard]] std::vector<std::uint16_t> entries(std::span<libmemcached_server const> servers) const {
        detail::require_servers("fleets::libmemcached_modula", servers);
        std::vector<std::uint16_t> one_each(servers.size());
        std::iota(one_each.begin(), one_each.end(), std::uint16_t{0});
        return one_each;
    }

    friend bool operator==(libmemcached_modula const&, libmemcached_modula const&) = default;
};

template <text_hash KeyHash = one_at_a_time, text_hash PointHash = KeyHash>
using libmemcached_ring = fleet_ring<libmemcached_ketama<KeyHash, PointHash>>;
template <text_hash KeyHash = one_at_a_time>
using libmemcached_modula_table = fleet_table<libmemcached_modula<KeyHash>>;

}  // namespace cairn::fleets
