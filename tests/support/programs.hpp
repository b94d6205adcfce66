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
#include <cstdlib>
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

namespace support {

/// Where a program lies, or nothing. Looks in PATH and where Debian puts servers.
inline std::string find_program(std::string const& name) {
    char const* const path = std::getenv("PATH");
    std::string folders = std::string(path != nullptr ? path : "") + ":/usr/sbin:/usr/local/sbin:/usr/bin";
    for (std::size_t begin = 0; begin <= folders.size();) {
        std::size_t const end = std::min(folders.find(':', begin), folders.size());
        std::string const file = folders.substr(begin, end - begin) + '/' + name;
        if (end > begin && access(file.c_str(), X_OK) == 0) return file;
        begin = end + 1;
    }
    return {};
}

/// A folder that goes with all that is in it.
class temporary_folder {
  public:
    temporary_folder() {
        std::string name = (std::filesystem::temp_directory_path() / "cairn-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr)
            throw std::system_error(errno, std::generic_category(), "mkdtemp");
        path_ = name;
    }
    ~temporary_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    temporary_folder(temporary_folder const&) = delete;
    temporary_folder& operator=(temporary_folder const&) = delete;

    [[nodiscard]] std::string path() const { return path_.string(); }
    /// Writes a file and returns its path.
    std::string write(std::string const& name, std::string const& text) const {
        std::ofstream(path_ / name) << text;
        return (path_ / name).string();
    }

  private:
    std::filesystem::path path_;
};

inline sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/// Ports of loopback that nobody has just now, all different.
inline std::vector<std::uint16_t> free_ports(std::size_t count) {
    std::vector<int> sockets;
    std::vector<std::uint16_t> ports;
    for (std::size_t i = 0; i < count; ++i) {
        int const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address = loopback(0);
        socklen_t size = sizeof address;
        if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
            getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
            throw std::system_error(errno, std::generic_category(), "bind");
        sockets.push_back(fd);
        ports.push_back(ntohs(address.sin_port));
    }
    for (int const fd : sockets) close(fd);
    return ports;
}

/// A connection to a port of loopback. Nothing takes longer than ten seconds: then it throws.
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
