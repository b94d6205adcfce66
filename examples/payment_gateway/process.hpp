// SPDX-License-Identifier: MIT
// The gateway as a process: its life from start to SIGTERM; and a child process that can be killed.
#pragma once

#include <cairn/event_loop.hpp>
#include <cairn/signal_watch.hpp>
#include <cairn/socket.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <system_error>
#include <utility>

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

/// A service in a child process. Precondition: this process has one thread, for it is forked.
class child {
  public:
    /// @param listener  stays open here: who connects while there is no child waits for the next one.
    child(int listener, std::function<std::unique_ptr<backend>()> const& store, options const& how = {})
        : child(listener, [&](cairn::unique_fd own) { serve(std::move(own), store, how); }) {}
    child(int listener, std::function<void(cairn::unique_fd)> const& run) {
        cairn::unique_fd own(::fcntl(listener, F_DUPFD_CLOEXEC, 0));
        if (!own) throw std::system_error(errno, std::generic_category(), "fcntl");
        pid_t const parent = ::getpid();
        pid_ = ::fork();
        if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
        if (pid_ != 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(3);
        try {
            run(std::move(own));
            ::_exit(0);
        } catch (std::exception const& error) {
            std::cerr << "the service ended: " << error.what() << std::endl;
            ::_exit(2);
        }
    }
    child(child const&) = delete;
    child& operator=(child const&) = delete;
    ~child() {
        if (pid_ > 0) (void)end(SIGKILL);
    }
    void signal(int number) const { ::kill(pid_, number); }
    /// Sends it a signal, and returns how it ended: its exit code, or 128 and the signal.
    int end(int number) {
        signal(number);
        return wait();
    }
    /// The same, without a signal.
    int wait() {
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

  private:
    pid_t pid_ = -1;
};

}  // namespace gateway
