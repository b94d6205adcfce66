// SPDX-License-Identifier: MIT
// Chapter 12. Fleets. Five caches have been filled by another program. Yours is to read what is there.
// Which of the five has a key?
//
// The one that the other program chose. Each client library hashes keys to a circle, but which hash, which
// points and which names make the circle is a convention, and no two are alike. So this program first asks
// three conventions about the same keys. Then it fills five memcached through libmemcached and reads them in
// two ways: by the same circle, which finds every key at the first server that it asks, and by a ring of its
// own, which is more even and faster, and misses most of the keys. Last, Redis Cluster, where nobody computes
// a circle: a key has a slot, and a table says which node has it.
//
// The fleet needs memcached and libmemcached; without them the program says so and goes on with what needs
// none.
#include <cairn/fleets/libmemcached.hpp>
#include <cairn/hash_ring.hpp>
#include <cairn/router.hpp>
#include <cairn/slots.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iomanip>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(CAIRN_EXAMPLE_HAVE_LIBMEMCACHED) && defined(__linux__)
#include <arpa/inet.h>
#include <libmemcached/memcached.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "files/temporary_folder.hpp"
#include "processes/server_process.hpp"
#endif

namespace {

namespace fleets = cairn::fleets;

int failures = 0;

void check(bool holds, char const* claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

std::vector<std::string> users(std::size_t count) {
    std::vector<std::string> keys;
    for (std::size_t i = 0; i < count; ++i) keys.push_back("user:" + std::to_string(i));
    return keys;
}

// ---- 1. The circle is a convention. ----

void show_circles() {
    std::cout << "1. The same servers, the same keys, three conventions\n";
    std::vector<fleets::libmemcached_server> const servers{
        {"10.0.0.1"}, {"10.0.0.2"}, {"10.0.0.3"}, {"10.0.0.4"}};
    fleets::libmemcached_ring<> const theirs(servers);
    fleets::libmemcached_ring<fleets::md5> const weighted(
        servers, fleets::libmemcached_ketama<fleets::md5>{fleets::libmemcached_weights::always});
    cairn::hash_ring<> const ours{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"};
    for (char const* const key : {"user:1", "user:2", "user:3"})
        std::cout << "  " << key << "   KETAMA: " << theirs.find(key).host
                  << "   KETAMA_WEIGHTED: " << weighted.find(key).host << "   cairn's own: " << ours.find(key)
                  << '\n';
    auto const keys = users(20'000);
    auto const agree = [&](auto const& a, auto const& b) {
        std::size_t same = 0;
        for (auto const& key : keys) same += a.find_index(key) == b.find_index(key);
        return static_cast<double>(same) / static_cast<double>(keys.size());
    };
    double const by_weight = agree(theirs, weighted);
    double const by_ours = agree(theirs, ours);
    std::cout << "  agree with KETAMA: " << by_weight << " and " << by_ours << " of the keys\n";
    check(std::abs(by_weight - 0.25) < 0.05 && std::abs(by_ours - 0.25) < 0.05,
          "two conventions agree about as often as chance: one key in four");
    // A weight above 1 anywhere, and libmemcached changes to the weighted circle without being asked to.
    auto heavier = servers;
    heavier[0].weight = 2;
    fleets::libmemcached_ring<> const heavy(heavier);
    auto const moved = cairn::movement(theirs, heavy, keys);
    double const enough = 2.0 / 5 - 1.0 / 4;  // its share was one of four, and is two of five
    std::cout << "  one weight from 1 to 2: " << moved.fraction() << " of the keys move; " << enough
              << " would do\n";
    check(moved.fraction() > 0.5, "the first weight throws the whole cache away");
}

// ---- 2. A fleet that others have filled. ----

#if defined(CAIRN_EXAMPLE_HAVE_LIBMEMCACHED) && defined(__linux__)

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/// One connection to a memcached, and the two lines of its protocol that are needed.
class client {
  public:
    explicit client(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
        timeval const patience{5, 0};
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        sockaddr_in const address = loopback(port);
        connected_ = connect(fd_, reinterpret_cast<sockaddr const*>(&address), sizeof address) == 0;
    }
    ~client() { close(fd_); }
    client(client const&) = delete;
    client& operator=(client const&) = delete;
    [[nodiscard]] bool connected() const { return connected_; }

    /// Whether the server has the key. Its answer ends with "END\r\n" either way.
    [[nodiscard]] bool has(std::string const& key) const {
        std::string const request = "get " + key + "\r\n";
        if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) < 0) return false;
        std::string answer;
        char some[4096];
        while (!answer.ends_with("END\r\n")) {
            ssize_t const n = recv(fd_, some, sizeof some, 0);
            if (n <= 0) return false;
            answer.append(some, static_cast<std::size_t>(n));
        }
        return answer.starts_with("VALUE ");
    }

  private:
    int fd_;
    bool connected_ = false;
};

/// A memcached on loopback, on a port of its own.
class memcached_server {
  public:
    memcached_server(std::string const& program, std::string const& log)
        : port_(processes::free_ports(1).front()),
          // -u: as root it refuses to run otherwise; else it is ignored.
          process_(
              {program, "-l", "127.0.0.1", "-p", std::to_string(port_), "-U", "0", "-t", "1", "-u", "root"},
              log) {
        process_.until([this] { return client(port_).connected(); });
    }
    [[nodiscard]] std::uint16_t port() const { return port_; }

  private:
    std::uint16_t port_;
    processes::server_process process_;
};

std::unique_ptr<memcached_server> start_memcached(std::string const& program, std::string const& log) {
    for (int attempt = 0;; ++attempt) try {
            return std::make_unique<memcached_server>(program, log);
        } catch (std::runtime_error const&) {  // another program may have taken the port meanwhile
            if (attempt == 2) throw;
        }
}

/// How many keys the server has that a router names.
template <class Router>
std::size_t hits(Router const& router, std::vector<std::string> const& keys,
                 std::vector<std::unique_ptr<client>> const& clients) {
    std::size_t found = 0;
    for (auto const& key : keys) found += clients[router.find_index(key)]->has(key);
    return found;
}

void show_fleet() {
    std::cout << "\n2. Five memcached servers, written through libmemcached\n";
    std::string const program = processes::find_program("memcached");
    if (program.empty()) {
        std::cout << "  left out: memcached is not installed here\n";
        return;
    }
    files::temporary_folder const folder;
    std::vector<std::unique_ptr<memcached_server>> servers;
    for (int i = 0; i < 5; ++i)
        servers.push_back(start_memcached(program, folder / std::to_string(i) + ".log"));
    std::int64_t const weights[] = {1, 2, 1, 3, 1};
    std::unique_ptr<memcached_st, decltype(&memcached_free)> const writer(memcached_create(nullptr),
                                                                          memcached_free);
    memcached_behavior_set(writer.get(), MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, 1);
    std::vector<fleets::libmemcached_server> fleet;
    std::vector<cairn::hash_ring<>::member> nodes;
    std::vector<std::unique_ptr<client>> clients;
    for (std::size_t i = 0; i < servers.size(); ++i) {
        std::uint16_t const port = servers[i]->port();
        memcached_server_add_with_weight(writer.get(), "127.0.0.1", port,
                                         static_cast<std::uint32_t>(weights[i]));
        fleet.push_back({"127.0.0.1", port, weights[i]});
        nodes.push_back({"127.0.0.1:" + std::to_string(port), weights[i]});
        clients.push_back(std::make_unique<client>(port));
    }
    auto const keys = users(3'000);
    std::size_t written = 0;
    for (auto const& key : keys)
        written += memcached_set(writer.get(), key.data(), key.size(), "hello", 5, 0, 0) == MEMCACHED_SUCCESS;
    std::cout << "  written through libmemcached:         " << written << " keys\n";

    using placement = fleets::libmemcached_ketama<fleets::md5>;
    fleets::libmemcached_ring<fleets::md5> const ring(fleet, placement{fleets::libmemcached_weights::always});
    cairn::hash_ring<> const other(nodes);
    std::size_t const found = hits(ring, keys, clients);
    std::size_t const by_chance = hits(other, keys, clients);
    std::cout << "  read through cairn, the same circle:  " << found << " hits\n"
              << "  read through cairn, another circle:   " << by_chance << " hits\n";
    check(written == keys.size(), "libmemcached has stored all of them");
    check(found == keys.size(), "no miss: cairn asks the very server that libmemcached has chosen");
    check(by_chance < keys.size() / 2, "a better ring is of no use here: most of the cache would be cold");
}

#else
void show_fleet() {
    std::cout << "\n2. A fleet of memcached: left out, libmemcached is not installed here\n";
}
#endif

// ---- 3. Redis Cluster: the table in between. ----

void show_slots() {
    std::cout << "\n3. Redis Cluster: a key has a slot, a slot has a node\n";
    using cluster = cairn::slots<std::string>;
    for (char const* const key : {"123456789", "{user:42}.cart", "{user:42}.name", "user:42"})
        std::cout << "  " << std::setw(16) << std::left << key << std::right << " slot " << std::setw(5)
                  << cluster::slot_of(key) << '\n';
    check(cluster::slot_of("123456789") == 12'739, "CLUSTER KEYSLOT 123456789 is 12739");
    check(cluster::slot_of("{user:42}.cart") == cluster::slot_of("user:42"),
          "only the part in braces counts");
    cluster nodes({"a", "b", "c"});
    cluster const before = nodes;
    auto const moves = nodes.add("d");
    std::size_t moved = 0;
    for (auto const& one : moves) moved += one.last - one.first + 1;
    for (auto const& one : moves)
        std::cout << "  slots " << one.first << " to " << one.last << " move from " << one.from << " to "
                  << one.to << '\n';
    std::cout << "  the new node has " << moved << " of " << cluster::slot_count << " slots\n";
    check(moved == cluster::slot_count / 4, "a fourth node takes a quarter, and nothing else moves");
    auto const keys = users(20'000);
    auto const report = cairn::movement(before, nodes, keys);
    check(report.unnecessary == 0 && report.fraction() > 0.23 && report.fraction() < 0.27,
          "so a quarter of the keys moves, all to it");
}

}  // namespace

int main() {
    std::cout << std::fixed << std::setprecision(3);
    try {
        show_circles();
        show_fleet();
        show_slots();
    } catch (std::exception const& error) {
        std::cout << "\n  WRONG: " << error.what() << '\n';
        return 1;
    }
    std::cout
        << "\nThe trade-off: a better circle is easy to invent, and each new one is a cold cache. A\n"
           "placement is a promise to all who have written before; keeping it lets a program join. A "
           "table\n"
           "promises nothing, and must be asked for. What happens when a server of such a fleet dies is\n"
           "chapter 13.\n";
    // Exercises (answers: README.md):
    // 1. Which of the keys move if the fleet's third server goes? Compare cairn::movement of two rings.
    // 2. Write with KETAMA instead of KETAMA_WEIGHTED, but leave the weights. What must the reader change?
    // 3. fleets/haproxy.hpp looks for the nearest point. How much more even is that? cairn::balance says it.
    return failures == 0 ? 0 : 1;
}
