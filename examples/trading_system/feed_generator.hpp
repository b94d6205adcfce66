// SPDX-License-Identifier: MIT
// A feed that could be true: many stocks, few of them busy, prices that wander, and no message without sense.
//
// Real days are large and not free to pass on. This one is made from a seed: the same bytes on every machine.
// It keeps books of its own, so an execution is of the order that is first in its queue, a cancel leaves some
// shares, no order is deleted twice, and no book is ever crossed.
//
//   what            as on a real day
//   -------------   ---------------------------------------------------------------------------------------
//   stocks          Zipf: of 1,000, the busiest has 13 % of all messages, half of them 2 % together
//   messages        mostly adds and deletes, some replaces, few executions
//   lives           most orders are cancelled young, some stay all day
//   prices          a random walk by cents; orders wait near it, few far away
//   auctions        here and there an order meets one that was never shown; the volume is told by the auction
//
// Source: the shape of NASDAQ's own statistics; no line of its data. Thread safety: none.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "itch.hpp"
#include "order_book.hpp"

namespace trading {

struct feed_options {
    std::uint64_t seed = 1;
    std::uint64_t messages = 300'000;  ///< about orders; the directory and the events come on top
    std::uint16_t stocks = 1'000;
    std::uint32_t live_orders = 100'000;  ///< so many wait in the books once the day is under way
};

class feed_generator {
  public:
    /// @throws std::invalid_argument for no stocks.
    explicit feed_generator(feed_options const& options) : options_(options), random_(options.seed) {
        if (options.stocks == 0) throw std::invalid_argument("feed_generator: a feed of 0 stocks");
        double sum = 0;
        for (std::size_t i = 0; i < options.stocks; ++i) sum += 1.0 / static_cast<double>(i + 1);
        double share = 0;
        for (std::size_t i = 0; i < options.stocks; ++i) {
            double const weight = 1.0 / static_cast<double>(i + 1) / sum;
            share += weight;
            stocks_.push_back({.share_until = share,
                               .name = itch::pad(name_of(i)),
                               .orders_wanted = 10 + static_cast<std::size_t>(options.live_orders * weight),
                               .cents = 1'000 + random_.below(40'000)});
        }
    }

    /// Appends the next message, or few that belong together. False at the end of the day.
    bool append_next(std::vector<std::byte>& feed) {
        if (over_) return false;
        if (!begun_) return begin(feed);
        if (made_ >= options_.messages) return end(feed);
        now_ += random_.below(2'000);
        std::size_t const which = pick_stock();
        stock& one = stocks_[which];
        one.cents += random_.below(500) == 0 ? 1 - 2 * static_cast<std::int64_t>(random_.below(2)) : 0;
        one.cents = std::max<std::int64_t>(one.cents, 100);
        auto const locate = static_cast<std::uint16_t>(which + 1);
        if (trade_through(feed, one, locate)) return true;
        order_book const* const book = books_.find(locate);
        std::size_t const waiting = book == nullptr ? 0 : book->orders;
        bool const grow = random_.below(100) < (waiting < one.orders_wanted ? 65U : 35U);
        if (grow || !change(feed, one, locate)) add(feed, one, locate);
        return true;
    }

    /// What the books are after all that was appended.
    [[nodiscard]] order_books const& books() const noexcept { return books_; }

    /// "AAPL" and other known ones, then made-up ones.
    [[nodiscard]] static std::string name_of(std::size_t i) {
        constexpr std::array known{"AAPL", "MSFT", "NVDA", "AMZN", "META", "TSLA", "GOOG", "AVGO",
                                   "AMD",  "INTC", "CSCO", "QCOM", "MU",   "NFLX", "ADBE", "PEP"};
        if (i < known.size()) return known[i];
        std::string name = "Z";  // no stock above begins so
        for (i -= known.size(); name.size() < 4; i /= 26) name += static_cast<char>('A' + i % 26);
        return i == 0 ? name : name + std::to_string(i);
    }

  private:
    /// SplitMix64 (Steele, Lea, Flood, 2014). The standard's distributions differ between libraries.
    class generator {
      public:
        explicit generator(std::uint64_t seed) noexcept : state_(seed) {}
        std::uint64_t operator()() noexcept {
            std::uint64_t z = state_ += 0x9E37'79B9'7F4A'7C15U;
            z = (z ^ z >> 30) * 0xBF58'476D'1CE4'E5B9U;
            z = (z ^ z >> 27) * 0x94D0'49BB'1331'11EBU;
            return z ^ z >> 31;
        }
        /// 0 … n - 1. Of n far below 2^32 all are nearly as likely.
        std::uint32_t below(std::uint32_t n) noexcept {
            return static_cast<std::uint32_t>(((*this)() >> 32) * n >> 32);
        }
        /// 0 with 1/2, 1 with 1/4, …
        unsigned halvings() noexcept {
            return static_cast<unsigned>(std::countr_zero((*this)() | 1ULL << 40));
        }
        double fraction() noexcept { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

      private:
        std::uint64_t state_;
    };

    struct stock {
        double share_until = 0;
        itch::stock_name name{};
        std::size_t orders_wanted = 0;
        std::int64_t cents = 0;             // where the price is just now
        std::vector<std::uint64_t> live{};  // orders, the young ones behind; some may be gone
    };

    bool begin(std::vector<std::byte>& feed) {
        begun_ = true;
        for (char const event : {'O', 'S'}) append(feed, itch::system_event{.head = head(0), .event = event});
        for (std::size_t i = 0; i < stocks_.size(); ++i)
            append(feed, itch::stock_directory{.head = head(static_cast<std::uint16_t>(i + 1)),
                                               .stock = stocks_[i].name});
        append(feed, itch::system_event{.head = head(0), .event = 'Q'});
        return true;
    }
    bool end(std::vector<std::byte>& feed) {
        over_ = true;
        for (char const event : {'M', 'E', 'C'})
            append(feed, itch::system_event{.head = head(0), .event = event});
        return false;
    }

    [[nodiscard]] std::size_t pick_stock() {
        auto const found = std::ranges::upper_bound(stocks_, random_.fraction(), {}, &stock::share_until);
        return std::min(static_cast<std::size_t>(found - stocks_.begin()), stocks_.size() - 1);
    }

    /// If the price has gone through the best order of a side, somebody takes it.
    bool trade_through(std::vector<std::byte>& feed, stock const& one, std::uint16_t locate) {
        order_book const* const book = books_.find(locate);
        if (book == nullptr) return false;
        auto const price = static_cast<std::uint32_t>(one.cents) * itch_cent;
        for (side const of : {side::bid, side::ask})
            if (level const* const best = (*book)[of].best();
                best != nullptr && (of == side::bid ? best->price > price : best->price < price)) {
                execute(feed, one, *best->first, locate);
                return true;
            }
        return false;
    }

    void execute(std::vector<std::byte>& feed, stock const& one, order const& waits, std::uint16_t locate) {
        std::uint32_t const shares = random_.below(3) == 0 ? 1 + random_.below(waits.shares) : waits.shares;
        if (random_.below(20) != 0) {
            emit(feed, itch::order_executed{
                           .head = head(locate), .order = waits.id, .shares = shares, .match = ++matches_});
            return;
        }
        bool const auction = random_.below(4) == 0 && made_ + 2 <= options_.messages;  // two messages
        std::uint32_t const price = waits.at->price;
        emit(feed, itch::order_executed_at_price{.head = head(locate),
                                                 .order = waits.id,
                                                 .shares = shares,
                                                 .match = ++matches_,
                                                 .printable = auction ? 'N' : 'Y',
                                                 .price = price});
        if (auction)
            emit(feed, itch::cross_trade{.head = head(locate),
                                         .shares = shares,
                                         .stock = one.name,
                                         .price = price,
                                         .match = matches_,
                                         .auction = 'H'});
    }

    void add(std::vector<std::byte>& feed, stock& one, std::uint16_t locate) {
        side const of = random_.below(2) == 0 ? side::bid : side::ask;
        itch::add_order const m{.head = head(locate),
                                .order = ++orders_,
                                .side = of == side::bid ? 'B' : 'S',
                                .shares = some_shares(),
                                .stock = one.name,
                                .price = some_price(one, of, locate)};
        if (random_.below(50) == 0)
            emit(feed, itch::add_attributed_order{.head = m.head,
                                                  .order = m.order,
                                                  .side = m.side,
                                                  .shares = m.shares,
                                                  .stock = m.stock,
                                                  .price = m.price,
                                                  .participant = {'C', 'A', 'R', 'N'}});
        else
            emit(feed, m);
        one.live.push_back(m.order);
    }

    /// Something happens to an order that waits. False if there is none.
    bool change(std::vector<std::byte>& feed, stock& one, std::uint16_t locate) {
        std::uint32_t const what = random_.below(100);
        if (what < 2) {
            emit(feed, itch::trade{.head = head(locate),
                                   .shares = some_shares(),
                                   .stock = one.name,
                                   .price = static_cast<std::uint32_t>(one.cents) * itch_cent,
                                   .match = ++matches_});
            return true;
        }
        order_book const* const book = books_.find(locate);
        if (book == nullptr) return false;
        if (what < 10) {
            level const* const best = (*book)[random_.below(2) == 0 ? side::bid : side::ask].best();
            if (best == nullptr) return false;
            execute(feed, one, *best->first, locate);
            return true;
        }
        order const* const chosen = pick_order(one, locate);
        if (chosen == nullptr) return false;
        if (what < 14 && chosen->shares > 1) {
            emit(feed, itch::order_cancelled{.head = head(locate),
                                             .order = chosen->id,
                                             .shares = 1 + random_.below(chosen->shares - 1)});
        } else if (what < 26) {
            itch::order_replaced const m{.head = head(locate),
                                         .order = chosen->id,
                                         .new_order = ++orders_,
                                         .shares = some_shares(),
                                         .price = some_price(one, chosen->at->of, locate)};
            emit(feed, m);
            one.live.push_back(m.new_order);
        } else {
            emit(feed, itch::order_deleted{.head = head(locate), .order = chosen->id});
        }
        return true;
    }

    /// Mostly a young one. Those that are gone are taken out when they are met.
    order const* pick_order(stock& one, std::uint16_t locate) {
        while (!one.live.empty()) {
            std::size_t const n = one.live.size();
            std::size_t const back = random_.below(4) == 0 ? random_.below(static_cast<std::uint32_t>(n))
                                                           : std::min<std::size_t>(random_.below(16), n - 1);
            std::size_t const i = n - 1 - back;
            if (order const* const found = books_.find_order(one.live[i], locate)) return found;
            one.live[i] = one.live.back();
            one.live.pop_back();
        }
        return nullptr;
    }

    [[nodiscard]] std::uint32_t some_shares() {
        return random_.below(8) == 0 ? 1 + random_.below(99) : 100 * (1 + random_.halvings());
    }
    /// Some cents behind the price, few far behind, and never at or beyond the best of the other side.
    [[nodiscard]] std::uint32_t some_price(stock const& one, side of, std::uint16_t locate) {
        std::int64_t const behind = random_.below(20) == 0 ? random_.below(90) : 1 + 2 * random_.halvings();
        std::int64_t cents = std::max<std::int64_t>(one.cents + (of == side::bid ? -behind : behind), 1);
        if (order_book const* const book = books_.find(locate)) {
            side const other = of == side::bid ? side::ask : side::bid;
            if (level const* const best = (*book)[other].best()) {
                std::int64_t const limit = best->price / itch_cent;
                cents = of == side::bid ? std::min(cents, limit - 1) : std::max(cents, limit + 1);
            }
        }
        return static_cast<std::uint32_t>(cents) * itch_cent;
    }

    template <class Message>
    void emit(std::vector<std::byte>& feed, Message const& m) {
        append(feed, m);
        (void)books_.apply(translate(m));
        ++made_;
    }
    [[nodiscard]] itch::header head(std::uint16_t locate) const noexcept {
        return {.locate = locate, .tracking = 0, .time = {now_}};
    }

    static constexpr std::uint32_t itch_cent = itch::dollar / 100;

    feed_options options_;
    generator random_;
    std::vector<stock> stocks_;
    order_books books_;
    std::uint64_t now_ = 34'200'000'000'000;  // half past nine
    std::uint64_t made_ = 0, orders_ = 0, matches_ = 0;
    bool begun_ = false, over_ = false;
};

/// A whole day in memory.
[[nodiscard]] inline std::vector<std::byte> make_feed(feed_options const& options) {
    feed_generator day(options);
    std::vector<std::byte> feed;
    feed.reserve(options.messages * 34 + options.stocks * std::size_t{41} + 128);
    while (day.append_next(feed)) {
    }
    return feed;
}

/// A whole day as a file, a piece at a time. Returns its bytes.
/// @throws std::runtime_error as soon as the file takes no more
inline std::uint64_t write_feed(std::string const& path, feed_options const& options) {
    feed_generator day(options);
    std::ofstream file(path, std::ios::binary);
    std::vector<std::byte> piece;
    std::uint64_t bytes = 0;
    for (bool more = true; more && file;) {
        more = day.append_next(piece);
        if (more && piece.size() < 1'000'000) continue;
        file.write(reinterpret_cast<char const*>(piece.data()), static_cast<std::streamsize>(piece.size()));
        bytes += piece.size();
        piece.clear();
    }
    file.close();
    if (!file) throw std::runtime_error("cannot write " + path);
    return bytes;
}

}  // namespace trading
