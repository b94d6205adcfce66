// SPDX-License-Identifier: MIT
// What a book must know of a message, in 48 bytes, and how each message of the feed becomes that.
//
// The feed has nine messages about orders and trades, of nine layouts; a queue wants one. So the thread that
// reads the feed translates: numbers in the machine's order, and what no book needs left out. To a book an
// execution and a cancel are alike, shares that an order has no more; they differ only in the volume of the
// day. Most messages give a volume of 0: only what traded, and is not counted by another message, has one.
#pragma once

#include <cairn/symbol.hpp>

#include <cstdint>

#include "itch.hpp"

namespace trading {

enum class side : std::uint8_t { bid, ask };
enum class action : std::uint8_t {
    add,
    reduce,  ///< so many shares fewer: they traded or were cancelled
    remove,
    replace,
    trade  ///< of orders that were never shown, or are told one by one: volume only
};

struct book_message {
    std::uint64_t order = 0;
    std::uint64_t new_order = 0;  ///< of a replace
    std::uint64_t volume = 0;     ///< shares that count as traded; 64 bits, for an auction has as many
    std::int64_t due = 0;         ///< when it should have arrived, steady_clock's nanoseconds, if it is timed
    std::uint32_t shares = 0;
    std::uint32_t price = 0;
    cairn::symbol stock{};  ///< set by who routes it
    std::uint16_t locate = 0;
    action what = action::add;
    side of = side::bid;
};
static_assert(sizeof(book_message) == 48);

[[nodiscard]] constexpr side side_of(char letter) noexcept { return letter == 'B' ? side::bid : side::ask; }

/// What all messages about an order of so many shares have in common.
template <class Message>
[[nodiscard]] constexpr book_message about(action what, Message const& m, std::uint64_t volume = 0) noexcept {
    return {.order = m.order, .volume = volume, .shares = m.shares, .locate = m.head.locate, .what = what};
}
template <class Add>
[[nodiscard]] constexpr book_message translate_add(Add const& m) noexcept {
    book_message to = about(action::add, m);
    to.price = m.price;
    to.of = side_of(m.side);
    return to;
}
[[nodiscard]] constexpr book_message translate(itch::add_order const& m) noexcept { return translate_add(m); }
[[nodiscard]] constexpr book_message translate(itch::add_attributed_order const& m) noexcept {
    return translate_add(m);
}
[[nodiscard]] constexpr book_message translate(itch::order_executed const& m) noexcept {
    return about(action::reduce, m, m.shares);
}
[[nodiscard]] constexpr book_message translate(itch::order_executed_at_price const& m) noexcept {
    return about(action::reduce, m, m.printable == 'Y' ? m.shares : 0);
}
[[nodiscard]] constexpr book_message translate(itch::order_cancelled const& m) noexcept {
    return about(action::reduce, m);
}
[[nodiscard]] constexpr book_message translate(itch::order_deleted const& m) noexcept {
    return {.order = m.order, .locate = m.head.locate, .what = action::remove};
}
[[nodiscard]] constexpr book_message translate(itch::order_replaced const& m) noexcept {
    book_message to = about(action::replace, m);
    to.new_order = m.new_order;
    to.price = m.price;
    return to;
}
[[nodiscard]] constexpr book_message translate(itch::trade const& m) noexcept {
    return {.volume = m.shares, .locate = m.head.locate, .what = action::trade};
}
[[nodiscard]] constexpr book_message translate(itch::cross_trade const& m) noexcept {
    return {.volume = m.shares, .locate = m.head.locate, .what = action::trade};
}

}  // namespace trading
