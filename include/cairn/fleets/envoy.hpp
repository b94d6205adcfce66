// SPDX-License-Identifier: MIT
// Where Envoy and gRPC send a request under the policy ring_hash.
//
// The ring has about `minimum_ring_size` points, shared out by weight: so many that the lightest host gets a
// whole number of them. A point is the hash of "key_7", where the key is the host's address with its port
// (or its hostname, or the hash_key of its metadata, if Envoy is told to use them). A request belongs to the
// first point at or after the hash of what the route's hash policy names, a header or a cookie.
//
//   Envoy   hash_function XX_HASH       ring_hash_ring<>
//           hash_function MURMUR_HASH_2 ring_hash_ring<murmur2_64a>
//           minimum_ring_size: 4096     ... and ring_hash<>{4096}
//   gRPC    ring_hash                   ring_hash_ring<>, grpc_ring_hash()
//
// Quirks that are kept:
//   - Counts are running sums of doubles over all hosts, in their order: a host gets points while the sum of
//     points is below the sum of shares. With fractions, the order of the hosts decides who gets one more.
//   - hash_function says how points are made. What a request hashes to is xxHash64 in any case; Envoy's proxy
//     for Redis takes MurmurHash64A of the key: ring_hash<xxh64, murmur2_64a>. (With enable_hashtagging of
//     the part in braces: give find slots<>::hash_tag(key).)
//   - If maximum_ring_size cuts the ring short, a light host may have no point at all.
//   - Of two equal points either may come first there; here that of the host which stands first.
// gRPC caps the ring at 4,096 points by default, and adds the weights of an endpoint that it is given twice:
// give it once. (gRPC for Go sorts the endpoints by their keys first: do the same.) Not modelled: what
// follows a failed attempt, bounded loads (bounded_loads.hpp has its own), several hash policies combined,
// and localities of different weights.
//
// When not to use it: for a fleet of your own (placement.hpp). Source: Envoy; its points are verified by
// those of its own unit test, both hashes; the counts, and gRPC, by reading only. Cost: xxHash64, 7 ns for 15
// bytes, and 6 ns. Thread safety: as fleet.hpp.
//
//   using namespace cairn::fleets;
//   ring_hash_ring<> const cluster({{"10.0.0.1:80"}, {"10.0.0.2:80", 3}});
//   std::string const& host = cluster.find("session-17").key;
//   ring_hash_ring<> const grpc({{"10.0.0.1:80"}, {"10.0.0.2:80"}}, grpc_ring_hash());
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "../detail/fleet_servers.hpp"
#include "../detail/murmur.hpp"
#include "../fleet.hpp"
#include "../hash.hpp"

namespace cairn::fleets {

/// A hash of 64 bits: without members, pure, `noexcept`.
template <class Hash>
concept text_hash_64 = std::copyable<Hash> && std::default_initializable<Hash> &&
                       requires(Hash const& hash, std::string_view key) {
                           { hash(key) } noexcept -> std::same_as<std::uint64_t>;
                       };

/// xxHash64, seed 0.
struct xxh64 {
    [[nodiscard]] std::uint64_t operator()(std::string_view key) const noexcept {
        return XXH64(key.data(), key.size(), 0);
    }
};
/// MurmurHash64A with the seed of libstdc++'s std::hash.
struct murmur2_64a {
    [[nodiscard]] constexpr std::uint64_t operator()(std::string_view key) const noexcept {
        return detail::murmur2_64a(key, 0xc70f'6907);
    }
};

/// A host of a cluster: what names it on the ring, as a rule address and port, and its weight.
struct ring_hash_server {
    std::string key;
    std::int64_t weight = 1;
    friend bool operator==(ring_hash_server const&, ring_hash_server const&) = default;
};

/// A placement for fleet_ring. @tparam PointHash the cluster's hash_function. @tparam KeyHash what requests
/// are hashed by.
template <text_hash_64 PointHash = xxh64, text_hash_64 KeyHash = xxh64>
class ring_hash {
  public:
    using server_type = ring_hash_server;
    using position_type = std::uint64_t;
    static constexpr std::size_t max_ring_size = 8'388'608;
    static constexpr std::int64_t max_weight = 0xffff'ffff;

    /// @throws std::invalid_argument unless 1 <= minimum <= maximum <= max_ring_size.
    explicit ring_hash(std::size_t minimum = 1024, std::size_t maximum = max_ring_size)
        : minimum_(minimum), maximum_(maximum) {
        if (minimum < 1 || minimum > maximum || maximum > max_ring_size)
            detail::refuse("fleets::ring_hash",
                           "1 <= minimum <= maximum <= 8388608 does not hold for minimum = " +
                               std::to_string(minimum) + ", maximum = " + std::to_string(maximum));
    }

    [[nodiscard]] std::uint64_t position(std::string_view key) const noexcept { return KeyHash{}(key); }

    /// All points. @throws std::invalid_argument for no host, a weight below 1 or weights that sum up to 2^32
    /// or more; std::length_error for more than 65,535 hosts.
    [[nodiscard]] fleet_points<std::uint64_t> points(std::span<ring_hash_server const> hosts) const {
        static_assert(detail::exact_floats, "On this platform, or with these flags, the counts differ.");
        constexpr std::string_view program = "fleets::ring_hash";
        detail::require_servers(program, hosts);
        for (ring_hash_server const& host : hosts)
            detail::require_weight(program, host.key, host.weight, 1, max_weight);
        auto const sum = static_cast<double>(
            detail::sum_of_weights(program, hosts, max_weight, [](auto const& host) { return host.weight; }));
        auto const share_of = [&](ring_hash_server const& host) {
            return static_cast<double>(host.weight) / sum;
        };
        double const lightest = share_of(std::ranges::min(hosts, {}, &ring_hash_server::weight));
        double const scale = std::min(std::ceil(lightest * static_cast<double>(minimum_)) / lightest,
                                      static_cast<double>(maximum_));
        fleet_points<std::uint64_t> all;
        double wanted = 0;
        for (std::size_t i = 0; i < hosts.size(); ++i) {
            // Volatile: the product is rounded before it is added, also where the compiler could fuse the
            // two.
            double const volatile more = scale * share_of(hosts[i]);
            wanted += more;
            detail::numbered_label label(hosts[i].key + '_');
            for (std::size_t j = 0; static_cast<double>(all.positions.size()) < wanted; ++j)
                all.add(PointHash{}(label.with(j)), i);
        }
        return all;
    }

    friend bool operator==(ring_hash const&, ring_hash const&) = default;

  private:
    std::size_t minimum_;
    std::size_t maximum_;
};

/// gRPC's ring_hash: `cap` is its channel argument ring_size_cap. @throws as ring_hash.
[[nodiscard]] inline ring_hash<> grpc_ring_hash(std::size_t minimum = 1024, std::size_t maximum = 4096,
                                                std::size_t cap = 4096) {
    return ring_hash<>(std::min(minimum, cap), std::min(maximum, cap));
}

template <text_hash_64 PointHash = xxh64, text_hash_64 KeyHash = xxh64>
using ring_hash_ring = fleet_ring<ring_hash<PointHash, KeyHash>>;

}  // namespace cairn::fleets
