// SPDX-License-Identifier: MIT
// The trading system of the examples: feed, books, pipeline.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "../examples/trading_system/checksum.hpp"
#include "../examples/trading_system/feed_generator.hpp"
#include "../examples/trading_system/index_race.hpp"
#include "../examples/trading_system/itch.hpp"
#include "../examples/trading_system/latency.hpp"
#include "../examples/trading_system/mapped_file.hpp"
#include "../examples/trading_system/naive_books.hpp"
#include "../examples/trading_system/order_book.hpp"
#include "../examples/trading_system/picture.hpp"
#include "../examples/trading_system/pipeline.hpp"
#include "support/count_allocations.hpp"
#include "support/scratch.hpp"

namespace {

using namespace trading;
using bytes = std::vector<std::byte>;

bytes from_hex(std::string_view hex) {
    bytes result;
    for (std::size_t i = 0; i < hex.size();) {
        if (hex[i] == ' ') {
            ++i;
            continue;
        }
        result.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
        i += 2;
    }
    return result;
}

/// Whatever is delivered, written again.
struct recorder {
    bytes feed{};
    std::size_t messages = 0;
    void operator()(auto const& message) {
        itch::append(feed, message);
        ++messages;
    }
};

struct reading {
    recorder delivered;
    std::uint64_t frames, skipped, offset;
    std::optional<itch::feed_error> error;
};
reading read_all(std::span<std::byte const> feed) {
    itch::feed_reader reader(feed);
    recorder delivered;
    while (reader.next(delivered)) {
    }
    EXPECT_FALSE(reader.next(delivered)) << "after the end";
    return {delivered, reader.frames(), reader.skipped(), reader.offset(), reader.error()};
}

template <class Message>
void expect_wire(Message const& message, std::string_view hex) {
    bytes const wire = from_hex(hex);
    bytes written;
    itch::append(written, message);
    EXPECT_EQ(written, wire) << Message::type;
    ASSERT_EQ(wire.size(), 2 + Message::size);
    Message const read = itch::decode<Message>(wire.data() + 2);
    EXPECT_TRUE(Message::fields(read) == Message::fields(message)) << Message::type;
}

// By hand, from the tables of the specification.
TEST(Itch, WritesAndReadsEachMessageAsTheSpecificationSays) {
    itch::header const head{.locate = 0x0102, .tracking = 0x0304, .time = {0x1F'2B'3A'4C'5D'6E}};
    expect_wire(itch::system_event{.head = head, .event = 'Q'}, "000C 53 0102 0304 1F2B3A4C5D6E 51");
    expect_wire(itch::stock_directory{.head = head,
                                      .stock = itch::pad("AAPL"),
                                      .category = 'Q',
                                      .status = 'N',
                                      .round_lot = 100,
                                      .round_lots_only = 'N',
                                      .classification = 'C',
                                      .subtype = {'Z', ' '},
                                      .authenticity = 'P',
                                      .short_sale_threshold = 'N',
                                      .ipo = ' ',
                                      .tier = '1',
                                      .etp = 'N',
                                      .leverage = 3,
                                      .inverse = 'N'},
                "0027 52 0102 0304 1F2B3A4C5D6E 4141504C20202020 51 4E 00000064 4E 43 5A20 50 4E 20 31 4E "
                "00000003 4E");
    expect_wire(itch::add_order{.head = head,
                                .order = 0x1122334455667788,
                                .side = 'S',
                                .shares = 0x00010203,
                                .stock = itch::pad("BRK.A"),
                                .price = 5'000'000},
                "0024 41 0102 0304 1F2B3A4C5D6E 1122334455667788 53 00010203 42524B2E41202020 004C4B40");
    expect_wire(itch::add_attributed_order{.head = head,
                                           .order = 7,
                                           .side = 'B',
                                           .shares = 100,
                                           .stock = itch::pad("A"),
                                           .price = 1,
                                           .participant = {'G', 'S', 'C', 'O'}},
                "0028 46 0102 0304 1F2B3A4C5D6E 0000000000000007 42 00000064 4120202020202020 00000001 "
                "4753434F");
    expect_wire(itch::order_executed{.head = head, .order = 8, .shares = 9, .match = 0xFFFFFFFFFFFFFFFF},
                "001F 45 0102 0304 1F2B3A4C5D6E 0000000000000008 00000009 FFFFFFFFFFFFFFFF");
    expect_wire(
        itch::order_executed_at_price{
            .head = head, .order = 8, .shares = 9, .match = 10, .printable = 'N', .price = 11},
        "0024 43 0102 0304 1F2B3A4C5D6E 0000000000000008 00000009 000000000000000A 4E 0000000B");
    expect_wire(itch::order_cancelled{.head = head, .order = 8, .shares = 0xFFFFFFFF},
                "0017 58 0102 0304 1F2B3A4C5D6E 0000000000000008 FFFFFFFF");
    expect_wire(itch::order_deleted{.head = head, .order = 8},
                "0013 44 0102 0304 1F2B3A4C5D6E 0000000000000008");
    expect_wire(itch::order_replaced{.head = head, .order = 8, .new_order = 9, .shares = 10, .price = 11},
                "0023 55 0102 0304 1F2B3A4C5D6E 0000000000000008 0000000000000009 0000000A 0000000B");
    expect_wire(itch::trade{.head = head,
                            .order = 0,
                            .side = 'B',
                            .shares = 10,
                            .stock = itch::pad("ABCDEFGH"),
                            .price = 11,
                            .match = 12},
                "002C 50 0102 0304 1F2B3A4C5D6E 0000000000000000 42 0000000A 4142434445464748 0000000B "
                "000000000000000C");
    expect_wire(itch::cross_trade{.head = head,
                                  .shares = 0x0102030405060708,
                                  .stock = itch::pad("A"),
                                  .price = 11,
                                  .match = 12,
                                  .auction = 'C'},
                "0028 51 0102 0304 1F2B3A4C5D6E 0102030405060708 4120202020202020 0000000B 000000000000000C "
                "43");
}

TEST(Itch, PadsAndTrimsNames) {
    for (std::string_view const name : {"", "A", "BRK.A", "ABCDEFGH"})
        EXPECT_EQ(itch::trim(itch::pad(name)), name);
    EXPECT_EQ(itch::trim(itch::pad("A B")), "A B");
}

/// One message of each type.
bytes short_day() {
    itch::header const head{.locate = 1};
    bytes feed;
    itch::append(feed, itch::system_event{.head = head});
    itch::append(feed, itch::stock_directory{.head = head, .stock = itch::pad("AAPL")});
    itch::append(feed, itch::add_order{.head = head, .order = 1, .shares = 100, .price = 10});
    itch::append(feed,
                 itch::add_attributed_order{.head = head, .order = 2, .side = 'S', .shares = 9, .price = 20});
    itch::append(feed, itch::order_executed{.head = head, .order = 1, .shares = 10});
    itch::append(feed, itch::order_executed_at_price{.head = head, .order = 1, .shares = 10, .price = 9});
    itch::append(feed, itch::order_cancelled{.head = head, .order = 1, .shares = 10});
    itch::append(feed,
                 itch::order_replaced{.head = head, .order = 1, .new_order = 3, .shares = 5, .price = 9});
    itch::append(feed, itch::trade{.head = head, .shares = 5, .price = 15});
    itch::append(feed, itch::cross_trade{.head = head, .shares = 5, .price = 15});
    itch::append(feed, itch::order_deleted{.head = head, .order = 3});
    return feed;
}

/// Where each frame of a good feed begins, and its end.
std::vector<std::size_t> frame_starts(std::span<std::byte const> feed) {
    std::vector<std::size_t> starts;
    itch::feed_reader reader(feed);
    do starts.push_back(reader.offset());
    while (reader.next([](auto const&) {}));
    return starts;
}

TEST(Itch, DeliversAllOfAFeedInOrder) {
    bytes const feed = short_day();
    reading const read = read_all(feed);
    EXPECT_EQ(read.delivered.feed, feed);
    EXPECT_EQ(read.delivered.messages, 11U);
    EXPECT_EQ(read.frames, 11U);
    EXPECT_EQ(read.offset, feed.size());
    EXPECT_FALSE(read.error);
    EXPECT_FALSE(read_all({}).error) << "an empty feed is one";
}

TEST(Itch, SaysAtWhichByteAFeedIsCutShortWhereverThatIs) {
    bytes const feed = short_day();
    std::vector<std::size_t> const starts = frame_starts(feed);
    for (std::size_t cut = 0; cut < feed.size(); ++cut) {
        std::size_t const frame = *std::prev(std::ranges::upper_bound(starts, cut));
        // In memory of just that size, so that a look behind the end is found.
        auto const part = std::make_unique<std::byte[]>(cut);
        std::copy_n(feed.begin(), cut, part.get());
        reading const read = read_all({part.get(), cut});
        EXPECT_TRUE(std::ranges::equal(read.delivered.feed, std::span(feed).first(frame))) << cut;
        EXPECT_EQ(read.offset, frame);
        ASSERT_EQ(read.error.has_value(), frame != cut) << cut;
        if (!read.error) continue;
        EXPECT_EQ(read.error->offset, frame);
        EXPECT_TRUE(read.error->what.starts_with("byte " + std::to_string(frame) + ": ")) << read.error->what;
    }
}

TEST(Itch, DeliversWhatIsBeforeAByteThatIsWrongWhicheverThatIs) {
    bytes const feed = short_day();
    std::vector<std::size_t> const starts = frame_starts(feed);
    for (std::size_t at = 0; at < feed.size(); ++at)
        for (unsigned value = 0; value < 256; ++value) {
            bytes wrong = feed;
            wrong[at] = static_cast<std::byte>(value);
            std::size_t const frame = *std::prev(std::ranges::upper_bound(starts, at));
            reading const read = read_all(wrong);
            ASSERT_GE(read.delivered.feed.size(), frame);
            ASSERT_TRUE(std::equal(feed.begin(), feed.begin() + static_cast<std::ptrdiff_t>(frame),
                                   read.delivered.feed.begin()))
                << at << " is " << value;
            ASSERT_LE(read.offset, feed.size());
            if (read.error) {
                ASSERT_EQ(read.error->offset, read.offset);
            }
        }
}

/// A frame of zeros of this type and size, and a good one.
bytes frame_of(unsigned type, std::size_t length) {
    bytes feed{static_cast<std::byte>(length >> 8), static_cast<std::byte>(length & 255)};
    feed.resize(2 + length);
    feed[2] = static_cast<std::byte>(type);
    itch::append(feed, itch::system_event{});
    return feed;
}

TEST(Itch, RefusesAWrongSizeOfEachTypeAndTypesThatDoNotExist) {
    std::size_t sizes = 0, types = 0;
    std::string_view const known = "SRAFECXDUPQBHhIJKLNOVWY";
    for (unsigned type = 0; type < 256; ++type)
        for (std::size_t const length : {1U, 11U, 13U, 51U, 65'535U}) {
            reading const read = read_all(frame_of(type, length));
            ASSERT_TRUE(read.error) << type;
            EXPECT_EQ(read.error->offset, 0U);
            EXPECT_EQ(read.frames, 0U);
            EXPECT_EQ(read.delivered.messages, 0U);
            bool const exists = known.find(static_cast<char>(type)) != known.npos;
            std::string const wanted = exists ? "this one has " + std::to_string(length)
                                              : "type " + std::to_string(type) + ", which ITCH 5.0 does not";
            EXPECT_NE(read.error->what.find(wanted), std::string::npos) << read.error->what;
            ++(exists ? sizes : types);
        }
    EXPECT_EQ(sizes, 5 * known.size());
    EXPECT_EQ(types, 5 * (256 - known.size()));
}

// The sizes are those of the specification's tables.
TEST(Itch, SkipsWhatChangesNoBookAndCountsIt) {
    constexpr std::array<std::pair<char, std::size_t>, 12> skipped{{{'H', 25},
                                                                    {'Y', 20},
                                                                    {'L', 26},
                                                                    {'V', 35},
                                                                    {'W', 12},
                                                                    {'K', 28},
                                                                    {'J', 35},
                                                                    {'h', 21},
                                                                    {'O', 48},
                                                                    {'B', 19},
                                                                    {'I', 50},
                                                                    {'N', 20}}};
    for (auto const& [type, size] : skipped) {
        reading const read = read_all(frame_of(static_cast<unsigned char>(type), size));
        EXPECT_FALSE(read.error) << type;
        EXPECT_EQ(read.skipped, 1U);
        EXPECT_EQ(read.frames, 2U);
        EXPECT_EQ(read.delivered.messages, 1U);
    }
}

TEST(Itch, ReadsOnFromAnyFrame) {
    bytes const feed = short_day();
    std::vector<std::size_t> const starts = frame_starts(feed);
    for (std::size_t i = 0; i < starts.size(); ++i) {
        itch::feed_reader reader(feed, starts[i]);
        recorder delivered;
        while (reader.next(delivered)) {
        }
        EXPECT_TRUE(std::ranges::equal(delivered.feed, std::span(feed).subspan(starts[i])));
        EXPECT_EQ(reader.frames(), starts.size() - 1 - i);
        EXPECT_EQ(reader.offset(), feed.size());
    }
}

TEST(Itch, RefusesASideOrAMarkThatDoesNotExist) {
    for (unsigned value = 0; value < 256; ++value) {
        auto const letter = static_cast<char>(value);
        bytes feed;
        itch::append(feed, itch::add_order{.side = letter});
        EXPECT_EQ(read_all(feed).error.has_value(), letter != 'B' && letter != 'S') << value;
        feed.clear();
        itch::append(feed, itch::order_executed_at_price{.printable = letter});
        EXPECT_EQ(read_all(feed).error.has_value(), letter != 'Y' && letter != 'N') << value;
    }
}

TEST(Itch, TakesALengthOfZeroForTheEndOfTheSession) {
    bytes feed = short_day();
    std::size_t const end = feed.size();
    feed.resize(end + 2);
    reading const good = read_all(feed);
    EXPECT_FALSE(good.error);
    EXPECT_EQ(good.offset, feed.size());
    EXPECT_EQ(good.frames, 11U);
    itch::append(feed, itch::system_event{});
    reading const more = read_all(feed);
    ASSERT_TRUE(more.error);
    EXPECT_EQ(more.error->offset, end);
    EXPECT_EQ(more.error->what, "byte " + std::to_string(end) + ": 14 bytes follow the end of the session");
}

TEST(Itch, ReadsAFrameAgainIfTheVisitorThrew) {
    bytes const feed = short_day();
    itch::feed_reader reader(feed);
    EXPECT_THROW(reader.next([](auto const&) { throw std::runtime_error("not now"); }), std::runtime_error);
    EXPECT_EQ(reader.frames(), 0U);
    recorder delivered;
    while (reader.next(delivered)) {
    }
    EXPECT_EQ(delivered.feed, feed);
}

// ---- The index. ----

struct numbered {
    std::uint64_t id = 0;
    std::uint16_t locate = 0;
};

TEST(OrderIndex, AgreesWithAMapWhateverTheNumbers) {
    std::random_device::result_type const seed = 20'261'125;
    std::mt19937_64 random(seed);
    for (unsigned kind = 0; kind < 4; ++kind) {
        order_index<numbered> index;
        std::map<std::pair<std::uint64_t, std::uint16_t>, std::unique_ptr<numbered>> model;
        std::uint64_t next = 1;
        for (unsigned i = 0; i < 40'000; ++i) {
            std::uint64_t id = 0;
            if (kind == 0) id = ++next;                          // in sequence
            if (kind == 1) id = random();                        // anywhere
            if (kind == 2) id = random() % 3'000 << 40;          // far apart
            if (kind == 3) id = ~std::uint64_t{random() % 500};  // close, and at the end
            auto const locate = static_cast<std::uint16_t>(random() % 3);
            std::uint64_t const young = id - std::min<std::uint64_t>(id, random() % 64);
            std::uint64_t const asked = kind == 0 ? young : id;
            auto const found = model.find({asked, locate});
            ASSERT_EQ(index.find(asked, locate), found == model.end() ? nullptr : found->second.get())
                << "seed " << seed << ", kind " << kind;
            if (found != model.end()) {
                index.erase(found->second.get());
                model.erase(found);
            } else if (!model.contains({id, locate})) {
                auto made = std::make_unique<numbered>(numbered{id, locate});
                index.make_room();
                index.insert(made.get());
                model.emplace(std::pair(id, locate), std::move(made));
            }
            ASSERT_EQ(index.size(), model.size());
        }
        for (auto const& [key, one] : model) ASSERT_EQ(index.find(key.first, key.second), one.get());
        EXPECT_GT(model.size(), 400U);
    }
}

TEST(IndexRace, FindsTheSameByEachIndexEvenIfTwoStocksHaveAnOrderOfOneNumber) {
    bytes feed;
    for (std::uint16_t const locate : std::initializer_list<std::uint16_t>{1, 2, 1}) {
        itch::append(feed, itch::add_order{.head = {.locate = locate}, .order = 7, .shares = 5, .price = 5});
        itch::append(feed, itch::add_order{.head = {.locate = locate}, .order = 8, .shares = 5, .price = 5});
        itch::append(feed, itch::order_deleted{.head = {.locate = locate}, .order = 7});
    }
    std::vector<call> const calls = calls_of(feed);
    EXPECT_EQ(largest_number(calls), 8U);
    std::uint64_t const found = ask<map_index>(calls).found;
    EXPECT_NE(found, 0U);
    EXPECT_EQ(ask<flat_index>(calls).found, found);
    EXPECT_EQ(ask<array_index>(calls).found, found);
}

// ---- Books. ----

book_message add(std::uint64_t id, side of, std::uint32_t shares, std::uint32_t price,
                 std::uint16_t locate = 1) {
    return {.order = id, .shares = shares, .price = price, .locate = locate, .what = action::add, .of = of};
}

/// The orders of a side, from the first to be served to the last.
std::vector<std::pair<std::uint64_t, std::uint32_t>> queue_of(order_book const& book, side of) {
    std::vector<std::pair<std::uint64_t, std::uint32_t>> result;
    for (std::size_t i = 0; i < book[of].size(); ++i)
        for (order const* one = book[of][i].first; one != nullptr; one = one->after)
            result.emplace_back(one->id, one->shares);
    return result;
}
using queue = std::vector<std::pair<std::uint64_t, std::uint32_t>>;

TEST(OrderBook, ServesTheBestPriceFirstAndTheOldestOfAPrice) {
    order_books books;
    for (book_message const& m :
         {add(1, side::bid, 100, 10), add(2, side::bid, 200, 11), add(3, side::bid, 300, 10),
          add(4, side::bid, 400, 11), add(5, side::ask, 500, 13), add(6, side::ask, 600, 12)})
        ASSERT_EQ(books.apply(m), outcome::applied);
    order_book const& book = *books.find(1);
    EXPECT_EQ(queue_of(book, side::bid), (queue{{2, 200}, {4, 400}, {1, 100}, {3, 300}}));
    EXPECT_EQ(queue_of(book, side::ask), (queue{{6, 600}, {5, 500}}));
    EXPECT_EQ(book.top(), (top{{11, 600}, {12, 600}, 0}));

    // Fewer shares keep the place, a replacement goes to the end of its price.
    ASSERT_EQ(books.apply({.order = 2, .shares = 50, .locate = 1, .what = action::reduce}), outcome::applied);
    EXPECT_EQ(queue_of(book, side::bid), (queue{{2, 150}, {4, 400}, {1, 100}, {3, 300}}));
    ASSERT_EQ(
        books.apply(
            {.order = 2, .new_order = 7, .shares = 150, .price = 11, .locate = 1, .what = action::replace}),
        outcome::applied);
    EXPECT_EQ(queue_of(book, side::bid), (queue{{4, 400}, {7, 150}, {1, 100}, {3, 300}}));
    EXPECT_EQ(book.orders, 6U);
}

TEST(OrderBook, CountsAsVolumeWhatIsPrintedAndWhatAnAuctionSays) {
    order_books books;
    auto const apply = [&](auto const& m) { return books.apply(translate(m)); };
    itch::header const head{.locate = 1};
    EXPECT_EQ(apply(itch::add_order{.head = head, .order = 1, .side = 'S', .shares = 100, .price = 10}),
              outcome::applied);
    EXPECT_EQ(apply(itch::order_executed{.head = head, .order = 1, .shares = 10}), outcome::applied);
    EXPECT_EQ(apply(itch::order_executed_at_price{.head = head, .order = 1, .shares = 1}), outcome::applied);
    EXPECT_EQ(apply(itch::order_executed_at_price{.head = head, .order = 1, .shares = 20, .printable = 'N'}),
              outcome::applied);
    EXPECT_EQ(apply(itch::order_cancelled{.head = head, .order = 1, .shares = 5}), outcome::applied);
    EXPECT_EQ(books.find(1)->top(), (top{{}, {10, 64}, 11}));
    EXPECT_EQ(apply(itch::trade{.head = head, .shares = 7}), outcome::applied);
    EXPECT_EQ(apply(itch::cross_trade{.head = head, .shares = 5'000'000'000}), outcome::applied);
    EXPECT_EQ(books.find(1)->top(), (top{{}, {10, 64}, 5'000'000'018}));
}

TEST(OrderBook, ChangesNothingWhenAMessageCannotBe) {
    order_books books;
    ASSERT_EQ(books.apply(add(1, side::bid, 100, 10)), outcome::applied);
    ASSERT_EQ(books.apply(add(2, side::ask, 100, 20)), outcome::applied);
    std::uint64_t const before = checksum(books);
    auto const act = [&](action what, std::uint64_t id, std::uint32_t shares, std::uint64_t new_id = 0,
                         std::uint16_t locate = 1) {
        return books.apply(
            {.order = id, .new_order = new_id, .shares = shares, .locate = locate, .what = what});
    };
    EXPECT_EQ(act(action::add, 1, 5), outcome::duplicate_order);
    EXPECT_EQ(act(action::add, 3, 0), outcome::no_shares);
    EXPECT_EQ(act(action::remove, 3, 0), outcome::unknown_order);
    EXPECT_EQ(act(action::remove, 1, 0, 0, 2), outcome::unknown_order) << "of another stock";
    EXPECT_EQ(act(action::reduce, 1, 0), outcome::no_shares);
    EXPECT_EQ(act(action::reduce, 1, 101), outcome::too_many_shares);
    EXPECT_EQ(act(action::reduce, 1, 4'000'000'000), outcome::too_many_shares);
    EXPECT_EQ(act(action::replace, 1, 10, 2), outcome::duplicate_order);
    EXPECT_EQ(act(action::replace, 1, 0, 3), outcome::no_shares);
    EXPECT_EQ(checksum(books), before);
    EXPECT_EQ(books.count(outcome::applied), 2U);
    EXPECT_EQ(books.count(outcome::duplicate_order), 2U);
    EXPECT_EQ(books.count(outcome::unknown_order), 2U);
    EXPECT_EQ(books.count(outcome::too_many_shares), 2U);
    EXPECT_EQ(books.count(outcome::no_shares), 3U);
    EXPECT_EQ(act(action::replace, 1, 10, 1), outcome::applied) << "its own number again";
}

/// Messages of which many cannot be: few numbers, few prices, shares that do not match.
book_message any_message(std::mt19937_64& random, std::uint32_t prices) {
    constexpr std::array weights{action::add,    action::add,    action::add,     action::reduce,
                                 action::reduce, action::remove, action::replace, action::trade};
    return {.order = 1 + random() % 300,
            .new_order = 1 + random() % 300,
            .volume = random() % 3,
            .shares = static_cast<std::uint32_t>(random() % 8),
            .price = static_cast<std::uint32_t>(random() % prices),
            .locate = static_cast<std::uint16_t>(1 + random() % 3),
            .what = weights[random() % weights.size()],
            .of = random() % 2 == 0 ? side::bid : side::ask};
}

/// What must be true of any book, by itself.
void expect_invariants(order_books const& books) {
    std::size_t orders = 0;
    for (auto const& book : books.books()) {
        if (book == nullptr) continue;
        std::size_t in_book = 0;
        for (side const of : {side::bid, side::ask}) {
            ladder const& prices = (*book)[of];
            for (std::size_t i = 0; i < prices.size(); ++i) {
                level const& at = prices[i];
                if (i != 0 && of == side::bid) {
                    ASSERT_LT(at.price, prices[i - 1].price);
                }
                if (i != 0 && of == side::ask) {
                    ASSERT_GT(at.price, prices[i - 1].price);
                }
                std::uint64_t shares = 0;
                std::size_t count = 0;
                for (order const* one = at.first; one != nullptr; one = one->after, ++count) {
                    ASSERT_EQ(one->at, &at);
                    ASSERT_NE(one->shares, 0U);
                    ASSERT_EQ(books.find_order(one->id, one->locate), one);
                    shares += one->shares;
                }
                ASSERT_NE(count, 0U);
                ASSERT_EQ(at.orders, count);
                ASSERT_EQ(at.shares, shares);
                in_book += count;
            }
        }
        ASSERT_EQ(book->orders, in_book);
        orders += in_book;
    }
    ASSERT_EQ(books.orders(), orders);
}

TEST(OrderBook, AgreesWithMapsAndListsForAnyMessages) {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        std::mt19937_64 random(seed);
        std::uint32_t const prices = seed % 3 == 0 ? 4 : seed % 3 == 1 ? 60 : 4'000'000'000;
        order_books books;
        naive_books model;
        for (unsigned i = 0; i < 20'000; ++i) {
            book_message const m = any_message(random, prices);
            ASSERT_EQ(books.apply(m), model.apply(m)) << "seed " << seed << ", message " << i;
            if (i % 500 != 0) continue;
            ASSERT_EQ(checksum(books), checksum(model)) << "seed " << seed << ", message " << i;
            ASSERT_NO_FATAL_FAILURE(expect_invariants(books)) << "seed " << seed << ", message " << i;
        }
        EXPECT_EQ(checksum(books), checksum(model));
    }
}

TEST(OrderBook, HasAChecksumThatEachDifferenceChanges) {
    auto const of = [](std::initializer_list<book_message> messages) {
        order_books books;
        for (book_message const& m : messages) EXPECT_EQ(books.apply(m), outcome::applied);
        return checksum(books);
    };
    std::vector<std::uint64_t> const sums{
        of({add(1, side::bid, 5, 10), add(2, side::bid, 5, 10)}),
        of({add(2, side::bid, 5, 10), add(1, side::bid, 5, 10)}),  // the other one is first
        of({add(1, side::bid, 5, 10), add(2, side::bid, 5, 11)}),
        of({add(1, side::bid, 5, 10), add(2, side::bid, 6, 10)}),
        of({add(1, side::bid, 5, 10), add(2, side::ask, 5, 10)}),
        of({add(1, side::bid, 5, 10), add(2, side::bid, 5, 10, 2)}),
        of({add(1, side::bid, 5, 10),
            add(2, side::bid, 5, 10),
            {.volume = 1, .locate = 1, .what = action::trade}}),
        of({}),
    };
    for (std::size_t i = 0; i < sums.size(); ++i)
        for (std::size_t k = 0; k < i; ++k) EXPECT_NE(sums[i], sums[k]) << i << ' ' << k;
}

template <class Books>
void apply_all(Books& books, std::span<std::byte const> feed) {
    itch::feed_reader reader(feed);
    while (reader.next([&books](auto const& m) {
        if constexpr (requires { translate(m); }) (void)books.apply(translate(m));
    })) {
    }
}

TEST(OrderBook, AllocatesNothingOnceItIsWarm) {
    bytes const feed = make_feed({.seed = 3, .messages = 60'000, .stocks = 50, .live_orders = 5'000});
    order_books books;
    apply_all(books, feed);
    std::uint64_t const sum = checksum(books);
    EXPECT_GT(books.orders(), 1'000U);
    books.clear();
    EXPECT_EQ(books.orders(), 0U);
    EXPECT_EQ(checksum(books), checksum(order_books()));
    std::size_t const before = support::allocations;
    apply_all(books, feed);
    EXPECT_EQ(support::allocations, before);
    EXPECT_EQ(checksum(books), sum);
}

TEST(OrderBook, IsAsBeforeWhenThereIsNoMemoryAndGoesOnAfterwards) {
    std::mt19937_64 random(7);
    order_books books;
    naive_books model;
    unsigned thrown = 0;
    for (unsigned i = 0; i < 3'000; ++i) {
        book_message m = any_message(random, 50'000);
        m.order += random() % 2'000;  // so that the index grows
        for (std::size_t after = 0;; ++after) {
            std::uint64_t const before = i % 20 == 0 ? checksum(books) : 0;
            try {
                support::fail_after const no_memory(after);
                (void)books.apply(m);
            } catch (std::bad_alloc const&) {
                ++thrown;
                if (i % 20 == 0) {
                    ASSERT_EQ(checksum(books), before) << i;
                }
                continue;
            }
            break;
        }
        (void)model.apply(m);
    }
    EXPECT_GT(thrown, 10U);
    EXPECT_EQ(checksum(books), checksum(model));
    expect_invariants(books);
}

// ---- The generator. ----

TEST(FeedGenerator, MakesTheSameBytesOnEveryMachine) {
    feed_options const options{.seed = 5, .messages = 20'000, .stocks = 100, .live_orders = 4'000};
    bytes const feed = make_feed(options);
    cairn::xxh3 const hash;
    EXPECT_EQ(hash(std::span<std::byte const>(feed)), 6'187'021'897'340'059'786U);
    EXPECT_EQ(feed, make_feed(options));
    feed_options other = options;
    other.seed = 6;
    EXPECT_NE(feed, make_feed(other));
}

TEST(FeedGenerator, SaysNothingThatCannotBeAndNeverCrossesABook) {
    feed_generator day({.seed = 2, .messages = 50'000, .stocks = 20, .live_orders = 2'000});
    order_books books;
    std::map<char, std::size_t> kinds;
    std::vector<std::size_t> of_stock(21);
    std::uint64_t traded = 0;  // by what is told one by one: printed or in an auction
    bytes feed;
    while (day.append_next(feed)) {
        itch::feed_reader reader(feed);
        while (reader.next([&](auto const& m) {
            ++kinds[m.type];
            if constexpr (requires { translate(m); }) {
                ASSERT_EQ(books.apply(translate(m)), outcome::applied);
                ++of_stock[m.head.locate];
                top const best = books.find(m.head.locate)->top();
                if (best.bid.shares != 0 && best.ask.shares != 0) {
                    ASSERT_LT(best.bid.price, best.ask.price);
                }
                if constexpr (requires { m.match; } && !requires { m.auction; }) {
                    ASSERT_GE(m.shares, 1U);
                    traded += m.shares;
                }
            }
        })) {
        }
        ASSERT_FALSE(reader.error());
        feed.clear();
    }
    EXPECT_EQ(checksum(books), checksum(day.books()));
    std::uint64_t volume = 0;
    for (auto const& book : books.books()) volume += book == nullptr ? 0 : book->traded;
    EXPECT_EQ(volume, traded) << "each auction tells what was traded in it";
    for (char const type : std::string_view("AFECXDUPQ")) EXPECT_GT(kinds[type], 20U) << type;
    EXPECT_EQ(kinds['R'], 20U);
    EXPECT_EQ(kinds['S'], 3U) << "three more end the day";
    EXPECT_GT(of_stock[1], 10 * of_stock[20]) << "few stocks are busy";
    EXPECT_GT(books.orders(), 1'000U);
    EXPECT_LT(books.orders(), 4'000U);
}

TEST(FeedGenerator, WritesAFileThatHoldsTheSameDay) {
    support::scratch_folder const folder;
    std::string const path = folder.file("day.itch");
    feed_options const options{.messages = 40'000, .stocks = 30};
    std::uint64_t const written = write_feed(path, options);
    std::ifstream file(path, std::ios::binary);
    std::string const text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(text.size(), written);
    bytes const feed = make_feed(options);
    EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(text)), feed));
    EXPECT_THROW((void)write_feed(folder.file("none/day.itch"), options), std::runtime_error);
}

TEST(FeedGenerator, RefusesNoStocks) { EXPECT_THROW(feed_generator({.stocks = 0}), std::invalid_argument); }

TEST(MappedFile, HoldsWhatIsInTheFileOrSaysWhyNot) {
    support::scratch_folder const folder;
    std::string const path = folder.file("day.itch");
    std::uint64_t const written = write_feed(path, {.messages = 100, .stocks = 3});
    mapped_file const file(path);
    EXPECT_EQ(file.bytes().size(), written);
    EXPECT_TRUE(std::ranges::equal(file.bytes(), make_feed({.messages = 100, .stocks = 3})));
    std::ofstream(folder.file("empty")).close();
    EXPECT_TRUE(mapped_file(folder.file("empty")).bytes().empty());
    std::string const pipe = folder.file("pipe");
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    for (std::string const& wrong : {folder.file("none"), folder.file(""), pipe}) try {
            mapped_file const none(wrong);
            ADD_FAILURE() << wrong;
        } catch (std::system_error const& error) {
            EXPECT_NE(std::string(error.what()).find(wrong), std::string::npos) << error.what();
        }
}

// ---- Latencies. ----

TEST(Histogram, IsNeverOffByMoreThanAThirtySecondPart) {
    std::size_t last = 0;
    for (std::uint64_t value = 0; value < (std::uint64_t{1} << 41); value += 1 + value / 100) {
        std::size_t const bucket = histogram::bucket(value);
        ASSERT_GE(bucket, last);
        ASSERT_GE(histogram::last_of(bucket), value);
        ASSERT_LE(histogram::last_of(bucket) - value, value / 32) << value;
        if (bucket != 0) {
            ASSERT_LT(histogram::last_of(bucket - 1), value);
        }
        last = bucket;
    }
    EXPECT_EQ(histogram::bucket(~std::uint64_t{0}), histogram::bucket(std::uint64_t{1} << 43))
        << "the last one";
}

TEST(Histogram, SaysWhichTimeAShareDidNotExceed) {
    histogram times;
    EXPECT_EQ(times.at(0.5), 0U);
    for (int i = 1; i <= 1'000; ++i) times.add(i <= 990 ? 10 : 1'000'000);
    times.add(-5);
    EXPECT_EQ(times.size(), 1'001U);
    EXPECT_EQ(times.at(0), 0U);
    EXPECT_EQ(times.at(0.5), 10U);
    EXPECT_EQ(times.at(0.99), 10U);
    EXPECT_EQ(times.at(0.999), 1'000'000U);
    EXPECT_EQ(times.at(1), 1'000'000U);
    EXPECT_EQ(times.max(), 1'000'000U);
    std::int64_t const two_hours = 7'200'000'000'000;  // longer than the buckets reach
    times.add(two_hours);
    EXPECT_EQ(times.at(1), static_cast<std::uint64_t>(two_hours));
}

TEST(Latencies, AreToldInThreeDigits) {
    constexpr std::array<std::pair<std::uint64_t, char const*>, 12> told{{{0, "0 ns"},
                                                                          {999, "999 ns"},
                                                                          {1'000, "1.00 us"},
                                                                          {9'994, "9.99 us"},
                                                                          {9'996, "10.0 us"},
                                                                          {99'960, "100 us"},
                                                                          {999'400, "999 us"},
                                                                          {999'600, "1.00 ms"},
                                                                          {12'340'000, "12.3 ms"},
                                                                          {999'999'999, "1.00 s"},
                                                                          {5'370'000'000, "5.37 s"},
                                                                          {4'000'000'000'000, "4000 s"}}};
    for (auto const& [nanoseconds, words] : told) EXPECT_EQ(in_words(nanoseconds), words);
    EXPECT_EQ(in_words(1'500, "\u00B5"), "1.50 \u00B5s");
}

TEST(Picture, DrawsALineForEachHistogramThatIsNotEmptyAndNeverLeavesThePaper) {
    auto const times = std::make_unique<latencies>();
    auto const lines = [&] {
        std::ostringstream drawn;
        draw(drawn, "title", "subtitle", curves(*times));
        std::string const text = drawn.str();
        EXPECT_EQ(text.find("nan"), text.npos);
        EXPECT_EQ(text.find("inf"), text.npos);
        std::size_t n = 0;
        for (std::size_t at = 0; (at = text.find("points=\"", at)) != text.npos; ++n) {
            std::istringstream points(text.substr(at += 8));
            double x = 0, y = 0;
            char comma = 0;
            while (points >> x >> comma >> y) {
                EXPECT_TRUE(x >= 0 && x <= 780 && y >= 0 && y <= 440) << x << ' ' << y;
            }
        }
        return n;
    };
    EXPECT_EQ(lines(), 0U);
    times->all.add(0);
    EXPECT_EQ(lines(), 1U);
    for (std::int64_t t = 1; t < 1'000'000'000'000; t *= 3) times->all.add(t);
    times->undisturbed.add(50);
    EXPECT_EQ(lines(), 2U);
}

TEST(Latencies, SetApartWhatMetATakenCoreAndWhatWaitedBehindThat) {
    std::vector<span_of_time> const samples{
        {100, 110},      // before
        {200, 900},      // the feed's core is taken from 250 to 800
        {600, 950},      // due meanwhile
        {940, 1'000},    // due before the one before was done: behind it
        {1'000, 1'010},  // due when all that was over
        {2'000, 2'005},  // the worker's core was taken before, from 1,500 to 1,900
        {3'000, 3'500},  // and from 3,499 on
    };
    latencies times;
    sort_out(samples, std::vector<span_of_time>{{250, 800}},
             std::vector<span_of_time>{{1'500, 1'900}, {3'499, 9'000}}, times);
    EXPECT_EQ(times.all.size(), 7U);
    EXPECT_EQ(times.all.max(), 700U);
    EXPECT_EQ(times.undisturbed.size(), 3U);
    EXPECT_EQ(times.undisturbed.max(), 10U);
}

TEST(CoreWatch, NotesWhatIsLongerThanAnEmptyLoop) {
    core_watch core;
    core.clear(4);
    core.work_until(100);
    core.look(200);
    core.look(200 + core_watch::noticeable);
    core.look(201 + 2 * core_watch::noticeable);  // too long
    core.work_until(1'000'000);                   // it worked all that time
    core.look(1'000'100);
    ASSERT_EQ(core.taken().size(), 1U);
    EXPECT_EQ(core.taken()[0].begin, 200 + core_watch::noticeable);
    EXPECT_EQ(core.taken()[0].end, 201 + 2 * core_watch::noticeable);
}

// ---- The pipeline. ----

bytes a_day(std::uint64_t seed = 4) {
    return make_feed({.seed = seed, .messages = 30'000, .stocks = 60, .live_orders = 3'000});
}

TEST(Pipeline, BuildsTheSameBooksTwiceAndWithAnyNumberOfWorkers) {
    bytes const feed = a_day();
    naive_books model;
    apply_all(model, feed);
    for (std::size_t const workers : {1U, 2U, 5U}) {
        pipeline books({.workers = workers, .queue = 100, .orders = 10});
        for (int day = 0; day < 2; ++day) {
            run_result const result = books.run(feed);
            EXPECT_FALSE(result.error);
            EXPECT_EQ(result.offset, feed.size());
            EXPECT_EQ(result.routed, 30'000U);
            EXPECT_EQ(result.unrouted, 0U);
            EXPECT_EQ(checksum(books), checksum(model)) << workers << " workers";
            EXPECT_EQ(books.router().stocks(), 60U);
            books.clear();
        }
    }
}

/// Frames that can be read, of messages that cannot be.
bytes nonsense(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    bytes feed;
    for (int i = 0; i < 20'000; ++i) {
        book_message const m = any_message(random, 50);
        itch::header const head{.locate = m.locate};
        switch (m.what) {
            case action::add:
                itch::append(feed, itch::add_order{.head = head,
                                                   .order = m.order,
                                                   .side = m.of == side::bid ? 'B' : 'S',
                                                   .shares = m.shares,
                                                   .stock = itch::pad(feed_generator::name_of(m.locate)),
                                                   .price = m.price});
                break;
            case action::replace:
                itch::append(feed, itch::order_replaced{.head = head,
                                                        .order = m.order,
                                                        .new_order = m.new_order,
                                                        .shares = m.shares,
                                                        .price = m.price});
                break;
            case action::remove:
                itch::append(feed, itch::order_deleted{.head = head, .order = m.order});
                break;
            case action::trade:
                itch::append(feed, itch::order_cancelled{.head = head, .order = m.order, .shares = m.shares});
                break;
            default:
                itch::append(feed, itch::order_executed{.head = head, .order = m.order, .shares = m.shares});
        }
    }
    return feed;
}

TEST(Pipeline, BuildsTheSameBooksOfNonsenseToo) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        bytes const feed = nonsense(seed);
        naive_books model;
        apply_all(model, feed);
        for (std::size_t const workers : {1U, 2U, 3U}) {
            pipeline books({.workers = workers, .queue = 50, .orders = 1});
            (void)books.run(feed);
            EXPECT_EQ(checksum(books), checksum(model)) << "seed " << seed;
        }
    }
}

TEST(Pipeline, KeepsWhatCameBeforeAFrameThatIsWrong) {
    bytes feed = a_day();
    std::vector<std::size_t> const starts = frame_starts(feed);
    std::size_t const wrong = starts[starts.size() / 2];
    order_books before;
    apply_all(before, std::span(feed).first(wrong));
    feed[wrong] = std::byte{0xFF};
    pipeline books({.workers = 2});
    run_result const result = books.run(feed);
    ASSERT_TRUE(result.error);
    EXPECT_EQ(result.error->offset, wrong);
    EXPECT_EQ(result.offset, wrong);
    EXPECT_EQ(result.frames, starts.size() / 2);
    EXPECT_EQ(checksum(books), checksum(before));
    // And the next feed is read as if nothing had been.
    books.clear();
    EXPECT_FALSE(books.run(a_day(9)).error);
    naive_books model;
    apply_all(model, a_day(9));
    EXPECT_EQ(checksum(books), checksum(model));
}

TEST(Pipeline, CountsMessagesOfStocksThatWereNeverNamed) {
    bytes feed;
    itch::append(feed, itch::order_deleted{.head = {.locate = 5}, .order = 1});
    itch::append(feed,
                 itch::add_order{
                     .head = {.locate = 6}, .order = 1, .shares = 5, .stock = itch::pad("MSFT"), .price = 5});
    itch::append(feed, itch::order_executed{.head = {.locate = 6}, .order = 1, .shares = 2});
    pipeline books({.workers = 2});
    run_result const result = books.run(feed);
    EXPECT_EQ(result.unrouted, 1U);
    EXPECT_EQ(result.routed, 2U);
    EXPECT_EQ(books.router().name(books.router().find(6).stock), "MSFT") << "named by its first order";
}

TEST(Pipeline, RefusesToHaveNoWorkers) { EXPECT_THROW(pipeline({.workers = 0}), std::invalid_argument); }

TEST(StockRouter, AsksTheRingAndKeepsItsFirstAnswer) {
    stock_router router(3);
    EXPECT_FALSE(router.find(7).stock.has_value());
    stock_router::route const first = router.learn(7, itch::pad("AAPL"));
    EXPECT_EQ(first.worker, router.ring().find_index("AAPL"));
    EXPECT_EQ(router.name(first.stock), "AAPL");
    EXPECT_EQ(router.learn(7, itch::pad("MSFT")).stock, first.stock);
    EXPECT_EQ(router.find(7).worker, first.worker);
    router.clear();
    EXPECT_FALSE(router.find(7).stock.has_value());
    EXPECT_EQ(router.learn(65'535, itch::pad("AAPL")).stock, first.stock);
}

TEST(StockRouter, MovesOnlyToANewWorker) {
    stock_router two(2), three(3);
    std::size_t moved = 0;
    for (std::uint16_t i = 0; i < 2'000; ++i) {
        itch::stock_name const name = itch::pad(feed_generator::name_of(i));
        std::uint16_t const before = two.learn(i, name).worker, after = three.learn(i, name).worker;
        EXPECT_TRUE(after == before || after == 2);
        moved += after != before;
    }
    EXPECT_GT(moved, 400U);
    EXPECT_LT(moved, 950U);
}

TEST(Pipeline, TimesEachMessageOnce) {
    bytes const feed = a_day();
    pipeline books({.workers = 2});
    latencies times;
    run_result const result = books.run_in_time(feed, 2'000'000, times);
    EXPECT_EQ(times.all.size(), result.routed);
    EXPECT_LE(times.undisturbed.size(), times.all.size());
    EXPECT_GE(result.nanoseconds, 500 * static_cast<std::int64_t>(result.frames - 1))
        << "not before it is due";
    naive_books model;
    apply_all(model, feed);
    EXPECT_EQ(checksum(books), checksum(model));
}

TEST(Pipeline, RunsAFeedStretchByStretch) {
    bytes const feed = a_day();
    naive_books model;
    apply_all(model, feed);
    pipeline books({.workers = 2});
    latencies times;
    std::uint64_t routed = 0;
    run_result part;
    do {
        part = books.run_in_time(feed, 10'000'000, times, {.from = part.offset, .frames = 7'000});
        EXPECT_LE(part.frames, 7'000U);
        EXPECT_FALSE(part.error);
        routed += part.routed;
    } while (part.frames == 7'000);
    EXPECT_EQ(part.offset, feed.size());
    EXPECT_EQ(routed, 30'000U);
    EXPECT_EQ(times.all.size(), routed);
    EXPECT_EQ(checksum(books), checksum(model));
}

TEST(Pipeline, SaysAtWhichByteOfTheWholeFeedAStretchIsWrong) {
    bytes feed = a_day();
    std::vector<std::size_t> const starts = frame_starts(feed);
    feed[starts[500]] = std::byte{0xFF};
    pipeline books({.workers = 1});
    latencies times;
    run_result const result = books.run_in_time(feed, 10'000'000, times, {.from = starts[400]});
    ASSERT_TRUE(result.error);
    EXPECT_EQ(result.error->offset, starts[500]);
    EXPECT_EQ(result.frames, 100U);
}

TEST(Pipeline, EndsWhenItIsToldThoughTheNextMessageIsNotDueForLong) {
    bytes const feed = a_day();
    pipeline books({.workers = 1});
    latencies times;
    std::thread other([&] { books.stop(); });
    run_result const result = books.run_in_time(feed, 1e-6, times);
    other.join();
    EXPECT_LE(result.frames, 1U);
    EXPECT_FALSE(result.error);
}

TEST(Ticker, TellsThatABookIsEmptyWhenTheDayIsOver) {
    pipeline books({.workers = 2});
    std::map<std::uint16_t, top_update> seen;
    for (auto const& one : books.workers()) one->tops().watch([] {});
    auto const take = [&] {
        for (auto const& one : books.workers())
            one->tops().take([&](top_update const& update) { seen[update.locate] = update; });
    };
    (void)books.run(a_day());
    take();
    std::size_t const stocks = seen.size();
    EXPECT_GT(stocks, 50U);
    books.clear();
    (void)books.run({});  // a day on which nothing happens
    take();
    EXPECT_EQ(seen.size(), stocks);
    for (auto const& [locate, last] : seen) {
        EXPECT_EQ(last.best, top{});
        EXPECT_EQ(last.messages, 0U);
        EXPECT_EQ(last.orders, 0U);
    }
}

TEST(Ticker, TellsTheLastStateOfEachStockHoweverSeldomItIsAsked) {
    bytes const feed = a_day();
    for (unsigned const patience : {0U, 300U}) {
        pipeline books({.workers = 2, .queue = 64});
        std::atomic<unsigned> told{0};
        for (auto const& one : books.workers()) one->tops().watch([&told] { ++told; });
        std::map<std::uint16_t, top_update> seen;
        std::uint64_t updates = 0;
        auto const take = [&] {
            for (auto const& one : books.workers())
                one->tops().take([&](top_update const& update) {
                    ++updates;
                    auto const [at, fresh] = seen.emplace(update.locate, update);
                    if (!fresh) {
                        EXPECT_LT(at->second.messages, update.messages) << "no state is told twice";
                        at->second = update;
                    }
                });
        };
        std::atomic<bool> over{false};
        std::thread watcher([&] {
            while (!over) {
                for (auto const& one : books.workers()) one->tops().ask();
                for (unsigned i = 0; i <= patience; ++i) std::this_thread::yield();
                take();
            }
            take();  // what was told at the end
        });
        run_result const result = books.run(feed);
        over = true;
        watcher.join();
        EXPECT_GE(told, 2U) << "at the end each worker tells, asked or not";
        EXPECT_LE(updates, result.routed);
        std::size_t stocks = 0;
        for (auto const& one : books.workers())
            for (std::size_t i = 0; i < one->books().books().size(); ++i)
                if (order_book const* const book = one->books().books()[i].get()) {
                    top_update const& last = seen.at(static_cast<std::uint16_t>(i));
                    EXPECT_EQ(last.best, book->top());
                    EXPECT_EQ(last.messages, book->messages);
                    EXPECT_EQ(last.orders, book->orders);
                    EXPECT_EQ(last.stock, book->stock);
                    ++stocks;
                }
        EXPECT_EQ(stocks, seen.size());
    }
}

TEST(Pipeline, SaysWhatAWorkerFailedOfAndCanRunAgain) {
    bytes const feed = a_day();
    pipeline books({.workers = 2, .queue = 64});
    bool broken = true;
    books.workers()[0]->tops().watch([&broken] {
        if (broken) throw std::runtime_error("the screen is gone");
    });
    books.workers()[0]->tops().ask();
    EXPECT_THROW((void)books.run(feed), std::runtime_error);
    broken = false;
    books.clear();
    (void)books.run(feed);
    naive_books model;
    apply_all(model, feed);
    EXPECT_EQ(checksum(books), checksum(model));
}

}  // namespace
