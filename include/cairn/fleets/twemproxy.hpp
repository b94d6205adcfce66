// SPDX-License-Identifier: MIT
// Where twemproxy (nutcracker), the proxy before memcached and Redis, puts a key: ketama and modula.
//
// A pool of its configuration names a hash, a distribution, perhaps a hash_tag, and servers as
// "host:port:weight name". cairn takes the same:
//
//   hash: fnv1a_64  distribution: ketama     twemproxy_ring<>
//   hash: md5       distribution: ketama     twemproxy_ring<md5>
//   hash: crc32a    distribution: modula     twemproxy_modula_table<crc32a>
//   hash_tag: "{}"                           ... and {"{}"}
//
// ketama: a server has about 160 points a unit of its share, four for each MD5 of a label "name-7". The name
// is the one given; without one it is "host:port", or "host" alone for port 11211. modula: the hash modulo
// the sum of all weights, a server being there once for each unit.
//
// Quirks that are kept:
//   - Counts are computed in float and fall short at 25, 47, 50, 100 … equal servers, as libmemcached's do;
//     a server much lighter than the others has no point at all.
//   - fnv1a_64 is 32 bits of constants that were cut off; crc32 has 15 bits (crc32a all 32); crc16 grows
//     beyond 16; bytes from 0x80 on count as negative: see hashes.hpp.
//   - With names, only names count: servers can be exchanged, and keys stay with the name.
//   - A Unix socket is its path and port 0; without a name its label is the path and a colon.
//   - modula takes the servers in the order of their names, not of the file: the shorter name first, names of
//     one length by their bytes. A server on port 9999 comes before one on port 10000.
//   - A tag counts only if it is not empty: of "{}a" the whole is hashed.
//   - Of two points at one position either server may have it there; here the first of the list.
// On purpose otherwise: a label longer than its buffer of 86 bytes makes it read beyond; here that is an
// exception. Not modelled: distribution `random`, and auto_eject_hosts: take a dead server out of the list.
//
// When not to use it: for a fleet of your own (placement.hpp). Source: nutcracker 0.5.0, verified by asking
// it: all its hashes, both distributions, names, tags. Cost, thread safety: as fleet.hpp.
//
//   using namespace cairn::fleets;
//   twemproxy_ring<> const pool({{"10.0.0.1", 11211}, {"10.0.0.2", 11211, 3}},
//                               twemproxy_ketama<>{"{}"});
//   bool const together = pool.find("{user:42}.a") == pool.find("{user:42}.b");
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../detail/fleet_servers.hpp"
#include "../fleet.hpp"
#include "hashes.hpp"

namespace cairn::fleets {

/// A server of a pool. A name, if there is one, takes the place of host and port. A Unix socket is its path
/// and port 0.
struct twemproxy_server {
    std::string host;
    std::uint16_t port = 11211;
    std::int64_t weight = 1;
    std::string name = {};
    friend bool operator==(twemproxy_server const&, twemproxy_server const&) = default;

    /// What its points are made of.
    [[nodiscard]] std::string label() const {
        if (!name.empty()) return name;
        if (port == 0) return host + ':';
        return port == 11211 ? host : host + ':' + std::to_string(port);
    }
};

/// What of a key counts: the text between the first of two characters and the next of the other, if there is
/// any, else the whole key. Without the two, the whole key.
class twemproxy_hash_tag {
  public:
    constexpr twemproxy_hash_tag() noexcept = default;
    /// @throws std::invalid_argument unless it is two characters.
    constexpr explicit twemproxy_hash_tag(std::string_view two_characters) : is_set_(true) {
        if (two_characters.size() != 2)
            detail::refuse("fleets::twemproxy_hash_tag",
                           "two characters are needed, not " + detail::node_name(two_characters));
        open_ = two_characters[0];
        close_ = two_characters[1];
    }
    [[nodiscard]] constexpr std::string_view of(std::string_view key) const noexcept {
        if (!is_set_) return key;
        std::size_t const open = key.find(open_);
        if (open == key.npos) return key;
        std::size_t const close = key.find(close_, open + 1);
        return close == key.npos || close == open + 1 ? key : key.substr(open + 1, close - open - 1);
    }
    friend bool operator==(twemproxy_hash_tag const&, twemproxy_hash_tag const&) = default;

  private:
    bool is_set_ = false;
    char open_ = 0;
    char close_ = 0;
};

}  // namespace cairn::fleets

namespace cairn::detail {

/// The sum of the weights of a pool's servers. @throws as twemproxy_ketama::points.
[[nodiscard]] inline std::uint64_t twemproxy_weights(std::string_view program,
                                                     std::span<fleets::twemproxy_server const> servers,
                                                     std::int64_t most) {
    constexpr std::size_t label_buffer = 86;
    constexpr std::size_t number_and_end = sizeof "-4294967295";
    require_servers(program, servers);
    std::vector<std::string> labels;
    for (fleets::twemproxy_server const& server : servers) {
        labels.push_back(server.label());
        require_name(program, labels.back(), label_buffer - number_and_end);
        require_weight(program, labels.back(), server.weight, 1, most);
    }
    std::ranges::sort(labels);
    if (auto const twice = std::ranges::adjacent_find(labels); twice != labels.end())
        refuse(program, "duplicate server " + node_name(*twice));
    return sum_of_weights(program, servers, static_cast<std::uint64_t>(most),
                          [](auto const& server) { return server.weight; });
}

}  // namespace cairn::detail

namespace cairn::fleets {

/// distribution: ketama. A placement for fleet_ring. @tparam Hash the pool's hash.
template <text_hash Hash = fnv1a_64>
class twemproxy_ketama {
  public:
    using server_type = twemproxy_server;
    using position_type = std::uint32_t;

    constexpr twemproxy_ketama() noexcept = default;
    /// @throws std::invalid_argument unless the pool's hash_tag is two characters.
    constexpr explicit twemproxy_ketama(std::string_view hash_tag) : tag_(hash_tag) {}

    [[nodiscard]] std::uint32_t position(std::string_view key) const noexcept { return Hash{}(tag_.of(key)); }
    void positions(std::span<std::string_view const> keys, std::span<std::uint32_t> out) const noexcept {
        std::string_view tags[8];
        for (std::size_t done = 0; done < keys.size(); done += 8) {
            auto const eight = keys.subspan(done, std::min<std::size_t>(8, keys.size() - done));
            std::ranges::transform(eight, tags, [&](auto const& key) { return tag_.of(key); });
            detail::hash_each(Hash{}, std::span(tags, eight.size()), out.subspan(done));
        }
    }

    /// All points. @throws std::invalid_argument for no server, duplicate names, an empty one or one with a
    /// NUL, a weight below 1, weights that sum up to 2^31 or more; std::length_error for a name of more than
    /// 74 bytes, or more than 65,535 servers.
    [[nodiscard]] fleet_points<std::uint32_t> points(std::span<twemproxy_server const> servers) const {
        std::uint64_t const sum = detail::twemproxy_weights("fleets::twemproxy_ketama", servers, 0x7fff'ffff);
        fleet_points<std::uint32_t> all;
        for (std::size_t i = 0; i < servers.size(); ++i) {
            std::size_t const labels =
                detail::labels_in_float(static_cast<std::uint64_t>(servers[i].weight), sum, servers.size());
            detail::add_md5_points(all, servers[i].label() + '-', labels, i);
        }
        return all;
    }

    friend bool operator==(twemproxy_ketama const&, twemproxy_ketama const&) = default;

  private:
    twemproxy_hash_tag tag_;
};

/// distribution: modula. A rule for fleet_table.
template <text_hash Hash = fnv1a_64>
class twemproxy_modula {
  public:
    using server_type = twemproxy_server;
    static constexpr std::int64_t max_entries = std::int64_t{1} << 24;

    constexpr twemproxy_modula() noexcept = default;
    /// @throws std::invalid_argument unless the pool's hash_tag is two characters.
    constexpr explicit twemproxy_modula(std::string_view hash_tag) : tag_(hash_tag) {}

    [[nodiscard]] std::uint32_t number(std::string_view key) const noexcept { return Hash{}(tag_.of(key)); }

    /// Each server as often as its weight says, in the order of the names. @throws as
    /// twemproxy_ketama::points; std::invalid_argument for weights that sum up to more than max_entries.
    [[nodiscard]] std::vector<std::uint16_t> entries(std::span<twemproxy_server const> servers) const {
        std::uint64_t const sum = detail::twemproxy_weights("fleets::twemproxy_modula", servers, max_entries);
        std::vector<std::pair<std::string, std::uint16_t>> order;
        for (std::size_t i = 0; i < servers.size(); ++i)
            order.emplace_back(servers[i].label(), static_cast<std::uint16_t>(i));
        std::ranges::sort(order, [](auto const& a, auto const& b) {
            return a.first.size() != b.first.size() ? a.first.size() < b.first.size() : a.first < b.first;
        });
        std::vector<std::uint16_t> all;
        all.reserve(sum);
        for (auto const& [label, i] : order)
            all.insert(all.end(), static_cast<std::size_t>(servers[i].weight), i);
        return all;
    }

    friend bool operator==(twemproxy_modula const&, twemproxy_modula const&) = default;

  private:
    twemproxy_hash_tag tag_;
};

template <text_hash Hash = fnv1a_64>
using twemproxy_ring = fleet_ring<twemproxy_ketama<Hash>>;
template <text_hash Hash = fnv1a_64>
using twemproxy_modula_table = fleet_table<twemproxy_modula<Hash>>;

}  // namespace cairn::fleets
