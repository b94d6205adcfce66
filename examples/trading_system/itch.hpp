// SPDX-License-Identifier: MIT
// NASDAQ TotalView-ITCH 5.0: what an exchange says all day, as bytes.
//
// A day's feed is a sequence of frames: a length of two bytes, then a message of so many, whose first byte is
// its type. All numbers are big-endian. A message never says how a book looks; it says what happened to one
// order, and who wants the book must keep it.
//
//     ┌ length 2 ┬ 'A' ┬ locate 2 ┬ tracking 2 ┬ time 6 ┬ order 8 ┬ side 1 ┬ shares 4 ┬ stock 8 ┬ price 4 ┐
//     └  0  36   ┴─────┴──────────┴────────────┴────────┴─────────┴────────┴──────────┴─────────┴─────────┘
//
//   type   bytes   what happened                     type   bytes   what happened
//   ----   -----   -------------------------------   ----   -----   -------------------------------------
//   S      12      the day begins, or ends           X      23      part of an order was cancelled
//   R      39      a stock has this locate today     D      19      an order was deleted
//   A, F   36, 40  a new order (F: and whose)        U      35      an order was replaced by a new one
//   E, C   31, 36  an order traded (C: at a price)   P      44      a trade with an order nobody saw
//                                                    Q      40      an auction: all its trades, as one
//
// All others (halts, imbalances, price collars …) change no book: they are skipped by their length, and
// counted. Skipped too is B, "that trade is void": to take its shares off the day's volume, one must have
// kept the number of each match. The locate is a small number that stands for the stock all day: the exchange
// interns its symbols.
//
// Each message lists its fields once, in the order of the wire. The reader, the writer and the check of the
// sizes all go by that list, so they cannot disagree.
//
// Bad input: the reader stops at the first frame that cannot be right (a type that ITCH does not have, a size
// that its type does not have, an end in the middle), and says at which byte and why. What came before has
// been delivered; nothing of the bad frame is. There is no way to find the next good frame: a length that is
// wrong once makes every byte after it mean something else. A wrong byte within a number cannot be seen here,
// for the feed has no checksum; a book refuses what cannot be (order_book.hpp).
// Source: "NASDAQ TotalView-ITCH 5.0" (specification) and "BinaryFILE" for the frames.
// Thread safety: none; one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace itch {

/// Nanoseconds since midnight: 6 bytes on the wire.
struct timestamp {
    std::uint64_t nanoseconds = 0;
    friend bool operator==(timestamp, timestamp) = default;
};
/// Letters, filled up with spaces.
template <std::size_t N>
using text = std::array<char, N>;
using stock_name = text<8>;
/// Prices count ten-thousandths of a dollar.
inline constexpr std::uint32_t dollar = 10'000;

/// What all messages begin with, after their type.
struct header {
    std::uint16_t locate = 0;  ///< stands for the stock, today; 0: for none
    std::uint16_t tracking = 0;
    timestamp time{};
    friend bool operator==(header const&, header const&) = default;
};

struct system_event {
    static constexpr char type = 'S';
    static constexpr std::size_t size = 12;
    header head{};
    char event = 'O';  ///< O, S, Q: the day, the system, the market begins; M, E, C: each ends
    static constexpr auto fields(auto& m) { return std::tie(m.head, m.event); }
};
struct stock_directory {
    static constexpr char type = 'R';
    static constexpr std::size_t size = 39;
    header head{};
    stock_name stock{};
    char category = 'Q', status = 'N';
    std::uint32_t round_lot = 100;
    char round_lots_only = 'N', classification = 'C';
    text<2> subtype{'Z', ' '};
    char authenticity = 'P', short_sale_threshold = 'N', ipo = ' ', tier = '1', etp = 'N';
    std::uint32_t leverage = 0;
    char inverse = 'N';
    static constexpr auto fields(auto& m) {
        return std::tie(m.head, m.stock, m.category, m.status, m.round_lot, m.round_lots_only,
                        m.classification, m.subtype, m.authenticity, m.short_sale_threshold, m.ipo, m.tier,
                        m.etp, m.leverage, m.inverse);
    }
};
struct add_order {
    static constexpr char type = 'A';
    static constexpr std::size_t size = 36;
    header head{};
    std::uint64_t order = 0;
    char side = 'B';
    std::uint32_t shares = 0;
    stock_name stock{};
    std::uint32_t price = 0;
    static constexpr auto fields(auto& m) {
        return std::tie(m.head, m.order, m.side, m.shares, m.stock, m.price);
    }
};
struct add_attributed_order {
    static constexpr char type = 'F';
    static constexpr std::size_t size = 40;
    header head{};
    std::uint64_t order = 0;
    char side = 'B';
    std::uint32_t shares = 0;
    stock_name stock{};
    std::uint32_t price = 0;
    text<4> participant{};
    static constexpr auto fields(auto& m) {
        return std::tie(m.head, m.order, m.side, m.shares, m.stock, m.price, m.participant);
    }
};
struct order_executed {
    static constexpr char type = 'E';
    static constexpr std::size_t size = 31;
    header head{};
    std::uint64_t order = 0;
    std::uint32_t shares = 0;
    std::uint64_t match = 0;
    static constexpr auto fields(auto& m) { return std::tie(m.head, m.order, m.shares, m.match); }
};
struct order_executed_at_price {
    static constexpr char type = 'C';
    static constexpr std::size_t size = 36;
    header head{};
    std::uint64_t order = 0;
    std::uint32_t shares = 0;
    std::uint64_t match = 0;
    char printable = 'Y';  ///< N: not to be counted as volume, for a cross_trade counts it
    std::uint32_t price = 0;
    static constexpr auto fields(auto& m) {
        return std::tie(m.head, m.order, m.shares, m.match, m.printable, m.price);
    }
};
struct order_cancelled {
    static constexpr char type = 'X';
    static constexpr std::size_t size = 23;
    header head{};
    std::uint64_t order = 0;
    std::uint32_t shares = 0;  ///< so many fewer
    static constexpr auto fields(auto& m) { return std::tie(m.head, m.order, m.shares); }
};
struct order_deleted {
    static constexpr char type = 'D';
    static constexpr std::size_t size = 19;
    header head{};
    std::uint64_t order = 0;
    static constexpr auto fields(auto& m) { return std::tie(m.head, m.order); }
};
struct order_replaced {
    static constexpr char type = 'U';
    static constexpr std::size_t size = 35;
    header head{};
    std::uint64_t order = 0;      ///< ends
    std::uint64_t new_order = 0;  ///< begins: same stock and side, last in the queue of its price
    std::uint32_t shares = 0;
    std::uint32_t price = 0;
    static constexpr auto fields(auto& m) {
        return std::tie(m.head, m.order, m.new_order, m.shares, m.price);
    }
};
struct trade {
    static constexpr char type = 'P';
    static constexpr std::size_t size = 44;
    header head{};
    std::uint64_t order = 0;
    char side = 'B';
    std::uint32_t shares = 0;
    stock_name stock{};
    std::uint32_t price = 0;
    std::uint64_t match = 0;
    static constexpr auto fields(auto& m) {
        return std::tie(m.head, m.order, m.side, m.shares, m.stock, m.price, m.match);
    }
};

struct cross_trade {
    static constexpr char type = 'Q';
    static constexpr std::size_t size = 40;
    header head{};
    std::uint64_t shares = 0;  ///< of all orders that met in this auction, whether they were shown or not
    stock_name stock{};
    std::uint32_t price = 0;
    std::uint64_t match = 0;
    char auction = 'O';  ///< O, C: the day's opening, its close; H, I: after a halt, of a new stock
    static constexpr auto fields(auto& m) {
        return std::tie(m.head, m.shares, m.stock, m.price, m.match, m.auction);
    }
};

/// The size of a message of a type that changes no book; 0 for a letter that is no type of ITCH 5.0.
[[nodiscard]] constexpr std::size_t size_of_skipped(char type) noexcept {
    switch (type) {
        case 'B':  // a trade is void
            return 19;
        case 'H':  // a stock is halted, or trades again
            return 25;
        case 'h':  // the same, for one market
            return 21;
        case 'I':  // what an auction would give now
            return 50;
        case 'J':  // the limits of an auction
            return 35;
        case 'K':  // when a new stock is quoted
            return 28;
        case 'L':  // who makes a market
            return 26;
        case 'N':  // private investors would trade
            return 20;
        case 'O':  // a listing without bankers
            return 48;
        case 'V':  // at which falls all markets stop
            return 35;
        case 'W':  // one of these was reached
            return 12;
        case 'Y':  // short sales are restricted
            return 20;
        default:
            return 0;
    }
}

// ---- Bytes. ----

namespace detail {

/// Without a loop, so that compilers make one load and one swap of it.
template <std::size_t N>
[[nodiscard]] constexpr std::uint64_t load(std::byte const* at) noexcept {
    return [at]<std::size_t... I>(std::index_sequence<I...>) {
        return ((static_cast<std::uint64_t>(at[I]) << 8 * (N - 1 - I)) | ...);
    }(std::make_index_sequence<N>{});
}

/// Reads fields, one after the other.
struct input {
    std::byte const* at;
    template <class T>
        requires std::is_integral_v<T>
    constexpr void operator()(T& value) noexcept {
        value = static_cast<T>(load<sizeof(T)>(at));
        at += sizeof(T);
    }
    constexpr void operator()(timestamp& time) noexcept {
        time.nanoseconds = load<2>(at) << 32 | load<4>(at + 2);
        at += 6;
    }
    template <std::size_t N>
    constexpr void operator()(text<N>& letters) noexcept {
        for (char& letter : letters) (*this)(letter);
    }
    constexpr void operator()(header& head) noexcept {
        (*this)(head.locate);
        (*this)(head.tracking);
        (*this)(head.time);
    }
};

/// Writes them.
struct output {
    std::vector<std::byte>& to;
    void number(std::uint64_t value, std::size_t bytes) {
        while (bytes-- != 0) to.push_back(static_cast<std::byte>(value >> 8 * bytes));
    }
    template <class T>
        requires std::is_integral_v<T>
    void operator()(T value) {
        number(static_cast<std::make_unsigned_t<T>>(value), sizeof(T));
    }
    void operator()(timestamp time) { number(time.nanoseconds, 6); }
    template <std::size_t N>
    void operator()(text<N> const& letters) {
        for (char const letter : letters) (*this)(letter);
    }
    void operator()(header const& head) {
        (*this)(head.locate);
        (*this)(head.tracking);
        (*this)(head.time);
    }
};

template <class Field>
inline constexpr std::size_t bytes_of = sizeof(Field);
template <>
inline constexpr std::size_t bytes_of<timestamp> = 6;
template <>
inline constexpr std::size_t bytes_of<header> = 10;

template <class... Fields>
consteval std::size_t sum(std::tuple<Fields&...>) {
    return 1 + (bytes_of<Fields> + ...);
}
template <class Message>
consteval bool is_complete() {
    Message m;
    return sum(Message::fields(m)) == Message::size;
}
static_assert(is_complete<system_event>() && is_complete<stock_directory>() && is_complete<add_order>() &&
              is_complete<add_attributed_order>() && is_complete<order_executed>() &&
              is_complete<order_executed_at_price>() && is_complete<order_cancelled>() &&
              is_complete<order_deleted>() && is_complete<order_replaced>() && is_complete<trade>() &&
              is_complete<cross_trade>());

template <class Message>
[[nodiscard]] constexpr bool is_valid(Message const& m) noexcept {
    if constexpr (requires { m.side; })
        if (m.side != 'B' && m.side != 'S') return false;
    if constexpr (requires { m.printable; })
        if (m.printable != 'Y' && m.printable != 'N') return false;
    return true;
}

}  // namespace detail

/// The message in these bytes, whose first is its type. Precondition: there are Message::size of them.
template <class Message>
[[nodiscard]] constexpr Message decode(std::byte const* bytes) noexcept {
    Message message;
    std::apply([in = detail::input{bytes + 1}](auto&... fields) mutable { (in(fields), ...); },
               Message::fields(message));
    return message;
}

/// Appends a frame: the length, the type, the fields. @throws std::bad_alloc
template <class Message>
void append(std::vector<std::byte>& feed, Message const& message) {
    detail::output out{feed};
    out(static_cast<std::uint16_t>(Message::size));
    out(Message::type);
    std::apply([&out](auto const&... fields) { (out(fields), ...); }, Message::fields(message));
}

/// "AAPL" as the wire has it. Precondition: at most 8 letters.
[[nodiscard]] constexpr stock_name pad(std::string_view name) noexcept {
    stock_name padded;
    padded.fill(' ');
    for (std::size_t i = 0; i < name.size(); ++i) padded[i] = name[i];
    return padded;
}
/// And back: without the spaces at the end.
[[nodiscard]] constexpr std::string_view trim(stock_name const& name) noexcept {
    std::string_view const all(name.data(), name.size());
    return all.substr(0, all.find_last_not_of(' ') + 1);
}

/// Why a feed was not read to its end.
struct feed_error {
    std::uint64_t offset = 0;  ///< of the frame that is wrong, in bytes from the start
    std::string what;          ///< a sentence, with the offset
};

class feed_reader {
  public:
    /// Reads these bytes, which must stay. Precondition: `from` is where a frame begins, or the end.
    explicit feed_reader(std::span<std::byte const> feed, std::size_t from = 0) noexcept
        : feed_(feed), offset_(from) {}

    /// Reads one frame and calls visit(message) with it, unless its type is skipped. False at the end, and at
    /// and after a frame that is wrong: then there is an error(). If visit throws, the frame is read again.
    template <class Visitor>
    bool next(Visitor&& visit) {
        std::size_t const left = feed_.size() - offset_;
        if (left == 0 || wrong_ != fault::none) return false;
        if (left < 2) return stop(fault::half_a_length);
        std::byte const* const at = feed_.data() + offset_;
        std::size_t const length = detail::load<2>(at);
        if (length == 0) return left == 2 ? end() : stop(fault::after_the_end);
        if (length > left - 2) return stop(fault::cut_short);
        switch (static_cast<char>(at[2])) {
            case system_event::type:
                return deliver<system_event>(at, length, visit);
            case stock_directory::type:
                return deliver<stock_directory>(at, length, visit);
            case add_order::type:
                return deliver<add_order>(at, length, visit);
            case add_attributed_order::type:
                return deliver<add_attributed_order>(at, length, visit);
            case order_executed::type:
                return deliver<order_executed>(at, length, visit);
            case order_executed_at_price::type:
                return deliver<order_executed_at_price>(at, length, visit);
            case order_cancelled::type:
                return deliver<order_cancelled>(at, length, visit);
            case order_deleted::type:
                return deliver<order_deleted>(at, length, visit);
            case order_replaced::type:
                return deliver<order_replaced>(at, length, visit);
            case trade::type:
                return deliver<trade>(at, length, visit);
            case cross_trade::type:
                return deliver<cross_trade>(at, length, visit);
            default:
                return skip(static_cast<char>(at[2]), length);
        }
    }

    /// Where the next frame begins, in bytes from the start of the feed.
    [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
    /// The frames that have been read, those that were skipped among them.
    [[nodiscard]] std::uint64_t frames() const noexcept { return frames_; }
    /// The frames of types that change no book.
    [[nodiscard]] std::uint64_t skipped() const noexcept { return skipped_; }

    /// Why next() said false, if it was not the end.
    [[nodiscard]] std::optional<feed_error> error() const {
        if (wrong_ == fault::none) return std::nullopt;
        return feed_error{offset_, "byte " + std::to_string(offset_) + ": " + explain()};
    }

  private:
    enum class fault : std::uint8_t {
        none,
        half_a_length,
        cut_short,
        after_the_end,
        no_type,
        wrong_size,
        bad_field
    };

    template <class Message, class Visitor>
    bool deliver(std::byte const* at, std::size_t length, Visitor& visit) {
        if (length != Message::size) return stop(fault::wrong_size, Message::size);
        Message const message = decode<Message>(at + 2);
        if (!detail::is_valid(message)) return stop(fault::bad_field);
        visit(message);
        return step(length);
    }
    bool skip(char type, std::size_t length) noexcept {
        std::size_t const right_size = size_of_skipped(type);
        if (right_size == 0) return stop(fault::no_type);
        if (length != right_size) return stop(fault::wrong_size, right_size);
        ++skipped_;
        return step(length);
    }
    bool step(std::size_t length) noexcept {
        offset_ += 2 + length;
        ++frames_;
        return true;
    }
    /// A length of zero is how a file says that the session is over.
    bool end() noexcept {
        offset_ += 2;
        return false;
    }
    [[gnu::cold]] bool stop(fault wrong, std::size_t right_size = 0) noexcept {
        wrong_ = wrong;
        right_size_ = right_size;
        return false;
    }

    [[nodiscard]] std::string explain() const {
        std::size_t const left = feed_.size() - offset_;
        if (wrong_ == fault::half_a_length) return "the feed ends within a length";
        std::string const length = std::to_string(detail::load<2>(&feed_[offset_]));
        if (wrong_ == fault::after_the_end)
            return std::to_string(left - 2) + " bytes follow the end of the session";
        if (wrong_ == fault::cut_short)
            return "a message of " + length + " bytes, but the feed ends after " + std::to_string(left - 2);
        if (wrong_ == fault::no_type)
            return "a message of type " + std::to_string(std::to_integer<unsigned>(feed_[offset_ + 2])) +
                   ", which ITCH 5.0 does not have";
        std::string const kind = std::string("a message of type ") + static_cast<char>(feed_[offset_ + 2]);
        if (wrong_ == fault::wrong_size)
            return kind + " has " + std::to_string(right_size_) + " bytes, this one has " + length;
        return kind + " with a side other than B and S, or printable other than Y and N";
    }

    std::span<std::byte const> feed_;
    std::size_t offset_ = 0;
    std::uint64_t frames_ = 0;
    std::uint64_t skipped_ = 0;
    fault wrong_ = fault::none;
    std::size_t right_size_ = 0;
};

}  // namespace itch
