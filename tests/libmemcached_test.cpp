// SPDX-License-Identifier: MIT
// Beside libmemcached itself: in every mode, with each of its hashes, 200 random fleets and 500 random keys
// for each must go to the same servers. No server runs; memcached_generate_hash only computes.
#include <cairn/fleets/libmemcached.hpp>

#include <gtest/gtest.h>

#if !defined(CAIRN_TEST_HAVE_LIBMEMCACHED)

TEST(Libmemcached, IsMissingHere) {
    GTEST_SKIP() << "libmemcached is not installed (Debian: libmemcached-dev)";
}

#else
#include <libmemcached/memcached.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace cairn::fleets;
using servers_t = std::vector<libmemcached_server>;

struct settings {
    memcached_hash_t hash;
    memcached_server_distribution_t distribution;
    bool ketama_weighted = false;  // the behaviour of that name
    bool servers_first = false;    // the distribution is set after the servers were pushed
    bool hash_last = false;        // the hash is set after all else
};

class library {
  public:
    library(servers_t const& servers, settings const& wanted)
        : handle_(memcached_create(nullptr), memcached_free) {
        if (!wanted.hash_last && !wanted.ketama_weighted) set(MEMCACHED_BEHAVIOR_HASH, wanted.hash);
        if (!wanted.servers_first) distribute(wanted);
        push(servers);
        if (wanted.servers_first) distribute(wanted);
        if (wanted.hash_last) set(MEMCACHED_BEHAVIOR_HASH, wanted.hash);
    }
    [[nodiscard]] std::size_t find_index(std::string const& key) const {
        return memcached_generate_hash(handle_.get(), key.data(), key.size());
    }

  private:
    void set(memcached_behavior_t behavior, std::uint64_t value) {
        EXPECT_EQ(memcached_behavior_set(handle_.get(), behavior, value), MEMCACHED_SUCCESS);
    }
    void distribute(settings const& wanted) {
        if (wanted.ketama_weighted) {
            set(MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, 1);  // sets the hash to MD5
            if (wanted.distribution == MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA_SPY)
                set(MEMCACHED_BEHAVIOR_DISTRIBUTION, wanted.distribution);
            set(MEMCACHED_BEHAVIOR_HASH, wanted.hash);
        } else {
            set(MEMCACHED_BEHAVIOR_DISTRIBUTION, wanted.distribution);
        }
    }
    void push(servers_t const& servers) {
        memcached_return_t error = MEMCACHED_SUCCESS;
        memcached_server_list_st list = nullptr;
        for (auto const& server : servers) {
            list = memcached_server_list_append_with_weight(
                list, server.host.c_str(), server.port, static_cast<std::uint32_t>(server.weight), &error);
            EXPECT_EQ(error, MEMCACHED_SUCCESS);
        }
        EXPECT_EQ(memcached_server_push(handle_.get(), list), MEMCACHED_SUCCESS);
        memcached_server_list_free(list);
    }
    std::unique_ptr<memcached_st, decltype(&memcached_free)> handle_;
};

/// 1 to 100 servers, mostly few; weights all alike, or small, or far apart; a few servers stand twice.
servers_t random_servers(std::mt19937_64& random) {
    std::size_t const count = random() % 12 == 0 ? 1 + random() % 100 : 1 + random() % 16;
    std::uint64_t const kind = random() % 4;
    servers_t servers;
    for (std::size_t i = 0; i < count; ++i) {
        std::string host = random() % 2 == 0
                               ? "10.0." + std::to_string(random() % 3) + '.' + std::to_string(random() % 256)
                               : "cache-" + std::to_string(random() % 1000) + ".example.com";
        auto const port = static_cast<std::uint16_t>(random() % 2 == 0 ? 11211 : 1 + random() % 65'535);
        std::uint64_t const weight = kind == 0   ? 1
                                     : kind == 1 ? random() % 2
                                     : kind == 2 ? random() % 6
                                                 : random() % 10'000'000;
        servers.push_back({std::move(host), port, static_cast<std::int64_t>(weight)});
        if (random() % 40 == 0) servers.push_back(servers[random() % servers.size()]);
        if (servers.size() >= 100) break;  // libmemcached aborts at the 101st
    }
    return servers;
}
/// Bytes of all values, some keys of 250.
std::string random_key(std::mt19937_64& random) {
    std::string key(random() % 50 == 0 ? 250 : 1 + random() % 40, '\0');
    bool const any_byte = random() % 2 == 0;
    for (char& letter : key)
        letter = any_byte ? static_cast<char>(random()) : static_cast<char>('a' + random() % 26);
    return key;
}

template <class Make>
void compare(settings const& wanted, Make make_router) {
    static std::uint64_t seed = 20261120;
    SCOPED_TRACE("seed " + std::to_string(++seed) + ", hash " + std::to_string(wanted.hash) +
                 ", distribution " + std::to_string(wanted.distribution) +
                 (wanted.ketama_weighted ? ", KETAMA_WEIGHTED" : "") +
                 (wanted.servers_first ? ", servers first" : "") + (wanted.hash_last ? ", hash last" : ""));
    std::mt19937_64 random{seed};
    std::size_t keys = 0;
    for (int fleet = 0; fleet < 200; ++fleet) {
        servers_t const servers = random_servers(random);
        library const theirs(servers, wanted);
        auto const ours = make_router(servers);
        for (int i = 0; i < 500; ++i, ++keys) {
            std::string const key = random_key(random);
            ASSERT_EQ(ours.find_index(key), theirs.find_index(key)) << "fleet " << fleet << ", key " << key;
        }
    }
    EXPECT_EQ(keys, 100'000u);
}

template <class Hash>
void compare_all_modes(memcached_hash_t hash) {
    using placement = libmemcached_ketama<Hash>;
    using weights = libmemcached_weights;
    using labels = libmemcached_labels;
    auto const ring = [](weights w, labels l = labels::plain) {
        return [=](servers_t const& servers) { return libmemcached_ring<Hash>(servers, placement{w, l}); };
    };
    constexpr auto ketama = MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA;
    constexpr auto spy = MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA_SPY;
    compare({hash, ketama}, ring(weights::if_any));
    compare({hash, ketama, false, true}, ring(weights::never));
    compare({hash, ketama, true}, ring(weights::always));
    compare({hash, MEMCACHED_DISTRIBUTION_CONSISTENT_WEIGHTED}, ring(weights::always));
    compare({hash, spy}, ring(weights::if_any, labels::spy));
    compare({hash, spy, false, true}, ring(weights::if_any, labels::spy));  // does not forget the weights
    compare({hash, spy, true}, ring(weights::always, labels::spy));
    compare({hash, MEMCACHED_DISTRIBUTION_MODULA},
            [](servers_t const& servers) { return libmemcached_modula_table<Hash>(servers); });
}

TEST(Libmemcached, SendsKeysWhereCairnSendsThemByItsDefaultHash) {
    compare_all_modes<one_at_a_time>(MEMCACHED_HASH_DEFAULT);
}
TEST(Libmemcached, SendsKeysWhereCairnSendsThemByMd5) { compare_all_modes<md5>(MEMCACHED_HASH_MD5); }
TEST(Libmemcached, SendsKeysWhereCairnSendsThemByCrc) { compare_all_modes<crc32>(MEMCACHED_HASH_CRC); }
TEST(Libmemcached, SendsKeysWhereCairnSendsThemByFnv) {
    compare_all_modes<fnv1_64>(MEMCACHED_HASH_FNV1_64);
    compare_all_modes<fnv1a_64>(MEMCACHED_HASH_FNV1A_64);
    compare_all_modes<fnv1_32>(MEMCACHED_HASH_FNV1_32);
    compare_all_modes<fnv1a_32>(MEMCACHED_HASH_FNV1A_32);
}
TEST(Libmemcached, SendsKeysWhereCairnSendsThemByTheMurmurs) {
    compare_all_modes<murmur>(MEMCACHED_HASH_MURMUR);
    compare_all_modes<murmur3>(MEMCACHED_HASH_MURMUR3);
}
TEST(Libmemcached, SendsKeysWhereCairnSendsThemByJenkins) {
    compare_all_modes<jenkins>(MEMCACHED_HASH_JENKINS);
}
TEST(Libmemcached, SendsKeysWhereCairnSendsThemByHsiehOrRefusesIt) {
    if (libhashkit_has_algorithm(HASHKIT_HASH_HSIEH)) return compare_all_modes<hsieh>(MEMCACHED_HASH_HSIEH);
    std::unique_ptr<memcached_st, decltype(&memcached_free)> const handle(memcached_create(nullptr),
                                                                          memcached_free);
    EXPECT_NE(memcached_behavior_set(handle.get(), MEMCACHED_BEHAVIOR_HASH, MEMCACHED_HASH_HSIEH),
              MEMCACHED_SUCCESS);
    EXPECT_EQ(libhashkit_digest("abc", 3, HASHKIT_HASH_HSIEH), hsieh_left_out{}("abc"));
}

TEST(Libmemcached, TakesAUnixSocketForAHostOnPortZero) {
    std::unique_ptr<memcached_st, decltype(&memcached_free)> const handle(memcached_create(nullptr),
                                                                          memcached_free);
    memcached_behavior_set(handle.get(), MEMCACHED_BEHAVIOR_DISTRIBUTION,
                           MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA);
    for (char const* const path : {"/run/a", "/run/b"})
        EXPECT_EQ(memcached_server_add_unix_socket(handle.get(), path), MEMCACHED_SUCCESS);
    libmemcached_ring<> const ring({{"/run/a", 0}, {"/run/b", 0}});
    std::mt19937_64 random{20261125};
    for (int i = 0; i < 2000; ++i) {
        std::string const key = random_key(random);
        ASSERT_EQ(ring.find_index(key), memcached_generate_hash(handle.get(), key.data(), key.size()));
    }
}

TEST(Libmemcached, LeavesTheCircleAloneWhenTheHashIsSetLater) {
    compare({MEMCACHED_HASH_FNV1A_32, MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA, false, false, true},
            [](servers_t const& servers) { return libmemcached_ring<fnv1a_32, one_at_a_time>(servers); });
}

}  // namespace
#endif
