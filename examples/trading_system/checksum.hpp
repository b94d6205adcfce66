// SPDX-License-Identifier: MIT
// One number for all books: equal if each stock has the same prices, and at each the same orders in the same
// sequence with the same shares, the same volume and the same number of messages.
//
// The sum over stocks does not depend on their sequence, so that it is the same for one worker and for two.
// Within a stock all depends on the sequence: it is what price-time priority is about.
#pragma once

#include <cairn/hash.hpp>

#include <cstddef>
#include <cstdint>
#include <ranges>

#include "naive_books.hpp"
#include "order_book.hpp"
#include "pipeline.hpp"

namespace trading {

class book_checksum {
  public:
    explicit book_checksum(std::uint16_t locate) noexcept : sum_(hash_(locate)) {}
    void add(side of, std::uint32_t price, std::uint64_t id, std::uint32_t shares) noexcept {
        sum_ = hash_(sum_, of, price, id, shares);
    }
    [[nodiscard]] std::uint64_t finish(std::uint64_t traded, std::uint64_t messages) const noexcept {
        return hash_(sum_, traded, messages);
    }

  private:
    cairn::xxh3 hash_;
    std::uint64_t sum_;
};

[[nodiscard]] inline std::uint64_t checksum(order_books const& books) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < books.books().size(); ++i) {
        order_book const* const book = books.books()[i].get();
        if (book == nullptr || book->messages == 0) continue;
        book_checksum one(static_cast<std::uint16_t>(i));
        for (side const of : {side::bid, side::ask})
            for (std::size_t k = 0; k < (*book)[of].size(); ++k)
                for (order const* o = (*book)[of][k].first; o != nullptr; o = o->after)
                    one.add(of, (*book)[of][k].price, o->id, o->shares);
        sum += one.finish(book->traded, book->messages);
    }
    return sum;
}

[[nodiscard]] inline std::uint64_t checksum(pipeline const& books) {
    std::uint64_t sum = 0;
    for (auto const& one : books.workers()) sum += checksum(one->books());
    return sum;
}

[[nodiscard]] inline std::uint64_t checksum(naive_books const& books) {
    std::uint64_t sum = 0;
    for (auto const& [locate, book] : books.books()) {
        book_checksum one(locate);
        auto const add = [&one](side of, auto const& level) {
            for (auto const& order : level.second) one.add(of, level.first, order.id, order.shares);
        };
        for (auto const& level : std::views::reverse(book.bids)) add(side::bid, level);
        for (auto const& level : book.asks) add(side::ask, level);
        sum += one.finish(book.traded, book.messages);
    }
    return sum;
}

}  // namespace trading
