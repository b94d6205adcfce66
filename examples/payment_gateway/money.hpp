// SPDX-License-Identifier: MIT
// Amounts of money, which are integers.
//
// A double cannot hold 0.10, and a sum of many of them cannot be reconciled to the cent. So an amount is a
// number of minor units: cents, or yen, or thousandths of a dinar. How many decimals a currency has is no
// matter of taste: ISO 4217 says so, and a gateway that takes "1.00" JPY for 100 yen is wrong by a hundred.
//
//   text       currency    minor units
//   "12.34"    EUR         1234
//   "12.3"     EUR         1230
//   "12"       JPY         12             "12.0" has too many decimals
//   "1.500"    KWD         1500
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "problem.hpp"

namespace gateway {

struct currency {
    char const* code;
    unsigned decimals;
};

/// Those that this gateway takes.
inline constexpr currency currencies[] = {
    {"AED", 2}, {"ARS", 2}, {"AUD", 2}, {"BHD", 3}, {"BRL", 2}, {"CAD", 2}, {"CHF", 2}, {"CLP", 0},
    {"CNY", 2}, {"COP", 2}, {"CZK", 2}, {"DKK", 2}, {"EGP", 2}, {"EUR", 2}, {"GBP", 2}, {"HKD", 2},
    {"HUF", 2}, {"IDR", 2}, {"ILS", 2}, {"INR", 2}, {"ISK", 0}, {"JOD", 3}, {"JPY", 0}, {"KES", 2},
    {"KRW", 0}, {"KWD", 3}, {"MAD", 2}, {"MXN", 2}, {"MYR", 2}, {"NGN", 2}, {"NOK", 2}, {"NZD", 2},
    {"OMR", 3}, {"PHP", 2}, {"PLN", 2}, {"RON", 2}, {"SAR", 2}, {"SEK", 2}, {"SGD", 2}, {"THB", 2},
    {"TND", 3}, {"TRY", 2}, {"TWD", 2}, {"UAH", 2}, {"USD", 2}, {"VND", 0}, {"ZAR", 2}};

/// The most that one payment may be, in minor units: exact even in a client that has doubles only.
inline constexpr std::int64_t largest_amount = 1'000'000'000'000'000;

/// @throws problem unless it is from 1 to largest_amount.
[[nodiscard]] inline std::int64_t checked_amount(std::uint64_t minor) {
    if (minor == 0) throw problem(422, "invalid_amount", "amount must be greater than zero");
    if (minor > static_cast<std::uint64_t>(largest_amount))
        throw problem(422, "amount_too_large",
                      "amount must be at most " + std::to_string(largest_amount) + " minor units");
    return static_cast<std::int64_t>(minor);
}

/// Reads "12.34": digits, and perhaps a point with more digits behind it. No sign, no exponent, no spaces, no
/// leading zero: what two readers could read in two ways is refused. @throws problem
[[nodiscard]] inline std::int64_t parse_amount(std::string_view text, unsigned decimals) {
    auto const refuse = [&](char const* why) -> problem { return {422, "invalid_amount", why}; };
    if (text.starts_with('-')) throw refuse("amount must be greater than zero");
    std::size_t const point = text.find('.');
    std::string_view const whole = text.substr(0, point);
    std::string_view const part = point == text.npos ? std::string_view() : text.substr(point + 1);
    if (whole.empty() || (point != text.npos && part.empty()) || (whole.size() > 1 && whole[0] == '0') ||
        (whole.find_first_not_of("0123456789") & part.find_first_not_of("0123456789")) != text.npos)
        throw refuse(R"(amount must be a decimal number, such as "12.34")");
    if (part.size() > decimals) throw refuse("amount has more decimals than its currency");
    // Clamped, not wrapped: beyond the largest amount it does not matter how far.
    std::uint64_t minor = 0;
    auto const add = [&](unsigned digit) {
        if (minor <= static_cast<std::uint64_t>(largest_amount)) minor = minor * 10 + digit;
    };
    for (char const c : whole) add(static_cast<unsigned>(c - '0'));
    for (std::size_t i = 0; i < decimals; ++i)
        add(i < part.size() ? static_cast<unsigned>(part[i] - '0') : 0);
    return checked_amount(minor);
}

/// 1234 and 2 decimals: "12.34".
inline void append_amount(std::string& to, std::int64_t minor, unsigned decimals) {
    std::string digits = std::to_string(minor);
    if (digits.size() <= decimals) digits.insert(0, decimals + 1 - digits.size(), '0');
    to.append(digits, 0, digits.size() - decimals);
    if (decimals == 0) return;
    to += '.';
    to.append(digits, digits.size() - decimals, decimals);
}

}  // namespace gateway
