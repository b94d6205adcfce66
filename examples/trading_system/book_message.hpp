// SPDX-License-Identifier: MIT
// What a book must know of a message, in 40 bytes, and how each message of the feed becomes that.
//
// The feed's messages have ten layouts and up to 44 bytes; a queue wants one. So the thread that reads the
// feed translates: numbers in the machine's order, executions with and without a price alike, and what no
// book needs left out. The next thread only switches on one byte.
#pragma once

#include <cairn/symbol.hpp>

#include <cstdint>

#include "itch.hpp"

namespace trading {

enum class side : std::uint8_t { bid, ask };
enum class action : std::uint8_t {
    add,
    execute,           ///< traded, and counts as volume
    execute_silently,  ///< traded; the volume is in another message
    cancel,            ///< so many shares fewer
    remove,
    replace,
    trade  ///< of an order that was never shown: volume only
};

struct book_message {
    std::uint64_t order = 0;
    std::uint64_t new_order = 0;  ///< of a replace
    std::int64_t due = 0;         ///< when it should have arrived, steady_clock's nanoseconds; 0: not timed
    std::uint32_t shares = 0;
    std::uint32_t price = 0;
    cairn::symbol stock{};  ///< set by who routes it
    std::uint16_t locate = 0;
    action what = action::add;
    side of = side::bid;
};
static_assert(sizeof(book_message) == 40);

[[nodiscard]] constexpr side side_of(char letter) noexcept { return letter == 'B' ? side::bid : side::ask; }

/// Any message that has shares and says no more than that.
template <class Message>
[[nodiscard]] constexpr book_message about(action what, Message const& m) noexcept {
    return {.order = m.order, .shares = m.shares, .locate = m.head.locate, .what = what};
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
    return about(action::execute, m);
}
[[nodiscard]] constexpr book_message translate(itch::order_executed_at_price const& m) noexcept {
    return about(m.printable == 'Y' ? action::execute : action::execute_silently, m);
}
[[nodiscard]] constexpr book_message translate(itch::order_cancelled const& m) noexcept {
    return about(action::cancel, m);
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
    return about(action::trade, m);
}

}  // namespace trading
