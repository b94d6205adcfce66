// SPDX-License-Identifier: MIT
// What does it cost to find the node of a key, with the key's hash included?
#include <cairn/fleets/libmemcached.hpp>
#include <cairn/hash_ring.hpp>
#include <cairn/router.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(CAIRN_BENCH_HAVE_LIBMEMCACHED)
#include <libmemcached/memcached.h>
#endif

#include "input.hpp"
#include "questions.hpp"

namespace cairn::bench {
namespace {

constexpr std::size_t window_size = 1'024;
constexpr std::size_t stream_size = std::size_t{1} << 19;

/// Keys in the order in which they are asked for, half a million, each window another part of them.
template <class Key>
class key_stream {
  public:
    explicit key_stream(std::vector<Key> keys) : keys_(std::move(keys)) {}
    [[nodiscard]] Key const* window(std::size_t number) const noexcept {
        return keys_.data() + number % (keys_.size() / window_size) * window_size;
    }

  private:
    std::vector<Key> keys_;
};

[[nodiscard]] key_stream<std::uint64_t> integer_keys() {
    std::mt19937_64 random{11};
    std::vector<std::uint64_t> keys(stream_size);
    for (auto& key : keys) key = random();
    return key_stream<std::uint64_t>(std::move(keys));
}

/// The user's keys at random. Views into the context, which outlives the measurement.
[[nodiscard]] key_stream<std::string_view> user_keys(context const& ctx) {
    std::mt19937_64 random{12};
    std::vector<std::string_view> keys(stream_size);
    for (auto& key : keys) key = ctx.keys[random() % ctx.keys.size()];
    return key_stream<std::string_view>(std::move(keys));
}

/// Keys of 15 bytes, the length that the promised figure speaks of. They lie in one block, in order.
class keys_of_15_bytes {
  public:
    keys_of_15_bytes() : text_(stream_size * 15, 'x') {
        std::mt19937_64 random{13};
        for (char& c : text_) c = static_cast<char>('a' + random() % 26);
        std::vector<std::string_view> keys(stream_size);
        for (std::size_t i = 0; i < stream_size; ++i) keys[i] = std::string_view(text_).substr(i * 15, 15);
        stream_ = std::make_unique<key_stream<std::string_view>>(std::move(keys));
    }
    [[nodiscard]] key_stream<std::string_view> const& stream() const noexcept { return *stream_; }

  private:
    std::string text_;
    std::unique_ptr<key_stream<std::string_view>> stream_;
};

template <class Router, class Key>
[[nodiscard]] contestant one_by_one(std::string name, std::shared_ptr<Router const> router,
                                    key_stream<Key> const& keys) {
    return {std::move(name), window_size, [router = std::move(router), &keys](std::size_t number) {
                Key const* const key = keys.window(number);
                std::uint64_t sum = 0;
                for (std::size_t i = 0; i < window_size; ++i) sum += router->find_index(key[i]);
                return sum;
            }};
}

/// The same by find_each: many keys in one call. Sums the addresses, so that none is left out.
template <class Ring, class Key>
[[nodiscard]] contestant by_batch(std::string name, std::shared_ptr<Ring const> ring,
                                  key_stream<Key> const& keys) {
    auto out = std::make_shared<std::vector<typename Ring::node_type const*>>(window_size);
    return {std::move(name), window_size,
            [ring = std::move(ring), out = std::move(out), &keys](std::size_t number) {
                ring->find_each(std::span<Key const>(keys.window(number), window_size), std::span(*out));
                std::uint64_t sum = 0;
                for (auto const* node : *out) sum += reinterpret_cast<std::uintptr_t>(node);
                return sum;
            }};
}

/// An integer key as its 8 bytes, the cheapest text that a program could make of it.
[[nodiscard]] std::string_view text_of(std::uint64_t const& key) noexcept {
    return {reinterpret_cast<char const*>(&key), sizeof key};
}
[[nodiscard]] std::string_view text_of(std::string_view key) noexcept { return key; }

[[nodiscard]] std::string host_of(std::size_t i) { return "10.0.0." + std::to_string(i); }

/// libmemcached's circle, computed and searched by cairn.
class ketama_by_cairn {
  public:
    using node_type = fleets::libmemcached_server;

    explicit ketama_by_cairn(std::size_t nodes) : ring_(servers(nodes)) {}
    template <class Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        return ring_.find_index(text_of(key));
    }
    void find_each(std::span<std::string_view const> keys, std::span<node_type const*> out) const noexcept {
        ring_.find_each(keys, out);
    }
    void find_each(std::span<std::uint64_t const> keys, std::span<node_type const*> out) const noexcept {
        std::array<std::string_view, 32> texts;
        for (std::size_t done = 0; done < keys.size(); done += texts.size()) {
            auto const some = keys.subspan(done, std::min(texts.size(), keys.size() - done));
            std::ranges::transform(some, texts.begin(),
                                   [](std::uint64_t const& key) { return text_of(key); });
            ring_.find_each(std::span<std::string_view const>(texts.data(), some.size()), out.subspan(done));
        }
    }
    [[nodiscard]] node_type const& node(std::size_t index) const noexcept { return ring_.node(index); }

  private:
    static std::vector<fleets::libmemcached_server> servers(std::size_t nodes) {
        std::vector<fleets::libmemcached_server> servers;
        for (std::size_t i = 0; i < nodes; ++i) servers.push_back({host_of(i)});
        return servers;
    }
    fleets::libmemcached_ring<> ring_;
};

/// Nothing but the hash of that circle.
struct ketama_hash_only {
    template <class Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        return fleets::one_at_a_time{}(text_of(key));
    }
};

#if defined(CAIRN_BENCH_HAVE_LIBMEMCACHED)
/// libmemcached's own routing: no server is asked, memcached_generate_hash only computes.
class libmemcached {
  public:
    /// It aborts the process at the 101st host.
    static constexpr std::size_t most_hosts = 100;

    explicit libmemcached(std::size_t nodes) : handle_(memcached_create(nullptr), memcached_free) {
        memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_DISTRIBUTION,
                               MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA);
        memcached_server_list_st servers = nullptr;
        memcached_return_t error{};
        for (std::size_t i = 0; i < nodes; ++i) {
            servers = memcached_server_list_append(servers, host_of(i).c_str(), 11211, &error);
        }
        memcached_server_push(handle_.get(), servers);
        memcached_server_list_free(servers);
    }
    template <class Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        std::string_view const text = text_of(key);
        return memcached_generate_hash(handle_.get(), text.data(), text.size());
    }

  private:
    std::unique_ptr<memcached_st, decltype(&memcached_free)> handle_;
};
#endif

/// Nothing but the hash: what no router can be faster than.
struct hash_only {
    template <class Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        return xxh3{}(key);
    }
};

template <class Lookup, class Position>
using ring_of = hash_ring<std::string, Lookup, virtual_nodes<Position>>;

template <class Lookup, class Position>
[[nodiscard]] std::shared_ptr<ring_of<Lookup, Position> const> make_ring(
    std::vector<std::string> const& nodes) {
    using ring = ring_of<Lookup, Position>;
    return std::make_shared<ring const>(members_of<ring>(nodes));
}

/// All routers over these nodes and keys. Rings of all lookups must agree with each other first.
template <class Key>
[[nodiscard]] std::vector<contestant> field_of(context& ctx, std::vector<std::string> const& nodes,
                                               key_stream<Key> const& keys) {
    auto const ring_64 = make_ring<indexed, std::uint64_t>(nodes);
    auto const ring_standard = make_ring<standard, std::uint64_t>(nodes);
    auto const ring_tree = make_ring<tree, std::uint64_t>(nodes);
    for (std::size_t i = 0; i < window_size; ++i, ++ctx.checked) {
        Key const& key = keys.window(0)[i];
        require_equal(ring_64->find_index(key), ring_standard->find_index(key), "ring (standard)", "a key");
        require_equal(ring_64->find_index(key), ring_tree->find_index(key), "ring (tree)", "a key");
    }
    std::vector<contestant> field{
        one_by_one("hash only", std::make_shared<hash_only const>(), keys),
        one_by_one("ring", ring_64, keys),
        by_batch("ring, find_each", ring_64, keys),
        one_by_one("ring, 32 bit", make_ring<indexed, std::uint32_t>(nodes), keys),
        one_by_one("ring, std::lower_bound", ring_standard, keys),
        one_by_one("ring, std::map", ring_tree, keys),
        one_by_one("modulo", std::make_shared<modulo<> const>(nodes.size()), keys),
        one_by_one("multiply_shift", std::make_shared<multiply_shift<> const>(nodes.size()), keys),
        one_by_one("jump", std::make_shared<jump<> const>(nodes.size()), keys),
        one_by_one("maglev",
                   std::make_shared<maglev<std::string> const>(members_of<maglev<std::string>>(nodes)), keys),
        one_by_one("anchor",
                   std::make_shared<anchor<> const>(nodes.size(), nodes.size() + nodes.size() / 10 + 1),
                   keys),
    };
    if (nodes.size() <= 300)
        field.push_back(one_by_one(
            "rendezvous",
            std::make_shared<rendezvous<std::string> const>(members_of<rendezvous<std::string>>(nodes)),
            keys));
    if constexpr (std::is_same_v<Key, std::string_view>)
        field.push_back(one_by_one("slots", std::make_shared<slots<std::string> const>(nodes), keys));
    auto const ketama = std::make_shared<ketama_by_cairn const>(nodes.size());
    field.push_back(one_by_one("KETAMA's hash only", std::make_shared<ketama_hash_only const>(), keys));
    field.push_back(one_by_one("KETAMA by cairn", ketama, keys));
    std::vector<fleets::libmemcached_server const*> each(window_size);
    ketama->find_each(std::span<Key const>(keys.window(0), window_size), each);
    for (std::size_t i = 0; i < window_size; ++i, ++ctx.checked)
        require_equal(ketama->find_index(keys.window(0)[i]),
                      static_cast<std::uint64_t>(each[i] - &ketama->node(0)), "KETAMA, find_each", "a key");
    field.push_back(by_batch("KETAMA by cairn, find_each", ketama, keys));
#if defined(CAIRN_BENCH_HAVE_LIBMEMCACHED)
    if (nodes.size() <= libmemcached::most_hosts) {
        auto const theirs = std::make_shared<libmemcached const>(nodes.size());
        for (std::size_t i = 0; i < window_size; ++i, ++ctx.checked) {
            Key const& key = keys.window(0)[i];
            require_equal(ketama->find_index(key), theirs->find_index(key), "KETAMA by cairn", "a key");
        }
        field.push_back(one_by_one("libmemcached KETAMA", theirs, keys));
    }
#endif
    return field;
}

void declare_columns(grid& cells) {
    cells.column("hash only", "reference");
    for (auto const name : {"ring", "ring, find_each", "ring, 32 bit"}) cells.column(name, "ours");
    for (auto const name : {"ring, std::lower_bound", "ring, std::map", "modulo"})
        cells.column(name, "baseline");
    for (auto const name : {"multiply_shift", "jump", "maglev", "anchor", "rendezvous", "slots"})
        cells.column(name, "ours");
    cells.column("KETAMA's hash only", "reference");
    for (auto const name : {"KETAMA by cairn", "KETAMA by cairn, find_each"}) cells.column(name, "ours");
    cells.column("libmemcached KETAMA", "peer");
}

template <class Key>
[[nodiscard]] grid run_grid(context& ctx, std::string const& id, std::string const& title,
                            key_stream<Key> const& keys) {
    grid cells(id, title, "ns per key", "nodes");
    declare_columns(cells);
    std::vector<std::size_t> sizes{3, 10, 30, 100, 300, 1'000};
    if (ctx.user_nodes) sizes = {ctx.nodes.size()};
    for (std::size_t const size : sizes) {
        progress("routing: " + title + ", " + std::to_string(size) + " nodes");
        auto const nodes = ctx.user_nodes ? ctx.nodes : default_nodes(size).items;
        auto const result = measure(ctx, field_of(ctx, nodes, keys));
        for (auto const& name : result.names()) cells.add(static_cast<double>(size), name, result.of(name));
    }
    return cells;
}

void figures_of(context const& ctx_in, key_stream<std::uint64_t> const& integers,
                key_stream<std::string_view> const& strings, std::vector<figure>& figures) {
    context ctx = ctx_in;
    ctx.rounds = ctx.quick ? 7 : 41;
    progress("routing: the promised figures");
    auto const nodes = default_nodes(100).items;
    auto const times = [](summary const& s) {
        return number(s.median) + " x (" + number(s.low) + " to " + number(s.high) + ")";
    };
    auto const by_integer = measure(ctx, field_of(ctx, nodes, integers));
    auto const by_string = measure(ctx, field_of(ctx, nodes, strings));
    if (by_integer.has("libmemcached KETAMA")) {
        auto const integer = by_integer.ratio("libmemcached KETAMA", "ring");
        auto const string = by_string.ratio("libmemcached KETAMA", "ring");
        figures.push_back({"64-bit key to node, ring vs libmemcached KETAMA", "at least 20 x", times(integer),
                           integer.median >= 20});
        figures.push_back({"15-byte key to node, ring vs libmemcached KETAMA", "at least 10 x", times(string),
                           string.median >= 10});
        auto const each = by_string.ratio("libmemcached KETAMA", "KETAMA by cairn, find_each");
        figures.push_back({"15-byte keys, KETAMA by cairn, find_each, vs libmemcached, same hash",
                           "at least 8 x", times(each), each.median >= 8});
        auto const same_hash = by_string.ratio("libmemcached KETAMA", "KETAMA by cairn");
        auto const to_hash = by_string.ratio("KETAMA by cairn", "KETAMA's hash only");
        figures.push_back({"15-byte key, KETAMA by cairn vs libmemcached, same hash",
                           "at least 8 x, or at most 2 x the bare hash",
                           times(same_hash) + "; " + number(to_hash.median) + " x the bare hash",
                           same_hash.median >= 8 || to_hash.median <= 2});
    }
    auto const single = by_integer.ratio("ring", "maglev");
    auto const batch = by_integer.ratio("ring, find_each", "maglev");
    figures.push_back({"64-bit key to node, ring vs maglev (65,537)", "not slower than 2 x", times(single),
                       single.median <= 2});
    figures.push_back({"64-bit keys, ring.find_each vs maglev (65,537)", "not slower than 2 x", times(batch),
                       batch.median <= 2});
}

}  // namespace

answer question_routing(context& ctx) {
    answer result;
    auto const integers = integer_keys();
    auto const strings = user_keys(ctx);
    keys_of_15_bytes const fifteen;
    grid const integer_cells = run_grid(ctx, "routing-integer", "64-bit integer keys", integers);
    grid const string_cells = run_grid(ctx, "routing-string", "your keys (strings)", strings);
    figures_of(ctx, integers, fifteen.stream(), result.figures);
    result.question = {
        {"id", "routing"},
        {"title", "What does it cost to find the node of a key?"},
        {"intro",
         {"From the key to its node, the hash included. All of cairn's routers use the same hash, XXH3; "
          "libmemcached uses its own default, one-at-a-time, and so does KETAMA by cairn, which sends every "
          "key where libmemcached sends it; find_each, the form for a multi-get, hashes eight keys side by "
          "side. A ring has 160 points a node, KETAMA 100.",
          "Speed is one column of three: look at movement and balance before you choose."}},
        {"tables", {integer_cells.table(), string_cells.table()}},
        {"charts",
         {integer_cells.chart({"The hash alone is a floor. modulo and multiply_shift add an instruction or "
                               "two, maglev one load from a "
                               "table of 131 KB, the ring a load from its index and one from its owners.",
                               "jump rises with the logarithm of the nodes, rendezvous with their number. A "
                               "ring over std::lower_bound "
                               "or std::map pays for a search; over indexed it does not."}),
          string_cells.chart(
              {"With strings the hash, and the memory that the keys lie in, cost more than the routing, so "
               "the differences shrink."})}},
        {"sentences", nlohmann::json::array()}};
    return result;
}

}  // namespace cairn::bench
