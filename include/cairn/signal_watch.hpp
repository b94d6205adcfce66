// SPDX-License-Identifier: MIT
// Signals as events of a loop: handled between two handlers, where anything may be called.
//
// A signal handler of the usual kind runs in the middle of anything, malloc() included, so it may call next
// to nothing. Here the signals are blocked, wait in the kernel, and are read from a descriptor (signalfd)
// when the loop comes to it: the handler is one like any other.
//
//     SIGTERM ─▶ blocked in all threads ─▶ pending ─▶ signalfd is ready ─▶ handler(SIGTERM), on the loop
//
//   operation         costs
//   ---------------   -----------------------------------------------------------
//   signal_watch      4 system calls; one descriptor
//   a signal          a read, and a turn of the loop
//
// A signal is blocked in the thread that makes the watch, and in the threads which that one starts
// afterwards. So make it before any other thread is started: a thread that does not block SIGTERM dies of it,
// and the process too. Its end restores the thread's old mask; a signal that waits then is first taken away.
// Equal signals that come while one waits are one, as the system does it.
//
// When not to use it: for SIGSEGV and others that a thread brings on itself (blocked, they end the process),
// for SIGKILL and SIGSTOP (nobody sees them). SIGPIPE needs none of this: cairn::send raises none.
// Sources: signalfd(2); D. J. Bernstein's self-pipe trick, which it replaces.
// Thread safety: as registration.
//
//   cairn::event_loop loop;
//   cairn::signal_watch const on_term(loop, {SIGTERM, SIGINT}, [&loop](int signal) {
//       std::cout << "signal " << signal << ": stopping\n";
//       loop.stop();
//   });
//   std::thread([] { ::kill(::getpid(), SIGTERM); }).join();
//   loop.run();
#pragma once

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <concepts>
#include <csignal>
#include <ctime>
#include <initializer_list>
#include <system_error>
#include <type_traits>
#include <utility>

#include "event_loop.hpp"
#include "socket.hpp"

namespace cairn {

/// Calls handler(number) on the loop for each of some signals. Its end unblocks them. Stays where it is.
class signal_watch {
  public:
    /// @throws std::system_error, std::bad_alloc; nothing has changed then. EINVAL for what is no signal.
    template <class F>
        requires std::invocable<std::decay_t<F>&, int>
    signal_watch(event_loop& loop, std::initializer_list<int> signals, F&& handler) : mask_(signals) {
        fd_.reset(::signalfd(-1, &mask_.blocked, SFD_NONBLOCK | SFD_CLOEXEC));
        if (!fd_) throw std::system_error(detail::last_error(), "signalfd");
        watch_ = loop.watch(fd_.get(), readiness::in,
                            [fd = fd_.get(), call = std::forward<F>(handler)](readiness) mutable {
                                // One at a time: if it throws, or ends the watch, the others still wait.
                                signalfd_siginfo signal;
                                if (::read(fd, &signal, sizeof signal) == sizeof signal)
                                    call(static_cast<int>(signal.ssi_signo));
                            });
    }
    signal_watch(signal_watch const&) = delete;
    signal_watch& operator=(signal_watch const&) = delete;

  private:
    struct mask {
        sigset_t blocked, before;
        explicit mask(std::initializer_list<int> signals) {
            ::sigemptyset(&blocked);
            for (int const signal : signals)
                if (::sigaddset(&blocked, signal) != 0)
                    throw std::system_error(detail::last_error(), "sigaddset");
            if (int const error = ::pthread_sigmask(SIG_BLOCK, &blocked, &before); error != 0)
                throw std::system_error(error, std::system_category(), "pthread_sigmask");
        }
        mask(mask const&) = delete;
        mask& operator=(mask const&) = delete;
        ~mask() {
            // Those that wait would strike now. Only those that were not blocked before: the others are not
            // ours.
            sigset_t ours;
            ::sigemptyset(&ours);
            for (int signal = 1; signal < NSIG; ++signal)
                if (::sigismember(&blocked, signal) == 1 && ::sigismember(&before, signal) == 0)
                    ::sigaddset(&ours, signal);
            timespec const at_once{};
            while (::sigtimedwait(&ours, nullptr, &at_once) > 0 || errno == EINTR) {
            }
            ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        }
    };

    mask mask_;
    unique_fd fd_;
    registration watch_;  // ends before fd_
};

}  // namespace cairn
