// SPDX-License-Identifier: MIT
// What a batcher asks of the operating system, so that push need not: whether this process is a forked child,
// and a fence that only the rare side pays for.
#pragma once

#include <atomic>
#include <cstdint>

#if __has_include(<pthread.h>)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cairn::detail {

/// How many forks lie between this process and the one that first asked. A thread that was made before
/// the last of them does not run here.
inline std::atomic<std::uint32_t> forks_{0};
[[nodiscard]] inline std::uint32_t forks() noexcept {
    // relaxed: written by a child before its first instruction of user code, and never again.
    return forks_.load(std::memory_order_relaxed);
}
inline void count_forks() noexcept {
#if __has_include(<pthread.h>)
    [[maybe_unused]] static int const once =
        pthread_atfork(nullptr, nullptr, [] { forks_.fetch_add(1, std::memory_order_relaxed); });
#endif
}

/// Two threads that each write a flag and then read the other's need a full fence each, or both may read the
/// old value (Dekker). Where one of the two is rare, it can pay for both: membarrier(2) makes every running
/// thread of the process execute a fence. False if the system cannot: then each side uses seq_cst.
[[nodiscard]] inline bool one_sided_fences() noexcept {
#if defined(SYS_membarrier)
    static bool const can = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
                            syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
    return can;
#else
    return false;
#endif
}
/// The frequent side's half: keeps the compiler from reordering, costs nothing.
inline void light_fence() noexcept { asm volatile("" ::: "memory"); }
/// The rare side's half: 0.4 µs, and an interrupt for each other core that runs a thread of this process.
inline void heavy_fence() noexcept {
#if defined(SYS_membarrier)
    if (one_sided_fences()) syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
#endif
}

}  // namespace cairn::detail
