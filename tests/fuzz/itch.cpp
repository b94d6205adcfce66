// SPDX-License-Identifier: MIT
// A feed of any bytes, and one of frames that can be read but say anything: the reader delivers what is there
// and says where it stops, and the books agree with maps and lists.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "../../examples/trading_system/checksum.hpp"
#include "../../examples/trading_system/itch.hpp"
#include "../../examples/trading_system/naive_books.hpp"
#include "../../examples/trading_system/order_book.hpp"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

void read(std::span<std::byte const> feed) {
    itch::feed_reader reader(feed);
    trading::order_books books;
    trading::naive_books model;
    std::uint64_t delivered = 0;
    for (std::uint64_t before = 0;; before = reader.offset()) {
        std::vector<std::byte> again;
        bool const more = reader.next([&](auto const& message) {
            ++delivered;
            itch::append(again, message);
            if constexpr (requires { translate(message); })
                require(books.apply(translate(message)) == model.apply(translate(message)));
        });
        if (!more) break;
        std::span<std::byte const> const frame = feed.subspan(before, reader.offset() - before);
        require(again.empty() || std::ranges::equal(again, frame));
    }
    require(delivered + reader.skipped() == reader.frames());
    require(reader.offset() <= feed.size());
    if (auto const error = reader.error()) {
        require(error->offset == reader.offset() && error->offset < feed.size());
        require(error->what.starts_with("byte " + std::to_string(error->offset) + ": "));
    } else {
        require(reader.offset() == feed.size());
    }
    require(checksum(books) == checksum(model));
}

/// Each four bytes are a message of few orders, prices and stocks.
std::vector<std::byte> frames(std::span<std::uint8_t const> data) {
    std::vector<std::byte> feed;
    for (; data.size() >= 4; data = data.subspan(4)) {
        itch::header const head{.locate = static_cast<std::uint16_t>(data[1] % 2)};
        std::uint64_t const id = data[1] / 2 % 16, other = data[2] % 16;
        std::uint32_t const shares = data[2] / 16, price = data[3];
        switch (data[0] % 8) {
            case 0:
            case 1:
                itch::append(feed, itch::add_order{.head = head,
                                                   .order = id,
                                                   .side = data[0] < 128 ? 'B' : 'S',
                                                   .shares = shares,
                                                   .price = price});
                break;
            case 2:
                itch::append(feed, itch::order_executed{.head = head, .order = id, .shares = shares});
                break;
            case 3:
                itch::append(
                    feed,
                    itch::order_executed_at_price{
                        .head = head, .order = id, .shares = shares, .printable = data[0] < 128 ? 'Y' : 'N'});
                break;
            case 4:
                itch::append(feed, itch::order_cancelled{.head = head, .order = id, .shares = shares});
                break;
            case 5:
                itch::append(feed, itch::order_deleted{.head = head, .order = id});
                break;
            case 6:
                itch::append(
                    feed,
                    itch::order_replaced{
                        .head = head, .order = id, .new_order = other, .shares = shares, .price = price});
                break;
            default:
                itch::append(feed, itch::trade{.head = head, .shares = shares});
        }
    }
    return feed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::span<std::uint8_t const> const all(data, size);
    read(std::as_bytes(all));
    read(frames(all));
    return 0;
}
