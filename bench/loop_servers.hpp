// SPDX-License-Identifier: MIT
// Servers on different event loops, which all do the same for a connection: read once, look for the ends of
// requests, answer. So they compare loops, not parsers. Each runs in a process of its own, on one core.
#pragma once

#include <cairn/socket.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace cairn::bench {

enum class protocol { http, echo };

inline constexpr std::string_view http_request =
    "GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: cairn-compare\r\nAccept: */*\r\n\r\n";
inline constexpr std::string_view http_reply =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
inline constexpr std::string_view echo_message =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a server does with the bytes of a connection.
class exchange {
  public:
    explicit exchange(protocol p) noexcept : protocol_(p) {}
    /// What is to be sent for these bytes; may be empty.
    [[nodiscard]] std::string_view answer(std::string_view data) noexcept;

  private:
    protocol protocol_;
    unsigned matched_ = 0;  // characters of the empty line that ends a request
};

/// A server's kind. It serves the listening socket until it is killed. One of another program opens the port
/// itself, and speaks HTTP only.
struct server_kind {
    std::string name;
    std::string role;  // "ours", "peer" or "baseline"
    bool other_program = false;
    void (*serve)(unique_fd listener, protocol p, endpoint const& at);
};

/// All that are built in, raw epoll first and twice.
[[nodiscard]] std::vector<server_kind> server_kinds();

/// A server's process, which ends with this object, or with this process.
class server_process {
  public:
    server_process(server_kind const& kind, protocol p);
    server_process(server_process&& from) noexcept;
    server_process& operator=(server_process&&) = delete;
    ~server_process();

    [[nodiscard]] endpoint const& address() const noexcept { return address_; }
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// Processor time that it has used, in ns.
    [[nodiscard]] std::uint64_t cpu() const;

  private:
    endpoint address_;
    pid_t pid_ = -1;
};

}  // namespace cairn::bench
