// SPDX-License-Identifier: MIT
// Counts all allocations of a test program. For one source file of each program.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace support {

inline std::size_t allocations = 0;

// Not inlined, or g++ sees std::free for what came from operator new and takes it for a mistake.
[[gnu::noinline]] inline void* allocate(std::size_t bytes) {
    ++allocations;
    if (void* const memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
    throw std::bad_alloc{};
}
[[gnu::noinline]] inline void release(void* memory) noexcept { std::free(memory); }

}  // namespace support

void* operator new(std::size_t bytes) { return support::allocate(bytes); }
void* operator new[](std::size_t bytes) { return support::allocate(bytes); }
void operator delete(void* memory) noexcept { support::release(memory); }
void operator delete[](void* memory) noexcept { support::release(memory); }
void operator delete(void* memory, std::size_t) noexcept { support::release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { support::release(memory); }
