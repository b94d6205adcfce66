// SPDX-License-Identifier: MIT
// Chapter 13. The live fleet. Three caches stand before a database, and answer nearly all reads. One of them
// dies. How many reads reach the database now?
//
// The database was bought for the reads that the caches let through, say one in a hundred. If two of three
// keys are suddenly looked for where they are not, it gets as many reads in that minute as in the hour
// before, and the outage of a cache becomes an outage of everything. So the question is asked before:
// predict, then kill one, then compare.
//
// This program starts three memcached and three nodes of a Redis Cluster, on loopback, and speaks with them
// itself (13_live_fleet/protocols.hpp). The same servers are asked by the ring, by the circle of
// libmemcached's clients and by hash % n, in one run. Where a program is not installed, its part is left out;
// of Redis, 7 is the oldest that will do. Counts are asserted, times are not.
#include <cairn/fleets/libmemcached.hpp>
#include <cairn/hash_ring.hpp>
#include <cairn/router.hpp>
#include <cairn/slots.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iomanip>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "13_live_fleet/protocols.hpp"
#include "files/temporary_folder.hpp"
#include "processes/server_process.hpp"

namespace {

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

constexpr std::size_t key_count = 3'000;
constexpr double tolerance = 0.03;  // of 1/3 and 2/3: 3,000 keys by chance, and arcs that are not quite even

std::vector<std::string> const keys = [] {
    std::vector<std::string> all;
    for (std::size_t k = 0; k < key_count; ++k) all.push_back("user:" + std::to_string(k));
    return all;
}();

std::vector<std::size_t> const all_keys = [] {
    std::vector<std::size_t> all(key_count);
    std::iota(all.begin(), all.end(), std::size_t{0});
    return all;
}();

std::string percent(double share) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(1) << 100 * share;
    return text.str();
}
double share_of_keys(std::size_t count) { return static_cast<double>(count) / key_count; }

// ---- Who is asked for a key: three servers, and the same question without the second of them. ----

constexpr std::size_t server_count = 3;
constexpr std::size_t dead = 1;
constexpr std::array<char const*, server_count> hosts{"cache-a", "cache-b", "cache-c"};

struct scheme {
    std::string name;                  // also the start of each key's name: all share the servers, not keys
    std::vector<std::size_t> home;     // the server of each key
    std::vector<std::size_t> without;  // when cache-b is taken out
    bool names_what_is_away = false;   // section 3

    [[nodiscard]] std::size_t server_of(std::size_t key, bool taken_out) const {
        return taken_out ? without[key] : home[key];
    }
    [[nodiscard]] bool is_away(std::size_t key, bool taken_out) const {
        return taken_out && without[key] != home[key];
    }
    /// The two predictions. Both are computed before any server is asked.
    [[nodiscard]] std::size_t lost() const {
        return static_cast<std::size_t>(std::ranges::count(home, dead));
    }
    [[nodiscard]] std::size_t elsewhere() const {
        std::size_t count = 0;
        for (std::size_t k = 0; k < key_count; ++k) count += is_away(k, true);
        return count;
    }
};

template <class Home, class Without>
scheme make_scheme(std::string name, Home home, Without without, bool names_what_is_away = false) {
    scheme made{std::move(name), {}, {}, names_what_is_away};
    for (std::string const& key : keys) {
        made.home.push_back(home(key));
        made.without.push_back(without(key));
    }
    return made;
}

std::vector<scheme> make_schemes() {
    auto const number_of = [](std::string_view name) {
        return static_cast<std::size_t>(std::ranges::find(hosts, name) - hosts.begin());
    };
    // A thousand points each: with the usual 160 a third is a third give or take 5 points (chapter 3).
    cairn::hash_ring<> const ring({{hosts[0]}, {hosts[1]}, {hosts[2]}}, cairn::virtual_nodes<>(1'000));
    cairn::hash_ring<> ring_without = ring;
    ring_without.remove(hosts[dead]);
    auto const by_ring = [&](auto const& key) { return number_of(ring.find(key)); };
    auto const by_ring_without = [&](auto const& key) { return number_of(ring_without.find(key)); };

    // What the clients of PHP, Python and Ruby compute (chapter 12).
    cairn::fleets::libmemcached_ring<> const ketama({{hosts[0]}, {hosts[1]}, {hosts[2]}});
    cairn::fleets::libmemcached_ring<> const ketama_without({{hosts[0]}, {hosts[2]}});

    cairn::modulo<> const three(3);
    cairn::modulo<> const two(2);
    constexpr std::array<std::size_t, 2> survivors{0, 2};

    std::vector<scheme> all;
    all.push_back(make_scheme("hash_ring", by_ring, by_ring_without));
    all.push_back(make_scheme(
        "ketama", [&](auto const& key) { return ketama.find_index(key); },
        [&](auto const& key) { return number_of(ketama_without.find(key).host); }));
    all.push_back(make_scheme(
        "modulo", [&](auto const& key) { return three.find(key); },
        [&](auto const& key) { return survivors[two.find(key)]; }));
    all.push_back(make_scheme("ring+names", by_ring, by_ring_without, true));
    return all;
}

// ---- The fleet. ----

class memcached {
  public:
    memcached(std::string program, std::string const& path)
        : program_(std::move(program)), path_(path), cache(cairn::endpoint::local(path)) {
        start();
    }
    /// As memcached always starts: empty.
    void start() {
        // -u: as root it refuses to run otherwise; else it is ignored.
        process_.emplace(std::vector<std::string>{program_, "-s", path_, "-t", "1", "-m", "64", "-u", "root"},
                         path_ + ".log");
        std::array<std::string, 1> const nobody{"nobody"};
        process_->until([&] { return !cache.get(nobody)[0]; });
    }
    void kill() { process_->kill(); }

  private:
    std::string program_;
    std::string path_;
    std::optional<processes::server_process> process_;

  public:
    live::memcached_client cache;
};

/// What became of a number of reads.
struct tally {
    std::size_t hits = 0;
    std::size_t stale = 0;  // hits on a value that the database no longer has
    std::size_t misses = 0;
    std::size_t unreachable = 0;
    [[nodiscard]] double hit_rate() const {
        return static_cast<double>(hits) / static_cast<double>(hits + misses + unreachable);
    }
};

class fleet {
  public:
    fleet(std::string const& program, files::temporary_folder const& folder) {
        for (char const* const host : hosts)
            servers_.push_back(std::make_unique<memcached>(program, folder / host));
    }
    // What happens to cache-b, and what is decided about it, are two things. Between them lies the outage.
    void kill() { servers_[dead]->kill(); }
    void take_out() { taken_out_ = true, ++outages_; }
    void bring_back() {
        servers_[dead]->start();
        taken_out_ = false;
    }
    void forget_all() {
        for (auto const& server : servers_) server->cache.flush_all();
    }

    /// Read-through: asks the caches, and on a miss the database, and tells the cache. The database has
    /// `version_` of every key, and is never wrong.
    void read(scheme const& by, std::span<std::size_t const> wanted, tally& counted) {
        auto const asked = names_by_server(by, wanted);
        for (std::size_t s = 0; s < server_count; ++s) try {
                auto const values = servers_[s]->cache.get(asked[s]);
                std::vector<std::string> missing;
                for (std::size_t i = 0; i < values.size(); ++i)
                    if (!values[i]) missing.push_back(asked[s][i]);
                servers_[s]->cache.set(missing, version_);
                counted.hits += values.size() - missing.size();
                counted.misses += missing.size();
                for (auto const& value : values) counted.stale += value.value_or(version_) != version_;
            } catch (std::system_error const&) {
                counted.unreachable += asked[s].size();  // the database answers, and nobody remembers it
            }
    }
    tally read_all(scheme const& by) {
        tally counted;
        read(by, all_keys, counted);
        return counted;
    }
    /// Write-through: every key gets a new value, in the database and in the cache where it is now.
    void write_all(std::vector<scheme> const& schemes, std::string version) {
        version_ = std::move(version);
        for (scheme const& by : schemes) {
            auto const written = names_by_server(by, all_keys);
            for (std::size_t s = 0; s < server_count; ++s) servers_[s]->cache.set(written[s], version_);
        }
    }

  private:
    [[nodiscard]] std::array<std::vector<std::string>, server_count> names_by_server(
        scheme const& by, std::span<std::size_t const> wanted) const {
        std::array<std::vector<std::string>, server_count> names;
        for (std::size_t const key : wanted) names[by.server_of(key, taken_out_)].push_back(name_of(by, key));
        return names;
    }
    [[nodiscard]] std::string name_of(scheme const& by, std::size_t key) const {
        std::string name = by.name + '/';
        if (by.names_what_is_away && by.is_away(key, taken_out_))
            name += "outage-" + std::to_string(outages_) + '/';
        return name + keys[key];
    }

    std::vector<std::unique_ptr<memcached>> servers_;
    std::string version_ = "first";
    bool taken_out_ = false;
    int outages_ = 0;
};

// ---- 1 and 2. Predict, kill, compare. ----

void show_outage(fleet& servers, std::vector<scheme> const& schemes) {
    std::cout << "1. The prediction, before any server is asked\n"
                 "  A third of the keys are cache-b's. They are lost with it, whoever routes. What else?\n"
                 "  The ring: nothing. Of the keys of a and c none moves.\n"
                 "  hash % 3 becomes hash % 2: only where both agree is a key found, for 2 of the 6\n"
                 "  remainders of hash % 6. Two thirds miss.\n\n                 cache-b's keys    keys "
                 "that will be looked for elsewhere, all in all\n";
    for (scheme const& by : schemes)
        if (!by.names_what_is_away)
            std::cout << "  " << std::left << std::setw(12) << by.name << std::right << std::setw(15)
                      << percent(share_of_keys(by.lost())) << " %" << std::setw(25)
                      << percent(share_of_keys(by.elsewhere())) << " %\n";

    struct moment {
        char const* what;
        std::function<void()> before;
        std::function<double(scheme const&)> predicted;
    };
    auto const all = [](scheme const&) { return 1.0; };
    auto const but = [](std::size_t count) { return 1 - share_of_keys(count); };
    std::array const moments{
        moment{"empty", [] {}, [](scheme const&) { return 0.0; }},
        moment{"filled", [] {}, all},
        moment{"cache-b is dead, and still asked", [&] { servers.kill(); },
               [&](scheme const& by) { return but(by.lost()); }},
        moment{"taken out: the first read of each key", [&] { servers.take_out(); },
               [&](scheme const& by) { return but(by.elsewhere()); }},
        moment{"the second read of each key", [] {}, all},
    };
    std::cout << "\n2. Three memcached servers, " << key_count
              << " keys, each read once in each line: hits in %, measured (predicted)\n"
              << std::string(40, ' ');
    for (scheme const& by : schemes) std::cout << std::setw(17) << by.name;
    std::cout << '\n';
    bool as_predicted = true;
    std::vector<double> after;
    for (moment const& now : moments) {
        now.before();
        std::cout << "  " << std::left << std::setw(38) << now.what << std::right;
        for (scheme const& by : schemes) {
            double const hits = servers.read_all(by).hit_rate();
            double const predicted = now.predicted(by);
            std::cout << std::setw(17) << percent(hits) + " (" + percent(predicted) + ')';
            as_predicted = as_predicted && std::abs(hits - predicted) < 1e-9;
            if (&now == &moments[3]) after.push_back(1 - hits);
        }
        std::cout << '\n';
    }
    check(as_predicted, "each hit rate is the predicted one, to the key");
    check(std::abs(after[0] - 1.0 / 3) < tolerance,
          "on the ring 1/3 of the keys miss, give or take 3 points");
    check(std::abs(after[2] - 2.0 / 3) < tolerance, "by modulo 2/3 of the keys miss, give or take 3 points");
}

// ---- 3. Broken on purpose: a hit is not yet a right answer. ----

void show_stale(fleet& servers, std::vector<scheme> const& schemes) {
    std::cout << "\n3. Meanwhile the users go on: hits in %, and of all answers those that are out of date\n"
              << std::string(40, ' ');
    for (scheme const& by : schemes) std::cout << std::setw(17) << by.name;
    auto const read = [&](char const* what) {
        std::cout << "\n  " << std::left << std::setw(38) << what << std::right;
        std::vector<std::size_t> stale;
        for (scheme const& by : schemes) {
            tally const counted = servers.read_all(by);
            std::cout << std::setw(17)
                      << percent(counted.hit_rate()) + ", " + percent(share_of_keys(counted.stale));
            stale.push_back(counted.stale);
        }
        return stale;
    };
    servers.write_all(schemes, "second");  // each into the cache that has the key now
    auto const while_out = read("all written while cache-b is out");
    servers.bring_back();
    auto const back = read("cache-b is back, empty");
    servers.write_all(schemes, "third");
    servers.kill();
    servers.take_out();
    auto const again = read("all written, and cache-b dies again");
    std::cout << '\n';
    // By modulo the keys that moved between a and c left their old values at home, and now they are home
    // again. On the ring only cache-b's keys were away, and cache-b has come back empty. But what they left
    // in a and c waits there, for the next time.
    check(while_out == std::vector<std::size_t>(schemes.size(), 0),
          "while the routers stay, nothing is stale");
    check(back[0] == 0 && back[1] == 0, "back: on a circle nothing is stale");
    check(back[2] == schemes[2].elsewhere() - schemes[2].lost(),
          "back: by modulo those keys are stale that had moved between living servers, a third of all");
    check(again[0] == schemes[0].lost() && again[1] == schemes[1].lost(),
          "the second time, the circles too find what was left behind: all keys of cache-b are stale");
    // The remedy: a key that is not at home has the number of the outage in its name, so that no outage sees
    // what another one has left. memcached drops the old ones when it wants the room.
    check(back[3] == 0 && again[3] == 0, "with the number of the outage in the name of what is away: none");
}

// ---- 4. Traffic: a few keys get most of the reads. ----

void show_traffic(fleet& servers, std::vector<scheme> const& schemes) {
    constexpr std::size_t window = 1'000;  // reads
    constexpr std::size_t windows = 12;
    std::array<std::size_t, 10> page{};  // so many reads go out together
    constexpr std::size_t killed = 2;
    constexpr std::size_t taken_out = 4;
    servers.bring_back();
    servers.forget_all();

    // Zipf: user 0 is read twice as often as user 1, three times as often as user 2 ...
    std::vector<double> odds(key_count);
    std::vector<double> up_to(key_count);
    double sum = 0;
    for (std::size_t k = 0; k < key_count; ++k) up_to[k] = sum += odds[k] = 1 / static_cast<double>(k + 1);
    for (double& one : odds) one /= sum;
    std::mt19937_64 random(16);
    auto const draw = [&] {
        double const at = static_cast<double>(random() >> 11) * 0x1p-53 * sum;
        auto const found = std::ranges::upper_bound(up_to, at);
        return std::min(static_cast<std::size_t>(found - up_to.begin()), key_count - 1);
    };
    // A lost key costs one miss, the first time that it is read; it is not read in t reads with the odds
    // (1 - p)^t. The sum over all lost keys is what the database will see.
    auto const predicted = [&](scheme const& by, std::size_t at) {
        double misses = 0;
        for (std::size_t k = 0; k < key_count; ++k) {
            if (at >= killed && at < taken_out && by.home[k] == dead) misses += odds[k];
            if (at < taken_out || !by.is_away(k, true)) continue;
            double const since = static_cast<double>((at - taken_out) * window);
            misses += (std::pow(1 - odds[k], since) - std::pow(1 - odds[k], since + window)) / window;
        }
        return 1 - misses;
    };

    std::array<scheme const*, 2> const shown{&schemes[0], &schemes[2]};
    for (scheme const* const by : shown) servers.read_all(*by);
    std::cout << "\n4. Traffic that has favourites (Zipf): hits in % of each " << window
              << " reads, measured (predicted)\n                ";
    for (scheme const* const by : shown) std::cout << std::left << std::setw(37) << by->name << std::right;
    std::cout << '\n';
    std::array<std::size_t, 2> to_database{};
    double worst = 0;
    for (std::size_t at = 0; at < windows; ++at) {
        if (at == killed) servers.kill();
        if (at == taken_out) servers.take_out();
        std::array<tally, 2> counted{};
        for (std::size_t i = 0; i < window; i += page.size()) {
            std::ranges::generate(page, draw);
            for (std::size_t s = 0; s < shown.size(); ++s) servers.read(*shown[s], page, counted[s]);
        }
        std::cout << "  " << std::setw(5) << at * window
                  << (at == killed      ? "  killed "
                      : at == taken_out ? "  out    "
                                        : "         ");
        for (std::size_t s = 0; s < shown.size(); ++s) {
            double const hits = counted[s].hit_rate();
            double const expected = predicted(*shown[s], at);
            worst = std::max(worst, std::abs(hits - expected));
            to_database[s] += at < taken_out ? 0 : window - counted[s].hits;
            std::string const numbers = percent(hits) + " (" + percent(expected) + ") ";
            auto const bar = static_cast<std::size_t>(hits * 20 + 0.5);
            std::cout << std::setw(15) << numbers << std::left << std::setw(22) << std::string(bar, '#')
                      << std::right;
        }
        std::cout << '\n';
    }
    std::cout << "  since it is out, the database has got " << to_database[0] << " reads by the ring, and "
              << to_database[1] << " by modulo\n";
    check(worst < 0.05, "no window is further than 5 points from its prediction");
    check(to_database[1] > to_database[0] * 3 / 2, "by modulo the database gets more than 1.5 times as many");
}

// ---- 5. Redis Cluster: a table in between, and servers that know it. ----

struct redis_node {
    std::uint16_t port;
    std::uint16_t bus;  // where nodes speak with each other
    std::string address;
    processes::server_process process;
    live::redis_client redis;
    std::string id;
};

// One round trip for each key here, so fewer keys.
std::span<std::string const> const redis_keys = std::span(keys).first(600);

class redis_cluster {
  public:
    using table = cairn::slots<std::string>;  // of addresses, as Redis writes them

    redis_cluster(std::string const& program, files::temporary_folder const& folder) {
        for (int attempt = 0;; ++attempt) {
            try {
                start(program, folder, std::to_string(attempt));
                join(make_table());
                return;
            } catch (std::runtime_error const&) {  // another program may have taken a port meanwhile
                if (attempt == 2) throw;
                nodes_.clear();
            }
        }
    }

    [[nodiscard]] table make_table() const {
        std::vector<std::string> addresses;
        for (auto const& node : nodes_) addresses.push_back(node->address);
        return table(addresses);
    }
    /// News travel by gossip, within about a second. A node also waits two seconds after its start.
    void wait_until_all_agree() {
        for (auto const& node : nodes_)
            node->process.until([&] {
                std::string const info = node->redis.must({"CLUSTER", "INFO"});
                return info.find("cluster_state:ok") != info.npos &&
                       info.find("cluster_slots_ok:16384") != info.npos;
            });
    }
    void kill(std::size_t node) { nodes_[node]->process.kill(); }
    /// What an operator does if a node without replicas is gone for good.
    void apply(std::vector<table::move> const& moves, std::size_t gone) {
        std::string const id = nodes_[gone]->id;
        nodes_.erase(nodes_.begin() + static_cast<std::ptrdiff_t>(gone));
        for (auto const& node : nodes_) node->redis.must({"CLUSTER", "FORGET", id});
        for (auto const& move : moves) give(number_of(move.to), move.first, move.last);
        wait_until_all_agree();
    }
    [[nodiscard]] std::string address(std::size_t node) const { return nodes_[node]->address; }
    /// The client of an address. @throws std::system_error for one that is not there any more.
    live::redis_client& at(std::string const& address) {
        std::size_t const node = number_of(address);
        if (node == nodes_.size())
            throw std::system_error(std::make_error_code(std::errc::host_unreachable), address);
        return nodes_[node]->redis;
    }
    live::redis_client& any() { return nodes_[0]->redis; }

  private:
    void start(std::string const& program, files::temporary_folder const& folder,
               std::string const& attempt) {
        auto const ports = processes::free_ports(2 * server_count);
        for (std::size_t i = 0; i < server_count; ++i) {
            std::string const name = folder / ("redis-" + attempt + '-' + std::to_string(i));
            std::uint16_t const port = ports[2 * i];
            std::uint16_t const bus = ports[2 * i + 1];
            processes::server_process process({program,
                                               "--port",
                                               std::to_string(port),
                                               "--cluster-port",
                                               std::to_string(bus),
                                               "--bind",
                                               "127.0.0.1",
                                               "--cluster-enabled",
                                               "yes",
                                               "--cluster-config-file",
                                               name + ".nodes",
                                               "--cluster-require-full-coverage",
                                               "no",
                                               "--cluster-node-timeout",
                                               "5000",
                                               "--save",
                                               "",
                                               "--appendonly",
                                               "no",
                                               "--dir",
                                               folder / "."},
                                              name + ".log");
            auto one =
                std::make_unique<redis_node>(redis_node{port,
                                                        bus,
                                                        "127.0.0.1:" + std::to_string(port),
                                                        std::move(process),
                                                        live::redis_client(cairn::endpoint::loopback(port)),
                                                        {}});
            one->process.until([&] { return one->redis.must({"PING"}) == "PONG"; });
            one->id = one->redis.must({"CLUSTER", "MYID"});
            nodes_.push_back(std::move(one));
        }
    }
    /// Tells each node its slots, and where the others are. What slots those have, they tell each other. Two
    /// nodes that only a third one knows hear of each other too, but that may take seconds.
    void join(table const& agreed) {
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
            nodes_[i]->redis.must({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
            for (std::size_t slot = 0; slot < table::slot_count;) {
                std::size_t last = slot;
                while (last < table::slot_count && agreed.owners()[last] == agreed.owners()[slot]) ++last;
                if (agreed.owners()[slot] == i) give(i, slot, last - 1);
                slot = last;
            }
        }
        for (std::size_t i = 0; i < nodes_.size(); ++i)
            for (std::size_t j = i + 1; j < nodes_.size(); ++j)
                nodes_[i]->redis.must({"CLUSTER", "MEET", "127.0.0.1", std::to_string(nodes_[j]->port),
                                       std::to_string(nodes_[j]->bus)});
    }
    [[nodiscard]] std::size_t number_of(std::string const& address) const {
        return static_cast<std::size_t>(
            std::ranges::find(nodes_, address, [](auto const& node) { return node->address; }) -
            nodes_.begin());
    }
    void give(std::size_t node, std::size_t first, std::size_t last) {
        nodes_[node]->redis.must({"CLUSTER", "ADDSLOTSRANGE", std::to_string(first), std::to_string(last)});
    }

    std::vector<std::unique_ptr<redis_node>> nodes_;
};

/// A client with a table of its own, which may be out of date.
struct redis_reader {
    redis_cluster& cluster;
    redis_cluster::table table;
    std::size_t in_vain = 0;  // questions to a node that does not answer
    std::size_t moved = 0;    // answers "MOVED 8000 127.0.0.1:7002": ask there, now and always
    bool asks_others = false;

    /// Read-through, as before.
    void read(std::string const& key, tally& counted) {
        try {
            auto const value = ask(key, {"GET", key}).text;
            if (value)
                ++counted.hits;
            else
                ++counted.misses, ask(key, {"SET", key, "first"});
        } catch (std::system_error const&) {
            ++counted.unreachable;
        }
    }
    tally read_all() {
        tally counted;
        for (std::string const& key : redis_keys) read(key, counted);
        return counted;
    }

  private:
    live::redis_client::reply ask(std::string const& key, std::initializer_list<std::string_view> words) {
        std::string node = table.find(key);
        for (int attempt = 0; attempt < 5; ++attempt) {
            live::redis_client::reply answer{};
            try {
                answer = cluster.at(node).command(words);
            } catch (std::system_error const&) {
                ++in_vain;
                if (!asks_others) throw;
                node = cluster.address(0);  // any node knows who has a slot
                continue;
            }
            if (answer.kind != '-') {
                std::size_t const slot = table.slot_of(key);
                if (table.find(key) != node) table.assign(slot, slot, node);
                return answer;
            }
            if (!answer.text->starts_with("MOVED ")) throw std::runtime_error("redis: " + *answer.text);
            ++moved;
            node = answer.text->substr(answer.text->rfind(' ') + 1);
        }
        throw std::system_error(std::make_error_code(std::errc::host_unreachable), key);
    }
};

void show_redis(redis_cluster& cluster) {
    std::cout << "\n5. Redis Cluster: three nodes, 16,384 slots, " << redis_keys.size()
              << " keys: hits in %, measured (predicted)\n";
    auto agreed = cluster.make_table();
    cluster.wait_until_all_agree();
    redis_reader told{cluster, agreed};
    redis_reader untold{cluster, agreed};  // hears nothing of what follows
    untold.asks_others = true;
    std::string const gone = cluster.address(dead);
    std::size_t lost = 0;
    std::set<std::size_t> lost_slots;
    for (std::string const& key : redis_keys)
        if (agreed.find(key) == gone) ++lost, lost_slots.insert(agreed.slot_of(key));

    double const lost_share = static_cast<double>(lost) / static_cast<double>(redis_keys.size());
    bool as_predicted = true;
    auto const read = [&](char const* what, double predicted) {
        double const hits = told.read_all().hit_rate();
        std::cout << "  " << std::left << std::setw(38) << what << std::right << std::setw(17)
                  << percent(hits) + " (" + percent(predicted) + ')' << '\n';
        as_predicted = as_predicted && std::abs(hits - predicted) < 1e-9;
    };
    read("empty", 0);
    read("filled", 1);
    cluster.kill(dead);
    read("the second node is dead, still asked", 1 - lost_share);
    auto const moves = agreed.remove(gone);
    cluster.apply(moves, dead);
    for (auto const& move : moves) {
        std::cout << "    slots " << move.first << " to " << move.last << " to " << move.to << '\n';
        told.table.assign(move.first, move.last, move.to);
    }
    read("its slots given to the others", 1 - lost_share);
    read("the second read of each key", 1);
    check(as_predicted, "each hit rate is the predicted one, to the key");
    check(std::abs(lost_share - 1.0 / 3) < tolerance, "1/3 of the keys miss, give or take 3 points");
    check(told.moved == 0, "a client that was told of the moves is never sent elsewhere");

    std::cout << "  A client that was not told, and asks another node when one does not answer:\n";
    bool found_all = true;
    std::array<std::size_t, 2> in_vain{};
    for (std::size_t& now : in_vain) {
        std::size_t const before = untold.in_vain;
        std::size_t const moved_before = untold.moved;
        found_all = untold.read_all().hits == redis_keys.size() && found_all;
        now = untold.in_vain - before;
        std::cout << "    asked in vain " << std::setw(4) << now << " times, sent elsewhere (MOVED) "
                  << std::setw(4) << untold.moved - moved_before << " times\n";
    }
    check(found_all, "it finds every key all the same");
    check(in_vain[0] == lost_slots.size() && in_vain[1] == 0,
          "it asks in vain once for each slot that is gone, and never again");
    check(untold.moved > 0 && untold.moved < lost_slots.size(),
          "MOVED came for those slots that the node which was asked does not have itself");
}

}  // namespace

int main() {
    try {
        files::temporary_folder const folder;
        std::string const redis_program = processes::find_program("redis-server");
        std::string const memcached_program = processes::find_program("memcached");
        // Redis first: it wants two seconds after its start, which pass while memcached is asked.
        std::optional<redis_cluster> cluster;
        if (!redis_program.empty()) cluster.emplace(redis_program, folder);
        if (memcached_program.empty()) {
            std::cout << "1 to 4 are left out: memcached is not installed here\n";
        } else {
            auto const schemes = make_schemes();
            fleet servers(memcached_program, folder);
            show_outage(servers, schemes);
            show_stale(servers, schemes);
            show_traffic(servers, schemes);
        }
        if (cluster)
            show_redis(*cluster);
        else
            std::cout << "\n5 is left out: redis-server is not installed here\n";
    } catch (std::exception const& error) {
        std::cout << "\n  WRONG: " << error.what() << '\n';
        return 1;
    }
    std::cout
        << "\nA ring costs a search and memory, and a table costs agreement; modulo costs neither, until "
           "the\n"
           "day when a server dies. Nothing that routes can save the third that dies with it: only a second\n"
           "copy can (chapter 3), or a database that bears the reads of the first minute.\n"
           "All of these servers were written by others. What one is made of begins with chapter 14.\n";
    // Exercises (answers: README.md):
    // 1. Start four servers. What misses when one dies, by the ring and by modulo?
    // 2. Stop a server (SIGSTOP) instead of killing it. What does each read of its keys cost now, and what
    //    should a client remember?
    // 3. At its first MOVED, let the client fetch the whole table (CLUSTER SLOTS). How often does it ask in
    //    vain then?
    return failures == 0 ? 0 : 1;
}
