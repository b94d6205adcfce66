// SPDX-License-Identifier: MIT
// Real programs beside the tests: started on loopback, on ports that the system chose, in a process group and
// a folder of their own, and gone when the test is over, however it ends.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "../../examples/files/temporary_folder.hpp"
#include "../../examples/processes/server_process.hpp"

namespace support {

using processes::find_program, processes::free_ports;

/// A folder that goes with all that is in it.
class temporary_folder : public files::temporary_folder {
  public:
    /// Writes a file and returns its path.
    std::string write(std::string const& name, std::string const& text) const {
        std::ofstream(*this / name) << text;
        return *this / name;
    }
};

inline sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/// A connection to a port of loopback. Nothing takes longer than a minute: then it throws.
class connection {
  public:
    explicit connection(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in const address = loopback(port);
        timeval const patience{60, 0};
        int const now = 1;
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now);
        if (connect(fd_, reinterpret_cast<sockaddr const*>(&address), sizeof address) != 0) {
            int const error = errno;
            close(fd_);
            throw std::system_error(error, std::generic_category(), "connect");
        }
    }
    ~connection() { close(fd_); }
    connection(connection const&) = delete;
    connection& operator=(connection const&) = delete;

    void send(std::string_view text) const {
        while (!text.empty()) {
            ssize_t const n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
            if (n <= 0) throw std::system_error(errno, std::generic_category(), "send");
            text.remove_prefix(static_cast<std::size_t>(n));
        }
    }
    /// Up to the next "\r\n", without it.
    std::string line() {
        for (;;) {
            if (std::size_t const end = buffer_.find("\r\n"); end != buffer_.npos) {
                std::string found = buffer_.substr(0, end);
                buffer_.erase(0, end + 2);
                return found;
            }
            more();
        }
    }
    std::string bytes(std::size_t count) {
        while (buffer_.size() < count) more();
        std::string found = buffer_.substr(0, count);
        buffer_.erase(0, count);
        return found;
    }

  private:
    void more() {
        char some[65536];
        ssize_t const n = recv(fd_, some, sizeof some, 0);
        if (n == 0) throw std::runtime_error("the other side has hung up");
        if (n < 0) throw std::system_error(errno, std::generic_category(), "recv");
        buffer_.append(some, static_cast<std::size_t>(n));
    }
    int fd_;
    std::string buffer_;
};

/// A program that runs until the end of the scope. What it says goes to a file in the folder.
class program {
  public:
    program(std::vector<std::string> command, temporary_folder const& folder)
        : log_(folder.path() + '/' + std::filesystem::path(command.at(0)).filename().string() + ".log") {
        std::vector<char*> arguments;
        for (std::string& argument : command) arguments.push_back(argument.data());
        arguments.push_back(nullptr);
        pid_t const parent = getpid();
        pid_ = fork();
        if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
        if (pid_ == 0) {
            setpgid(0, 0);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) _exit(127);
            int const out = open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
            int const in = open("/dev/null", O_RDONLY);
            dup2(in, 0);
            dup2(out, 1);
            dup2(out, 2);
            execv(arguments[0], arguments.data());
            _exit(127);
        }
        setpgid(pid_, pid_);
    }
    ~program() {
        kill(-pid_, SIGTERM);
        for (int waited = 0; waited < 200; ++waited) {
            if (waitpid(pid_, nullptr, WNOHANG) == pid_) return;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        kill(-pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    program(program const&) = delete;
    program& operator=(program const&) = delete;

    /// Waits until it accepts connections. @throws std::runtime_error after ten seconds, with what it said.
    void wait_for(std::uint16_t port) const {
        for (int waited = 0; waited < 1000; ++waited) {
            try {
                connection const probe(port);
                return;
            } catch (std::system_error const&) {
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
            }
        }
        std::ifstream said(log_);
        throw std::runtime_error("nobody listens on the port; it said: " +
                                 std::string(std::istreambuf_iterator<char>(said), {}));
    }

  private:
    std::string log_;
    pid_t pid_ = -1;
};

}  // namespace support
