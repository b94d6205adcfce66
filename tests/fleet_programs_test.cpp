// SPDX-License-Identifier: MIT
// Beside the real programs: 2,000 keys go through nginx, HAProxy, Redis and nutcracker, and each must come
// out where cairn says. A program that is not installed is skipped.
#include <cairn/fleets/haproxy.hpp>
#include <cairn/fleets/nginx.hpp>
#include <cairn/fleets/twemproxy.hpp>
#include <cairn/slots.hpp>

#include <gtest/gtest.h>

#if !defined(__linux__)

TEST(FleetPrograms, AreStartedOnLinuxOnly) { GTEST_SKIP() << "the programs are started by Linux's means"; }

#else
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/programs.hpp"

namespace {

using namespace cairn::fleets;
using support::connection;
using support::program;

constexpr std::size_t key_count = 2000;

/// Letters, digits and braces, and bytes above 0x80 in every second key: what fits into headers and
/// memcached.
std::vector<std::string> random_keys(std::uint64_t seed) {
    constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyz0123456789:._-{}$";
    std::mt19937_64 random{seed};
    std::vector<std::string> keys;
    for (std::size_t i = 0; i < key_count; ++i) {
        std::string key = "k";
        bool const high = i % 2 == 0;
        for (std::size_t length = 12 + random() % 40; key.size() < length;)
            key += high && random() % 4 == 0 ? static_cast<char>(0x80 + random() % 128)
                                             : letters[random() % letters.size()];
        keys.push_back(std::move(key));
    }
    return keys;
}

#define CAIRN_SKIP_WITHOUT(name) \
    if (support::find_program(name).empty()) GTEST_SKIP() << name << " is not installed (Debian has it)"

// ---- nginx, HAProxy: the key is a header; the server that answers says its port. ----

/// The ports that answered, in the order of the keys. Fifty requests are on their way at a time.
std::vector<std::string> ask_by_http(std::uint16_t port, std::string const& path,
                                     std::vector<std::string> const& keys) {
    connection http(port);
    std::vector<std::string> ports;
    for (std::size_t begin = 0; begin < keys.size(); begin += 50) {
        std::string requests;
        for (std::size_t i = begin; i < begin + 50; ++i)
            requests += "GET " + path + " HTTP/1.1\r\nHost: fleet\r\nX-Key: " + keys[i] + "\r\n\r\n";
        http.send(requests);
        for (std::size_t i = begin; i < begin + 50; ++i) {
            std::string const status = http.line();
            if (!status.starts_with("HTTP/1.1 200")) throw std::runtime_error("answered " + status);
            std::size_t length = 0;
            for (std::string field = http.line(); !field.empty(); field = http.line()) {
                for (std::size_t at = 0; at < field.find(':'); ++at)
                    field[at] = static_cast<char>(field[at] | 32);
                if (field.starts_with("content-length:")) length = std::stoul(field.substr(15));
            }
            ports.push_back(http.bytes(length));
        }
    }
    return ports;
}

std::int64_t const weights[] = {1, 3, 1, 2, 7, 1, 4};
constexpr std::size_t server_count = 7;

TEST(FleetPrograms, NginxSendsKeysWhereCairnSendsThem) {
    CAIRN_SKIP_WITHOUT("nginx");
    support::temporary_folder const folder;
    auto const ports = support::free_ports(server_count + 1);
    std::string lines;
    std::string backends;
    std::vector<nginx_server> servers;
    for (std::size_t i = 0; i < server_count; ++i) {
        std::string const port = std::to_string(ports[i]);
        servers.push_back({"127.0.0.1:" + port, weights[i]});
        lines += "server 127.0.0.1:" + port + " weight=" + std::to_string(weights[i]) + ";\n";
        backends += "server { listen 127.0.0.1:" + port + "; return 200 " + port + "; }\n";
    }
    std::string temporary;
    for (char const* const kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
        temporary += std::string(kind) + "_temp_path " + folder.path() + '/' + kind + ";\n";
    program const nginx(
        {support::find_program("nginx"), "-p", folder.path(), "-e", "stderr", "-c",
         folder.write("nginx.conf", "daemon off; master_process off; error_log stderr; pid " + folder.path() +
                                        "/pid;\n"
                                        "events { worker_connections 1000; }\n"
                                        "http { access_log off; keepalive_requests 100000;\n" +
                                        temporary + "upstream ring { hash $http_x_key consistent;\n" + lines +
                                        "}\nupstream plain { hash $http_x_key;\n" + lines + "}\n" + backends +
                                        "server { listen 127.0.0.1:" + std::to_string(ports.back()) +
                                        "; location /ring { proxy_pass http://ring; }\n"
                                        "location /plain { proxy_pass http://plain; } } }\n")},
        folder);
    nginx.wait_for(ports.back());
    auto const keys = random_keys(1);
    auto const by_ring = ask_by_http(ports.back(), "/ring", keys);
    auto const by_plain = ask_by_http(ports.back(), "/plain", keys);
    nginx_ring const ring(servers);
    nginx_table const plain(servers);
    for (std::size_t i = 0; i < key_count; ++i) {
        ASSERT_EQ(ring.find(keys[i]).address, "127.0.0.1:" + by_ring[i]) << keys[i];
        ASSERT_EQ(plain.find(keys[i]).address, "127.0.0.1:" + by_plain[i]) << keys[i];
    }
}

template <class Hash, bool Avalanche>
void check_haproxy(std::uint16_t front, std::string const& backend,
                   std::vector<haproxy_server> const& servers, std::vector<std::uint16_t> const& ports) {
    haproxy_ring<Hash, Avalanche> const ring(servers);
    auto const keys = random_keys(2);
    auto const answers = ask_by_http(front, '/' + backend, keys);
    for (std::size_t i = 0; i < key_count; ++i)
        ASSERT_EQ(std::to_string(ports[ring.find_index(keys[i])]), answers[i]) << backend << ": " << keys[i];
}

TEST(FleetPrograms, HaproxySendsKeysWhereCairnSendsThem) {
    CAIRN_SKIP_WITHOUT("haproxy");
    support::temporary_folder const folder;
    auto const ports = support::free_ports(server_count + 1);
    std::vector<haproxy_server> servers;
    std::string lines;
    std::string config =
        "defaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
        "frontend front\n bind 127.0.0.1:" +
        std::to_string(ports.back()) + "\n use_backend %[path,field(2,/)]\n";
    for (std::size_t i = 0; i < server_count; ++i) {
        std::string const port = std::to_string(ports[i]);
        servers.push_back({"s" + port, weights[i], i == 2 ? 77 : i == 4 ? 6 : 0});
        lines += " server s" + port + " 127.0.0.1:" + port + " weight " + std::to_string(weights[i]) +
                 (servers[i].id == 0 ? "" : " id " + std::to_string(servers[i].id)) + '\n';
        config += "frontend f" + port + "\n bind 127.0.0.1:" + port +
                  "\n http-request return status 200 content-type text/plain string " + port + '\n';
    }
    for (char const* const rule : {"", "sdbm", "sdbm avalanche", "djb2", "djb2 avalanche", "wt6",
                                   "wt6 avalanche", "crc32", "crc32 avalanche"}) {
        std::string name = "b" + std::string(rule);
        if (auto const space = name.find(' '); space != name.npos) name[space] = '-';
        config += "backend " + name + "\n balance hdr(x-key)\n hash-type consistent " + rule + '\n' + lines;
    }
    program const haproxy(
        {support::find_program("haproxy"), "-db", "-f", folder.write("haproxy.cfg", config)}, folder);
    haproxy.wait_for(ports.back());
    check_haproxy<sdbm, true>(ports.back(), "b", servers, ports);
    check_haproxy<sdbm, false>(ports.back(), "bsdbm", servers, ports);
    check_haproxy<sdbm, true>(ports.back(), "bsdbm-avalanche", servers, ports);
    check_haproxy<djb2, false>(ports.back(), "bdjb2", servers, ports);
    check_haproxy<djb2, true>(ports.back(), "bdjb2-avalanche", servers, ports);
    check_haproxy<wt6, false>(ports.back(), "bwt6", servers, ports);
    check_haproxy<wt6, true>(ports.back(), "bwt6-avalanche", servers, ports);
    check_haproxy<crc32a, false>(ports.back(), "bcrc32", servers, ports);
    check_haproxy<crc32a, true>(ports.back(), "bcrc32-avalanche", servers, ports);
}

// ---- Redis Cluster ----

TEST(FleetPrograms, RedisHasTheSlotsThatCairnHas) {
    CAIRN_SKIP_WITHOUT("redis-server");
    support::temporary_folder const folder;
    auto const ports = support::free_ports(2);
    program const redis(
        {support::find_program("redis-server"), "--bind", "127.0.0.1", "--port", std::to_string(ports[0]),
         "--cluster-enabled", "yes", "--cluster-port", std::to_string(ports[1]), "--dir", folder.path(),
         "--save", "", "--appendonly", "no"},
        folder);
    redis.wait_for(ports[0]);
    connection client(ports[0]);
    std::mt19937_64 random{3};
    std::vector<std::string> keys = random_keys(3);
    for (std::size_t i = 0; i < keys.size(); i += 2)  // Redis takes any byte, and braces matter
        for (char& letter : keys[i])
            if (random() % 4 == 0) letter = random() % 2 == 0 ? static_cast<char>(random()) : '{';
    std::string requests;
    for (std::string const& key : keys)
        requests +=
            "*3\r\n$7\r\nCLUSTER\r\n$7\r\nKEYSLOT\r\n$" + std::to_string(key.size()) + "\r\n" + key + "\r\n";
    client.send(requests);
    for (std::string const& key : keys)
        ASSERT_EQ(client.line(), ':' + std::to_string(cairn::slots<>::slot_of(key))) << key;
}

// ---- twemproxy: keys are written through the proxy, and read from the memcached that cairn names. ----

/// A pool of the configuration, and how cairn would route for it.
struct pool {
    std::string hash;
    std::string distribution;
    std::string more;  // further lines of the configuration
    std::vector<twemproxy_server> servers;
    std::vector<std::size_t> (*route)(pool const&, std::vector<std::string> const&);  // below
    std::string tag = {};
};

template <class Hash>
std::vector<std::size_t> route(pool const& one, std::vector<std::string> const& keys) {
    std::vector<std::size_t> indexes;
    auto const by = [&](auto const& router) {
        for (std::string const& key : keys) indexes.push_back(router.find_index(key));
    };
    if (one.distribution == "ketama")
        by(twemproxy_ring<Hash>(
            one.servers, one.tag.empty() ? twemproxy_ketama<Hash>() : twemproxy_ketama<Hash>(one.tag)));
    else
        by(twemproxy_modula_table<Hash>(
            one.servers, one.tag.empty() ? twemproxy_modula<Hash>() : twemproxy_modula<Hash>(one.tag)));
    return indexes;
}

struct named_route {
    char const* hash;
    std::vector<std::size_t> (*route)(pool const&, std::vector<std::string> const&);
};

void check_pool(std::uint16_t proxy_port, pool const& one, std::uint64_t seed,
                std::vector<std::uint16_t> const& ports) {
    SCOPED_TRACE(one.hash + ", " + one.distribution + one.more);
    auto const keys = random_keys(seed);
    connection proxy(proxy_port);
    for (std::size_t begin = 0; begin < key_count; begin += 100) {
        std::string requests;
        for (std::size_t i = begin; i < begin + 100; ++i) requests += "set " + keys[i] + " 0 0 1\r\nv\r\n";
        proxy.send(requests);
        for (std::size_t i = begin; i < begin + 100; ++i) ASSERT_EQ(proxy.line(), "STORED") << keys[i];
    }
    auto const indexes = one.route(one, keys);
    std::size_t read = 0;
    for (std::size_t server = 0; server < ports.size(); ++server) {
        connection memcached(ports[server]);
        for (std::size_t i = 0; i < key_count; ++i)
            if (indexes[i] == server) memcached.send("get " + keys[i] + "\r\n");
        for (std::size_t i = 0; i < key_count; ++i) {
            if (indexes[i] != server) continue;
            ASSERT_EQ(memcached.line(), "VALUE " + keys[i] + " 0 1") << "key " << i;
            ASSERT_EQ(memcached.line(), "v");
            ASSERT_EQ(memcached.line(), "END");
            ++read;
        }
    }
    EXPECT_EQ(read, key_count);
}

TEST(FleetPrograms, TwemproxySendsKeysWhereCairnSendsThem) {
    CAIRN_SKIP_WITHOUT("nutcracker");
    CAIRN_SKIP_WITHOUT("memcached");
    constexpr std::size_t count = 5;
    support::temporary_folder const folder;
    auto const ports = support::free_ports(count);
    std::vector<std::unique_ptr<program>> servers;
    for (std::uint16_t const port : ports)
        servers.push_back(std::make_unique<program>(
            std::vector<std::string>{support::find_program("memcached"), "-l", "127.0.0.1", "-p",
                                     std::to_string(port), "-U", "0", "-t", "1", "-m", "64", "-u", "root"},
            folder));
    for (std::size_t i = 0; i < count; ++i) servers[i]->wait_for(ports[i]);
    std::vector<twemproxy_server> weighted;
    std::vector<twemproxy_server> named;
    std::vector<twemproxy_server> on_sockets;  // of pools below, which only hand on to one memcached each
    std::string const names[] = {"delta", "b", "alpha", "aa", "c"};  // modula goes by length, then by letters
    for (std::size_t i = 0; i < count; ++i) {
        weighted.push_back({"127.0.0.1", ports[i], weights[i], ""});
        named.push_back({"127.0.0.1", ports[i], weights[i], names[i]});
        on_sockets.push_back({folder.path() + '/' + std::to_string(i), 0, weights[i], ""});
    }
    std::vector<pool> pools;
    for (char const* const distribution : {"ketama", "modula"})
        for (auto const& [hash, by] :
             std::initializer_list<named_route>{{"one_at_a_time", route<one_at_a_time>},
                                                {"md5", route<md5>},
                                                {"crc16", route<crc16>},
                                                {"crc32", route<crc32>},
                                                {"crc32a", route<crc32a>},
                                                {"fnv1_64", route<fnv1_64>},
                                                {"fnv1a_64", route<fnv1a_64>},
                                                {"fnv1_32", route<fnv1_32>},
                                                {"fnv1a_32", route<fnv1a_32>},
                                                {"hsieh", route<hsieh>},
                                                {"murmur", route<murmur>},
                                                {"jenkins", route<jenkins>}})
            pools.push_back({hash, distribution, "", weighted, by});
    pools.push_back({"fnv1a_64", "ketama", "", named, route<fnv1a_64>});
    pools.push_back({"fnv1a_64", "ketama", "  hash_tag: \"{}\"\n", named, route<fnv1a_64>, "{}"});
    pools.push_back({"md5", "modula", "  hash_tag: \"$$\"\n", named, route<md5>, "$$"});
    pools.push_back({"fnv1a_64", "ketama", "", on_sockets, route<fnv1a_64>});
    pools.push_back({"fnv1a_64", "modula", "", on_sockets, route<fnv1a_64>});

    auto const fronts = support::free_ports(pools.size() + 1);
    std::string config;
    for (std::size_t i = 0; i < count; ++i)
        config += "socket" + std::to_string(i) + ":\n  listen: " + on_sockets[i].host +
                  "\n  servers:\n   - 127.0.0.1:" + std::to_string(ports[i]) + ":1\n";
    for (std::size_t i = 0; i < pools.size(); ++i) {
        config += "pool" + std::to_string(i) + ":\n  listen: 127.0.0.1:" + std::to_string(fronts[i]) +
                  "\n  hash: " + pools[i].hash + "\n  distribution: " + pools[i].distribution + '\n' +
                  pools[i].more + "  auto_eject_hosts: false\n  timeout: 5000\n  servers:\n";
        for (auto const& server : pools[i].servers)
            config += "   - " + server.host + (server.port == 0 ? "" : ':' + std::to_string(server.port)) +
                      ':' + std::to_string(server.weight) + (server.name.empty() ? "" : ' ' + server.name) +
                      '\n';
    }
    program const nutcracker({support::find_program("nutcracker"), "-c", folder.write("pools.yml", config),
                              "-a", "127.0.0.1", "-s", std::to_string(fronts.back()), "-v", "4"},
                             folder);
    nutcracker.wait_for(fronts[pools.size() - 1]);
    for (std::size_t i = 0; i < pools.size(); ++i) check_pool(fronts[i], pools[i], 100 + i, ports);
}

}  // namespace
#endif
