// SPDX-License-Identifier: MIT
// What the placements of fleets share: checks of their servers, labels, and the counts that are computed in
// single precision.
#pragma once

#include <cfloat>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "md5.hpp"
#include "node_name.hpp"
#include "routing.hpp"

namespace cairn::detail {

/// Whether float and double here are those that the fleets compute with: IEEE, and no wider in between.
inline constexpr bool exact_floats =
    std::numeric_limits<float>::is_iec559 && std::numeric_limits<double>::is_iec559 && FLT_EVAL_METHOD == 0;

/// The most servers of a fleet: owners are kept in 16 bits.
inline constexpr std::size_t max_fleet = 65'535;

/// @throws std::invalid_argument for no server, std::length_error for more than max_fleet.
template <class Server>
void require_servers(std::string_view program, std::span<Server const> servers) {
    if (servers.empty()) refuse(program, "at least one server is needed, not zero");
    if (servers.size() > max_fleet)
        throw std::length_error("cairn::" + std::string(program) + ": at most 65,535 servers, not " +
                                std::to_string(servers.size()));
}

/// Names go through C strings there. @throws std::invalid_argument for an empty one or a NUL in it,
/// std::length_error for one of more than `most` bytes.
inline void require_name(std::string_view program, std::string_view name, std::size_t most) {
    if (name.empty()) refuse(program, "a server without a name");
    if (name.find('\0') != name.npos) refuse(program, "a NUL in the name of server " + node_name(name));
    if (name.size() > most)
        throw std::length_error("cairn::" + std::string(program) + ": the name of server " + node_name(name) +
                                " must have at most " + std::to_string(most) + " bytes, not " +
                                std::to_string(name.size()));
}

/// @throws std::invalid_argument unless least <= weight <= most.
inline void require_weight(std::string_view program, std::string_view name, std::int64_t weight,
                           std::int64_t least, std::int64_t most) {
    if (weight < least || weight > most)
        refuse(program, "the weight of server " + node_name(name) + " must be from " + std::to_string(least) +
                            " to " + std::to_string(most) + ", not " + std::to_string(weight));
}

/// @throws std::invalid_argument if the sum of the weights, each of them checked, exceeds `most`.
template <class Server, class WeightOf>
[[nodiscard]] std::uint64_t sum_of_weights(std::string_view program, std::span<Server const> servers,
                                           std::uint64_t most, WeightOf weight_of) {
    std::uint64_t sum = 0;  // 65,535 weights below 2^48 fit
    for (Server const& server : servers) sum += static_cast<std::uint64_t>(weight_of(server));
    if (sum > most)
        refuse(program,
               "the weights must sum up to at most " + std::to_string(most) + ", not " + std::to_string(sum));
    return sum;
}

/// floor(weight / sum * 40 * servers), each step rounded to float: how many labels of four points each
/// libmemcached and twemproxy give a server. In float the floor falls short now and then: of 25 equal
/// servers each gets 39 labels, so 156 points and not 160. (They add 1e-10 in the end, to prevent just
/// that. In float it is lost.)
[[nodiscard]] inline std::size_t labels_in_float(std::uint64_t weight, std::uint64_t sum,
                                                 std::size_t servers) noexcept {
    static_assert(exact_floats, "On this platform, or with these flags, the counts are not reproducible.");
    float const share = static_cast<float>(weight) / static_cast<float>(sum);
    float const labels = share * 160 / 4 * static_cast<float>(servers);
    return static_cast<std::size_t>(std::floor(labels));
}

/// The texts stem + "0", stem + "1" …, in one buffer.
class numbered_label {
  public:
    explicit numbered_label(std::string stem) : text_(std::move(stem)), stem_(text_.size()) {
        text_.resize(stem_ + most_digits);
    }
    /// Valid until the next call.
    [[nodiscard]] std::string_view with(std::size_t number) noexcept {
        char* const digits = text_.data() + stem_;
        char const* const end = std::to_chars(digits, digits + most_digits, number).ptr;
        return {text_.data(), static_cast<std::size_t>(end - text_.data())};
    }

  private:
    static constexpr std::size_t most_digits = std::numeric_limits<std::size_t>::digits10 + 1;
    std::string text_;
    std::size_t stem_;
};

/// Adds the points of a server to `all`: four for each label stem + "0", stem + "1" …, the words of its MD5.
template <class Points>
void add_md5_points(Points& all, std::string stem, std::size_t labels, std::size_t owner) {
    numbered_label label(std::move(stem));
    for (std::size_t i = 0; i < labels; ++i)
        for (std::uint32_t const point : md5(label.with(i))) all.add(point, owner);
}

}  // namespace cairn::detail
