// SPDX-License-Identifier: MIT
// Chapter 1. First principles: three servers, a million users, and the question "who has user 42?"
//
// One machine is full, so the users are spread over three. From now on every request begins with a
// decision: which machine? Whatever decides must give the same answer every time, on every machine that
// asks, or a user's data is looked for where it is not. There are two ways to decide: write the answer
// down, or compute it. This program does both, and measures what each one costs.
#include <cairn/hash.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iomanip>
#include <iostream>
#include <memory>
#include <numeric>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

int failures = 0;

/// Each claim of this chapter is checked on the numbers that were just computed.
void check(bool holds, char const* claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

/// A standard allocator that counts the bytes it has handed out.
std::size_t bytes_in_use = 0;

template <class T>
struct counting_allocator {
    using value_type = T;
    counting_allocator() = default;
    template <class U>
    counting_allocator(counting_allocator<U> const&) noexcept {}
    T* allocate(std::size_t n) {
        bytes_in_use += n * sizeof(T);
        return std::allocator<T>{}.allocate(n);
    }
    void deallocate(T* p, std::size_t n) noexcept {
        bytes_in_use -= n * sizeof(T);
        std::allocator<T>{}.deallocate(p, n);
    }
    friend bool operator==(counting_allocator const&, counting_allocator const&) { return true; }
};

using loads = std::array<std::size_t, 3>;

void print(char const* name, loads const& load) {
    std::cout << "  " << std::left << std::setw(44) << name << std::right;
    for (std::size_t const users : load) std::cout << std::setw(10) << users;
    std::cout << '\n';
}

}  // namespace

int main() {
    constexpr std::uint64_t users = 1'000'000;

    // ---- Write it down: a table from user to server. ----
    // The exact control that nothing else gives: any user can be put anywhere, and moved alone.
    std::cout << "1. A table: one entry for each user\n";
    using entry = std::pair<std::uint64_t const, std::uint16_t>;
    std::unordered_map<std::uint64_t, std::uint16_t, std::hash<std::uint64_t>, std::equal_to<>,
                       counting_allocator<entry>>
        table;
    for (std::uint64_t user = 0; user < users; ++user)
        table.emplace(user, static_cast<std::uint16_t>(user % 3));
    double const bytes_a_user = static_cast<double>(bytes_in_use) / static_cast<double>(users);
    double const gib_for_a_billion = bytes_a_user * 1e9 / (1024.0 * 1024.0 * 1024.0);
    std::cout << std::fixed << std::setprecision(1) << "  1,000,000 users take " << bytes_a_user
              << " bytes each (counted), so 1 billion users would take " << gib_for_a_billion
              << " GiB (projected),\n  in every process that routes, and every new user must be told to all "
                 "of them.\n";
    check(bytes_a_user > 10, "an entry costs more than the 10 bytes that it says");

    // ---- Compute it: hash the user, take the remainder. ----
    std::cout << "\n2. A formula: hash(user) % 3\n";
    cairn::xxh3 const hash;
    loads by_hash{};
    for (std::uint64_t user = 0; user < users; ++user) ++by_hash[hash(user) % 3];
    std::cout << "  " << std::left << std::setw(44) << "users of each server" << std::right << std::setw(10)
              << "A" << std::setw(10) << "B" << std::setw(10) << "C" << '\n';
    print("xxh3 % 3, users 0, 1, 2 ...", by_hash);
    for (std::size_t const load : by_hash)
        check(load > 331'000 && load < 336'000, "a server has a third of the users, within 1 %");
    std::cout << "  The table is gone: 0 bytes, and a process that starts now knows the answer already.\n";

    // ---- Why not std::hash? ----
    // It is whatever the library likes. For integers that is the number itself, in the two libraries that
    // most programs use. Then the remainder of the user number decides, and user numbers have patterns:
    // databases with three masters, for instance, hand out every third number each.
    std::cout << "\n3. The hash matters: user numbers 0, 3, 6, 9 ...\n";
    loads by_identity{};
    loads by_mixing{};
    for (std::uint64_t user = 0; user < users; user += 3) {
        ++by_identity[user % 3];  // what std::hash of an integer amounts to
        ++by_mixing[hash(user) % 3];
    }
    print("the number itself % 3", by_identity);
    print("xxh3 % 3", by_mixing);
    check(by_identity[0] == by_identity[0] + by_identity[1] + by_identity[2],
          "without mixing, A gets all and B and C nothing");
    check(by_mixing[0] < 113'000 && by_mixing[1] < 113'000 && by_mixing[2] < 113'000,
          "with mixing, each gets a third");

    // Is the number itself always bad? No: only if the step and the number of servers share a factor. A
    // hash that is sometimes good is the worst kind, for it passes the test and fails the customer.
    std::cout << "\n   The fullest server, as a multiple of the mean (1.00 is even)\n"
                 "        step    servers    the number itself    xxh3\n";
    bool by_the_factor = true;
    bool even = true;
    for (std::uint64_t const step : {1U, 3U, 10U})
        for (std::uint64_t const servers : {3U, 10U}) {
            std::vector<std::size_t> itself(servers);
            std::vector<std::size_t> mixed(servers);
            constexpr std::uint64_t count = 100'000;
            for (std::uint64_t user = 0; user < count * step; user += step) {
                ++itself[user % servers];
                ++mixed[hash(user) % servers];
            }
            double const mean = static_cast<double>(count) / static_cast<double>(servers);
            double const fullest = static_cast<double>(*std::ranges::max_element(itself)) / mean;
            double const fullest_mixed = static_cast<double>(*std::ranges::max_element(mixed)) / mean;
            std::cout << std::setprecision(2) << std::setw(12) << step << std::setw(11) << servers
                      << std::setw(21) << fullest << std::setw(8) << fullest_mixed << '\n';
            auto const factor = static_cast<double>(std::gcd(step, servers));
            by_the_factor = by_the_factor && fullest > factor * 0.99 && fullest < factor * 1.01;
            even = even && fullest_mixed < 1.05;
        }
    check(by_the_factor, "the number itself overloads by the common factor of step and servers");
    check(even, "xxh3 is even within 5 %, whatever the step");

    // ---- The same on every machine. ----
    std::cout << "\n4. The same everywhere: what is hashed is the value, to the byte\n";
    std::cout << "  hash(42)        = " << std::hex << hash(42) << '\n'
              << "  hash(\"user:42\") = " << hash("user:42") << std::dec << '\n';
    check(hash(42) == hash(std::int8_t{42}) && hash(42) == hash(42ULL),
          "the width of the integer does not matter");
    check(hash("user", 42) != hash("user4", 2), "a composite key has no seams to slip through");
    check(cairn::xxh3{1}(42) != hash(42), "another seed is another hash");

    // ---- The trade-off. ----
    std::cout
        << "\nThe table gives exact control and costs memory that grows with the users. The formula costs\n"
           "nothing and gives no control. What happens to each of them when a fourth server arrives?\n"
           "That is chapter 2.\n";
    // Exercises (answers: README.md):
    // 1. Let the user numbers step by 6 and use 10 servers. How much does the fullest server get? Predict it
    //    before you run it.
    // 2. Keep the table, but only for the hundred largest users, and the formula for all others. How many
    //    bytes is that? (cairn::directory, in router.hpp, is this.)
    // 3. Store the server as a std::string in the table. Measure again: what does one user cost now?
    return failures == 0 ? 0 : 1;
}
