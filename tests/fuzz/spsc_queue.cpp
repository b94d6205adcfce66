// SPDX-License-Identifier: MIT
// Any sequence of calls on a queue, against a std::deque. Each two bytes are one call and its size.
#include <cairn/spsc_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <span>
#include <string>

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

template <class T, class Make>
void play(std::span<std::uint8_t const> calls, std::size_t capacity, Make make) {
    cairn::spsc_queue<T> queue(capacity);
    std::deque<T> model;
    unsigned next = 0;
    for (; calls.size() >= 2; calls = calls.subspan(2)) {
        std::size_t const n = calls[1];
        switch (calls[0] % 8) {
            case 0:
                if (T const item = make(next); queue.try_push(item)) {
                    model.push_back(item);
                    ++next;
                } else {
                    require(model.size() == capacity || queue.is_closed());
                }
                break;
            case 1:
                if (auto const item = queue.try_pop()) {
                    require(!model.empty() && *item == model.front());
                    model.pop_front();
                } else {
                    require(model.empty());
                }
                break;
            case 2: {
                std::span<T> const room = queue.reserve(n);
                require(room.size() <= n && room.size() + model.size() <= capacity);
                for (T& slot : room) model.push_back(*std::construct_at(&slot, make(next++)));
                queue.commit(room.size());
                break;
            }
            case 3: {
                std::span<T> const items = queue.peek(n);
                require(items.size() <= n && items.size() <= model.size());
                for (T const& item : items) {
                    require(item == model.front());
                    model.pop_front();
                }
                queue.release(items.size());
                break;
            }
            case 4: {
                std::deque<T> items;
                for (std::size_t i = 0; i < n; ++i) items.push_back(make(next + static_cast<unsigned>(i)));
                std::size_t const room = queue.is_closed() ? 0 : capacity - model.size();
                std::size_t const pushed = queue.try_push_n(items.begin(), n);
                require(pushed == (n < room ? n : room));
                model.insert(model.end(), items.begin(), items.begin() + static_cast<std::ptrdiff_t>(pushed));
                next += static_cast<unsigned>(pushed);
                break;
            }
            case 5: {
                std::array<T, 256> items;
                std::size_t const popped = queue.try_pop_n(items.begin(), n);
                require(popped == (n < model.size() ? n : model.size()));
                for (std::size_t i = 0; i < popped; ++i) {
                    require(items[i] == model.front());
                    model.pop_front();
                }
                break;
            }
            case 6:
                require(queue.size() == model.size());
                break;
            default:
                if (n == 255) queue.close();
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size < 2) return 0;
    std::size_t const capacity = std::size_t{data[0]} + 1;
    std::span<std::uint8_t const> const calls(data + 2, size - 2);
    switch (data[1] % 3) {
        case 0:
            play<std::uint32_t>(calls, capacity, [](unsigned i) { return i; });
            break;
        case 1:
            play<std::string>(calls, capacity, [](unsigned i) { return std::string(i % 40, 'a'); });
            break;
        default:
            play<std::array<std::uint64_t, 9>>(calls, capacity, [](unsigned i) {
                return std::array<std::uint64_t, 9>{i, 0, 0, 0, 0, 0, 0, 0, i};
            });
    }
    return 0;
}
