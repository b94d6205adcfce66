// SPDX-License-Identifier: MIT
// CAIRN_ASSERT: a contract that a caller or cairn itself has broken. On in debug builds (no NDEBUG) and
// wherever CAIRN_HARDENED is defined; elsewhere it costs nothing and is not evaluated.
#pragma once

#if !defined(NDEBUG) || defined(CAIRN_HARDENED)
#include <cstdio>
#include <cstdlib>

namespace cairn::detail {

[[noreturn]] inline void assert_failed(char const* condition, char const* file, int line) noexcept {
    std::fprintf(stderr, "%s:%d: cairn: broken contract: %s\n", file, line, condition);
    std::abort();
}

}  // namespace cairn::detail

#define CAIRN_ASSERT(condition) \
    ((condition) ? static_cast<void>(0) : ::cairn::detail::assert_failed(#condition, __FILE__, __LINE__))
#else
#define CAIRN_ASSERT(condition) static_cast<void>(0)
#endif

namespace cairn::detail {

/// Whether contracts are checked in this build: then classes may keep what the checks need to know.
#if !defined(NDEBUG) || defined(CAIRN_HARDENED)
inline constexpr bool checked = true;
#else
inline constexpr bool checked = false;
#endif

}  // namespace cairn::detail
