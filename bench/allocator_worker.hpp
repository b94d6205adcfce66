// SPDX-License-Identifier: MIT
// General allocators, each in a process of its own: an allocator that is preloaded replaces malloc for the
// whole process, so two cannot be compared in one. A worker is this program again, with the allocator
// preloaded; it does the workload that it is told, takes the time itself, and sends it back by a pipe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "harness.hpp"
#include "pool_workloads.hpp"

namespace cairn::bench {

inline constexpr char const* allocator_worker_option = "--allocator-worker";

/// What a worker does: it reads commands from standard input until that ends. Returns the exit code.
[[nodiscard]] int serve_allocations();

/// A worker process, and the workload that it is at.
class allocator_worker {
  public:
    /// @param preload  the library's name, or "" for the C library's own malloc.
    /// @param proof    a symbol that only this allocator has; "" for none.
    allocator_worker(std::string name, std::string const& preload, std::string const& proof);
    allocator_worker(allocator_worker const&) = delete;
    allocator_worker& operator=(allocator_worker const&) = delete;
    ~allocator_worker();

    [[nodiscard]] std::string const& name() const noexcept { return name_; }
    /// Whether the process runs and its malloc is that of the library.
    [[nodiscard]] bool usable() const noexcept { return usable_; }

    /// Begins a workload. It ends when the contestant does.
    [[nodiscard]] contestant contest(pool_task task, std::size_t payload_bytes);

    struct answer {
        double seconds = 0;
        std::uint32_t right = 0;
    };

  private:
    [[nodiscard]] answer ask(std::uint32_t verb, std::uint32_t task, std::uint64_t value);

    std::string name_;
    int to_ = -1, from_ = -1;
    int process_ = -1;
    bool usable_ = false;
};

}  // namespace cairn::bench
