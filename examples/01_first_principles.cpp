// SPDX-License-Identifier: MIT
// Chapter 1. First principles: three servers, a million users, and the question "who has user 42?"
//
// One machine is full, so the users are spread over three. From now on every request begins with a
// decision: which machine? Whatever decides must give the same answer every time, on every machine that
// asks, or a user's data is looked for where it is not. There are two ways to decide: write the answer
// down, or compute it. This program does both, breaks both on purpose, and measures what each one costs.
//
// Bytes and counts are asserted; time is only reported.
#include <cairn/hash.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iomanip>
#include <iostream>
#include <numeric>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory/counting_allocator.hpp"

namespace {

using memory::bytes_held, memory::counting_allocator;

int failures = 0;

/// Each claim of this chapter is checked on the numbers that were just computed.
void check(bool holds, char const* claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

/// From a user to the number of a server.
using routing_table =
    std::unordered_map<std::uint64_t, std::uint16_t, std::hash<std::uint64_t>, std::equal_to<>,
                       counting_allocator<std::pair<std::uint64_t const, std::uint16_t>>>;

cairn::xxh3 const hash;

std::uint16_t by_formula(std::uint64_t user) { return static_cast<std::uint16_t>(hash(user) % 3); }

routing_table table_of(std::uint64_t users) {
    routing_table table;
    for (std::uint64_t user = 0; user < users; ++user) table.emplace(user, by_formula(user));
    return table;
}

std::uint64_t volatile sink;  // what is not used is not computed

/// Nanoseconds for one answer of `route`.
template <class Route>
double time_of(std::vector<std::uint64_t> const& questions, Route route) {
    auto const begin = std::chrono::steady_clock::now();
    std::uint64_t sum = 0;
    for (std::uint64_t const user : questions) sum += route(user);
    sink = sum;
    std::chrono::duration<double, std::nano> const took = std::chrono::steady_clock::now() - begin;
    return took.count() / static_cast<double>(questions.size());
}

using loads = std::array<std::size_t, 3>;

void print(char const* name, loads const& load) {
    std::cout << "  " << std::left << std::setw(44) << name << std::right;
    for (std::size_t const users : load) std::cout << std::setw(10) << users;
    std::cout << '\n';
}

}  // namespace

int main() {
    constexpr std::uint64_t users = 1'000'000;
    std::cout << std::fixed;

    // ---- Write it down: a table from user to server. ----
    // The exact control that nothing else gives: any user can be put anywhere, and moved alone.
    std::cout << "1. A table: one entry for each user\n"
                 "          users    bytes each    MiB in all\n";
    auto const row = [](double n, double bytes_each, char const* how) {
        std::cout << std::setprecision(0) << std::setw(15) << n << std::setprecision(1) << std::setw(14)
                  << bytes_each << std::setw(14) << n * bytes_each / (1024.0 * 1024.0) << "  " << how << '\n';
    };
    double least = 1e9;
    double most = 0;
    double bytes_each = 0;
    for (std::uint64_t const n : {users / 100, users / 10, users}) {
        routing_table const one = table_of(n);
        bytes_each = static_cast<double>(bytes_held) / static_cast<double>(n);
        least = std::min(least, bytes_each);
        most = std::max(most, bytes_each);
        row(static_cast<double>(n), bytes_each, "counted");
    }
    row(1e9, bytes_each, "projected from the line above");
    std::cout << "  That is " << 1e9 * bytes_each / (1024.0 * 1024.0 * 1024.0)
              << " GiB for a billion users, in every process that routes. (These are the bytes that were\n"
                 "  asked for; malloc adds some to each entry.)\n";
    check(bytes_held == 0, "the bytes of a table that is gone are given back");
    check(least > 10, "an entry costs more than the 10 bytes that it says");
    check(most < 1.3 * least, "each entry costs about the same at any size, so the projection may multiply");

    // Broken on purpose: two processes route, and only one of them hears the news.
    routing_table here = table_of(1'000);
    routing_table there = here;
    here[42] = static_cast<std::uint16_t>((here[42] + 1) % 3);  // user 42 has grown, and is moved alone
    here.emplace(1'000, std::uint16_t{0});                      // and somebody signs up
    std::cout << "  User 42 is moved, and user 1000 signs up; one of two processes is told. The other one\n"
                 "  sends user 42 to server "
              << there[42] << " instead of " << here[42]
              << ", and knows user 1000: " << (there.contains(1'000) ? "yes" : "no") << '\n';
    check(there[42] != here[42] && !there.contains(1'000),
          "a table must be told to every process that routes, or two of them disagree");

    // ---- Compute it: hash the user, take the remainder. ----
    std::cout << "\n2. A formula: hash(user) % 3\n";
    loads by_hash{};
    for (std::uint64_t user = 0; user < users; ++user) ++by_hash[by_formula(user)];
    std::cout << "  " << std::left << std::setw(44) << "users of each server" << std::right << std::setw(10)
              << "A" << std::setw(10) << "B" << std::setw(10) << "C" << '\n';
    print("xxh3 % 3, users 0, 1, 2 ...", by_hash);
    check(std::ranges::all_of(by_hash, [](std::size_t n) { return n > 330'000 && n < 336'667; }),
          "each server has a third of the users, within 1 %");
    std::cout << "  The table is gone: 0 bytes, and a process that starts now knows the answer already.\n";
    {
        routing_table const table = table_of(users);
        std::vector<std::uint64_t> questions;  // in no order, as requests come
        for (std::uint64_t i = 0; i < 200'000; ++i) questions.push_back(cairn::xxh3{7}(i) % users);
        auto const by_table = [&table](std::uint64_t user) { return table.find(user)->second; };
        auto const by_hash_of = [](std::uint64_t user) { return by_formula(user); };
        double const looked_up = time_of(questions, by_table);
        double const computed = time_of(questions, by_hash_of);
        std::cout << "  One answer takes " << looked_up
                  << " ns by a table of a million, whose entries lie all "
                  << "over the memory,\n  and " << computed
                  << " ns by the formula, in this build on this machine.\n";
        check(std::ranges::all_of(questions, [&](auto user) { return by_table(user) == by_formula(user); }),
              "both give the same answers");
    }

    // ---- Why not std::hash? ----
    // It is whatever the library likes. For integers that is the number itself, in the two libraries that
    // most programs use. Then the remainder of the user number decides, and user numbers have patterns:
    // where three databases number the users, for instance, each of them hands out every third number.
    std::cout << "\n3. The hash matters: user numbers 0, 3, 6, 9 ...\n"
              << "  (std::hash of 42 is " << std::hash<std::uint64_t>{}(42) << " in this library.)\n";
    loads by_identity{};
    loads by_mixing{};
    for (std::uint64_t user = 0; user < users; user += 3) {
        ++by_identity[user % 3];  // what std::hash of an integer amounts to
        ++by_mixing[by_formula(user)];
    }
    print("the number itself % 3", by_identity);
    print("xxh3 % 3", by_mixing);
    check(by_identity[0] == by_identity[0] + by_identity[1] + by_identity[2],
          "without mixing, A gets all and B and C nothing");
    check(std::ranges::all_of(by_mixing, [](std::size_t n) { return n > 110'000 && n < 112'222; }),
          "with mixing, each gets a third, within 1 %");

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
        << "\nThe table gives exact control, and costs memory that grows with the users and news that must\n"
           "reach everybody. The formula needs neither, and gives no control. What happens to each of them\n"
           "when a fourth server arrives? That is chapter 2.\n";
    // Exercises (answers: README.md):
    // 1. Let the user numbers step by 6 and use 10 servers. How much does the fullest server get?
    // 2. Keep the table, but only for the hundred largest users, and the formula for all others. How many
    //    bytes is that?
    // 3. Store the server as a std::string in the table. What does one user cost now?
    return failures == 0 ? 0 : 1;
}
