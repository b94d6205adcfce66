// SPDX-License-Identifier: MIT
// A standard allocator that counts the bytes it has handed out, so that a chapter can tell what memory a
// structure takes. For one thread.
#pragma once

#include <cstddef>
#include <memory>

namespace memory {

/// What is out, of all counting allocators together.
inline std::size_t bytes_held = 0;

template <class T>
struct counting_allocator {
    using value_type = T;
    counting_allocator() = default;
    template <class U>
    counting_allocator(counting_allocator<U> const&) noexcept {}
    [[nodiscard]] T* allocate(std::size_t n) {
        T* const p = std::allocator<T>{}.allocate(n);
        bytes_held += n * sizeof(T);
        return p;
    }
    void deallocate(T* p, std::size_t n) noexcept {
        bytes_held -= n * sizeof(T);
        std::allocator<T>{}.deallocate(p, n);
    }
    friend bool operator==(counting_allocator const&, counting_allocator const&) { return true; }
};

}  // namespace memory
