// SPDX-License-Identifier: MIT
// Tells a forked child that what it has is a copy. Its descriptors are the parent's too: a copy of a loop
// that took its watches out of the epoll set at its end would take them from the parent.
#pragma once

#include <sys/mman.h>

#include <cstddef>

namespace cairn::detail {

/// A page that a forked child finds empty: so a copy of a loop knows that it is none.
class fork_mark {
  public:
    fork_mark() noexcept {
        void* const page = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return;
        // Before Linux 4.14 there is no such page, and no mark: children are then not told apart.
        if (::madvise(page, bytes, MADV_WIPEONFORK) == 0)
            ::new (page_ = page) bool(true);
        else
            ::munmap(page, bytes);
    }
    fork_mark(fork_mark const&) = delete;
    fork_mark& operator=(fork_mark const&) = delete;
    ~fork_mark() {
        if (page_ != nullptr) ::munmap(page_, bytes);
    }
    [[nodiscard]] bool in_child() const noexcept {
        return page_ != nullptr && !*static_cast<bool const volatile*>(page_);
    }

  private:
    static constexpr std::size_t bytes = 4096;
    void* page_ = nullptr;
};

}  // namespace cairn::detail
