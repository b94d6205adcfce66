// SPDX-License-Identifier: MIT
// A program of somebody else's: two headers of cairn, its own warnings, nothing linked.
#include <cairn/hash_ring.hpp>
#include <cairn/router.hpp>

#include <iostream>
#include <string>

int main() {
    cairn::hash_ring<std::string> ring;
    ring.add("cache-a");
    ring.add("cache-b");
    auto const before = ring.find("user:42");
    ring.add("cache-c");
    auto const after = ring.find("user:42");
    cairn::jump<> const shards(10);
    std::cout << before << " " << after << " " << shards.find("user:42") << "\n";
    return before == after || after == "cache-c" ? 0 : 1;
}
