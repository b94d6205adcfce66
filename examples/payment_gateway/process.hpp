// SPDX-License-Identifier: MIT
// The gateway as a process: its life from start to SIGTERM; and the same in a child that can be killed.
#pragma once

#include <cairn/event_loop.hpp>
#include <cairn/signal_watch.hpp>
#include <cairn/socket.hpp>

#include <fcntl.h>
#include <signal.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <system_error>
#include <utility>

#include "../processes/child_process.hpp"
#include "gateway.hpp"

namespace gateway {

/// Serves on a socket that listens already, until SIGTERM or SIGINT: then it accepts no more, answers what
/// has begun, and returns when all of that is written. The watch comes before the flushers' threads, so that
/// they block these signals too.
inline void serve(cairn::unique_fd listener, std::function<std::unique_ptr<backend>()> const& store,
                  options const& how = {}, std::function<void()> const& started = {}) {
    cairn::event_loop loop;
    std::unique_ptr<service> here;
    cairn::signal_watch const end(loop, {SIGTERM, SIGINT},
                                  [&](int) { here->stop(std::chrono::seconds(10), [&] { loop.stop(); }); });
    here = std::make_unique<service>(loop, store(), how);
    here->listen(std::move(listener));
    if (started) started();
    loop.run();
}

/// Runs a service in a child process, on a socket of its own for the same port. 0 is its exit code, or 2 if
/// it threw. Precondition: this process has one thread, for it is forked.
/// @param listener  stays open here: who connects while there is no child waits for the next one.
[[nodiscard]] inline processes::child_process in_child(int listener,
                                                       std::function<void(cairn::unique_fd)> const& run) {
    cairn::unique_fd own(::fcntl(listener, F_DUPFD_CLOEXEC, 0));
    if (!own) throw std::system_error(errno, std::generic_category(), "fcntl");
    return processes::child_process([&] {
        try {
            run(std::move(own));
            return 0;
        } catch (std::exception const& error) {
            std::cerr << "the service ended: " << error.what() << std::endl;
            return 2;
        }
    });
}
[[nodiscard]] inline processes::child_process in_child(int listener,
                                                       std::function<std::unique_ptr<backend>()> const& store,
                                                       options const& how = {}) {
    return in_child(listener, [&](cairn::unique_fd own) { serve(std::move(own), store, how); });
}

}  // namespace gateway
