// SPDX-License-Identifier: MIT
// A child of this process: started by it, and gone with it, however it ends. The object's end kills the
// child; and if this process is killed before, so that no destructor runs, the kernel does it (Linux).
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace processes {

class child_process {
  public:
    /// Forks. The child calls life() and ends with what that returns, an int; no destructor of what is above
    /// runs there. Precondition: the calling thread lives as long as this process, for its end is what the
    /// kernel looks at; and no other thread runs, unless life() does no more than exec. @throws
    /// std::system_error
    template <class Life>
    explicit child_process(Life life) {
        pid_t const parent = ::getpid();
        pid_ = ::fork();
        if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
        if (pid_ > 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(127);                  // the parent was gone before prctl
        ::_exit([&life]() noexcept -> int { return life(); }());  // what it throws must not get out: abort
    }
    ~child_process() { (void)end(SIGKILL); }
    child_process(child_process&& from) noexcept : pid_(std::exchange(from.pid_, -1)) {}
    child_process& operator=(child_process&&) = delete;

    /// -1 once its end has been seen.
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    void signal(int number) const noexcept {
        if (pid_ > 0) ::kill(pid_, number);
    }
    /// Sends it a signal, and waits for its end: its exit code, or 128 and the signal. -1 if it was seen.
    int end(int number) noexcept {
        signal(number);
        return wait();
    }
    /// The same, without a signal.
    int wait() noexcept {
        if (pid_ <= 0) return -1;
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    /// Whether it has ended. Does not wait.
    [[nodiscard]] bool ended() noexcept {
        if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = -1;
        return pid_ <= 0;
    }

  private:
    pid_t pid_ = -1;
};

}  // namespace processes
