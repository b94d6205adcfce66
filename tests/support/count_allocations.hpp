// SPDX-License-Identifier: MIT
// Counts the allocations of each thread of a test program, and lets the n-th from now on fail. For one source
// file of each program.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <limits>
#include <new>

namespace support {

inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();
inline thread_local std::size_t allocations = 0;
inline thread_local std::size_t allocations_left = unlimited;

/// The allocation after the next n ones throws, and all that follow, until the end of the scope.
struct fail_after {
    explicit fail_after(std::size_t n) { allocations_left = n; }
    ~fail_after() { allocations_left = unlimited; }
    fail_after(fail_after const&) = delete;
    fail_after& operator=(fail_after const&) = delete;
};

// Not inlined, or g++ sees std::free for what came from operator new and takes it for a mistake.
[[gnu::noinline]] inline void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    ++allocations;
    if (allocations_left == 0) return nullptr;
    if (allocations_left != unlimited) --allocations_left;
    return std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
}
[[gnu::noinline]] inline void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
    if (void* const memory = allocate(bytes, alignment)) return memory;
    throw std::bad_alloc{};
}
[[gnu::noinline]] inline void release(void* memory) noexcept { std::free(memory); }
inline constexpr std::size_t usual = alignof(std::max_align_t);

}  // namespace support

void* operator new(std::size_t n) { return support::allocate_or_throw(n, support::usual); }
void* operator new[](std::size_t n) { return support::allocate_or_throw(n, support::usual); }
void* operator new(std::size_t n, std::align_val_t a) {
    return support::allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
    return support::allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n, std::nothrow_t const&) noexcept {
    return support::allocate(n, support::usual);
}
void* operator new[](std::size_t n, std::nothrow_t const&) noexcept {
    return support::allocate(n, support::usual);
}
void operator delete(void* p) noexcept { support::release(p); }
void operator delete[](void* p) noexcept { support::release(p); }
void operator delete(void* p, std::size_t) noexcept { support::release(p); }
void operator delete[](void* p, std::size_t) noexcept { support::release(p); }
void operator delete(void* p, std::align_val_t) noexcept { support::release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { support::release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { support::release(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { support::release(p); }
