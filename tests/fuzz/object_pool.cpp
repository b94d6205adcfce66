// SPDX-License-Identifier: MIT
// Any sequence of calls: objects stay what they were, and apart, and none is lost or handed out twice.
#include <cairn/object_pool.hpp>
#include <cairn/pool_resource.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

template <std::size_t Size>
void objects(std::uint8_t const* data, std::size_t n) {
    using object = std::array<std::uint8_t, Size>;
    cairn::object_pool<object> pool;
    std::vector<std::pair<object*, std::uint8_t>> live;
    auto const release = [&](std::size_t i) {
        for (std::uint8_t const byte : *live[i].first) require(byte == live[i].second);
        pool.destroy(live[i].first);
        live[i] = live.back();
        live.pop_back();
    };
    for (std::size_t i = 0; i + 1 < n; i += 2) {
        std::uint8_t const what = data[i], much = data[i + 1];
        switch (what % 5) {
            case 0:
            case 1:
                for (int k = 0; k < much * 8; ++k) {
                    live.emplace_back(pool.construct(), static_cast<std::uint8_t>(live.size()));
                    live.back().first->fill(live.back().second);
                }
                break;
            case 2:
                for (int k = 0; k < much * 8 && !live.empty(); ++k) release(live.size() * what / 256);
                break;
            case 3:
                pool.reserve(much * std::size_t{16});
                break;
            default:
                pool.shrink();
        }
        require(pool.size() == live.size() && pool.capacity() >= pool.size());
        if (live.size() > 20'000) break;
    }
    while (!live.empty()) release(live.size() - 1);
    pool.shrink();
    require(pool.capacity() == 0);
}

void blocks(std::uint8_t const* data, std::size_t n) {
    cairn::pool_resource pool;
    struct block {
        std::uint8_t* at;
        std::size_t bytes, alignment;
        std::uint8_t mark;
    };
    std::vector<block> live;
    auto const release = [&](std::size_t i) {
        block const b = live[i];
        for (std::size_t k = 0; k < b.bytes; ++k) require(b.at[k] == b.mark);
        pool.deallocate(b.at, b.bytes, b.alignment);
        live[i] = live.back();
        live.pop_back();
    };
    for (std::size_t i = 0; i + 2 < n; i += 3) {
        if (data[i] % 3 != 0 || live.empty()) {
            block b{nullptr, data[i + 1] * std::size_t{data[i + 2] % 24U}, std::size_t{1} << data[i] % 14,
                    data[i]};
            b.at = static_cast<std::uint8_t*>(pool.allocate(b.bytes, b.alignment));
            require(reinterpret_cast<std::uintptr_t>(b.at) % b.alignment == 0);
            std::memset(b.at, b.mark, b.bytes);
            live.push_back(b);
        } else {
            release(data[i + 1] % live.size());
        }
        if (data[i] == 255) pool.shrink();
    }
    while (!live.empty()) release(0);
    require(pool.size() == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t n) {
    if (n == 0) return 0;
    switch (data[0] % 5) {
        case 0:
            objects<1>(data + 1, n - 1);
            break;
        case 1:
            objects<16>(data + 1, n - 1);
            break;
        case 2:
            objects<64>(data + 1, n - 1);
            break;
        case 3:
            objects<300>(data + 1, n - 1);
            break;
        default:
            blocks(data + 1, n - 1);
    }
    return 0;
}
