// SPDX-License-Identifier: MIT
// Server programs beside a chapter: found, started on loopback or in a folder, and gone with the chapter.
#pragma once

#include <cairn/socket.hpp>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "child_process.hpp"

namespace processes {

/// Where a program lies, or "". Looks in PATH and where Debian puts servers.
inline std::string find_program(std::string const& name) {
    char const* const path = std::getenv("PATH");
    std::string const folders =
        std::string(path != nullptr ? path : "") + ":/usr/sbin:/usr/local/sbin:/usr/bin:";
    for (std::size_t begin = 0, end = 0; (end = folders.find(':', begin)) != folders.npos; begin = end + 1) {
        std::string const file = folders.substr(begin, end - begin) + '/' + name;
        if (end > begin && ::access(file.c_str(), X_OK) == 0) return file;
    }
    return {};
}

/// `count` different ports of loopback that nobody has just now. Somebody may be quicker to take one, so
/// whoever starts a server there must be ready to try again.
inline std::vector<std::uint16_t> free_ports(std::size_t count) {
    std::vector<cairn::unique_fd> held;
    std::vector<std::uint16_t> ports;
    for (std::size_t i = 0; i < count; ++i) {
        held.push_back(cairn::listen(cairn::endpoint::loopback(0)));
        ports.push_back(cairn::endpoint::of(held.back().get()).port());
    }
    return ports;
}

/// A program that runs until it is killed, or until the object or this process is gone. What it says goes to
/// `log`.
class server_process {
  public:
    server_process(std::vector<std::string> command, std::string log)
        : log_(std::move(log)), child_([&] { return become(command); }) {}

    /// As a power failure would: without a last word.
    void kill() noexcept { (void)child_.end(SIGKILL); }

    /// Repeats `attempt` until it returns true. @throws std::runtime_error with what the program has said if
    /// it ends, or after ten seconds. A system error of `attempt` counts as false.
    template <class Attempt>
    void until(Attempt attempt) {
        for (int waited = 0; waited < 1'000; ++waited) {
            try {
                if (attempt()) return;
            } catch (std::system_error const&) {  // nobody listens there yet
            }
            if (child_.ended()) break;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        std::ifstream said(log_);
        throw std::runtime_error("a server does not answer. It said: " +
                                 std::string(std::istreambuf_iterator<char>(said), {}));
    }

  private:
    /// In the child. Returns only if the program cannot be started.
    [[nodiscard]] int become(std::vector<std::string>& command) const {
        std::vector<char*> arguments;
        for (std::string& argument : command) arguments.push_back(argument.data());
        arguments.push_back(nullptr);
        int const in = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        int const out = ::open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (in >= 0 && out >= 0 && ::dup2(in, 0) >= 0 && ::dup2(out, 1) >= 0 && ::dup2(out, 2) >= 0)
            ::execv(arguments[0], arguments.data());
        return 127;
    }

    std::string log_;
    child_process child_;
};

}  // namespace processes
