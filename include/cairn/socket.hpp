// SPDX-License-Identifier: MIT
// Descriptors that close themselves, addresses, and the few socket calls that a loop needs.
//
// The socket calls of Unix have traps: a descriptor that is not close-on-exec goes to every child; a close()
// that is repeated after EINTR may close another thread's file; a write to a peer that is gone ends the
// process by SIGPIPE; and at the limit of descriptors, accept() fails while the listening socket stays ready,
// so a loop spins. Here each of them is mended once.
//
//   call                        non-blocking, close-on-exec   on an error
//   -------------------------   ---------------------------   --------------------------------------------
//   listen, connect, accept     yes, both                     std::system_error that names the system call,
//   socket_pair                                               or a std::error_code& as the last argument
//   receive, send               as the socket is              a std::error_code&; send raises no SIGPIPE
//   acceptor                    yes, both                     without descriptors: closes who waits, and
//   counts
//
// An endpoint is an address by number: names are not looked up, for that blocks. All of it costs what the
// system calls cost.
//
// When not to use it: outside of Linux; for UDP and what else has no connection.
// Sources: Stevens, "UNIX Network Programming" (1998); the reserve descriptor of acceptor: libev's manual.
// Thread safety: values, as int is.
//
//   cairn::unique_fd const listener = cairn::listen(cairn::endpoint::loopback(0));  // any free port
//   cairn::unique_fd const client = cairn::connect(cairn::endpoint::of(listener.get()));
//   cairn::unique_fd server;
//   while (!server) server = cairn::accept(listener.get());  // empty while nobody waits
//   std::cout << (cairn::endpoint::of_peer(server.get()) == cairn::endpoint::of(client.get())) << '\n';  // 1
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace cairn {

namespace detail {

[[nodiscard]] inline std::error_code last_error() noexcept { return {errno, std::system_category()}; }

/// For the functions that have no std::error_code& of the caller's.
inline void throw_if(std::error_code const& error, char const* call) {
    if (error) throw std::system_error(error, call);
}

}  // namespace detail

/// Owns a descriptor, or none. Move-only.
class unique_fd {
  public:
    unique_fd() noexcept = default;
    /// Takes over `fd`; a negative one is none.
    explicit unique_fd(int fd) noexcept : fd_(fd) {}
    unique_fd(unique_fd&& from) noexcept : fd_(from.release()) {}
    unique_fd& operator=(unique_fd&& from) noexcept {
        reset(from.release());
        return *this;
    }
    ~unique_fd() { reset(); }

    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
    /// Gives the descriptor away.
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    /// Closes what it owns, and takes over `fd`. errno stays what it was.
    void reset(int fd = -1) noexcept {
        if (int const old = std::exchange(fd_, fd); old >= 0) {
            int const error = errno;
            // Never again after EINTR: Linux has closed it, and another thread may have the number by now.
            ::close(old);
            errno = error;
        }
    }

  private:
    int fd_ = -1;
};

/// The address of a socket: IPv4, IPv6 or Unix. A value; 112 bytes.
class endpoint {
  public:
    /// The unnamed one.
    endpoint() noexcept : unix_{} {}

    /// From a number like "127.0.0.1", "::1" or "fe80::1%eth0". Names are not looked up: that blocks.
    /// @throws std::invalid_argument if it is none.
    [[nodiscard]] static endpoint ip(std::string_view address, std::uint16_t port);
    /// This machine, over IPv4 or IPv6; port 0 lets the system choose.
    [[nodiscard]] static endpoint loopback(std::uint16_t port) { return ip("127.0.0.1", port); }
    [[nodiscard]] static endpoint loopback_v6(std::uint16_t port) { return ip("::1", port); }
    /// All addresses of this machine.
    [[nodiscard]] static endpoint any(std::uint16_t port) { return ip("0.0.0.0", port); }
    [[nodiscard]] static endpoint any_v6(std::uint16_t port) { return ip("::", port); }
    /// A Unix socket: a path, or a name after a NUL byte (abstract, without a file).
    /// @throws std::invalid_argument if it is empty, has a NUL inside a path, or is longer than 107 bytes.
    [[nodiscard]] static endpoint local(std::string_view path);
    /// Where a socket is bound, and whom it is connected to. @throws std::system_error
    [[nodiscard]] static endpoint of(int fd);
    [[nodiscard]] static endpoint of_peer(int fd);
    /// From what a system call has filled in. Precondition: size <= sizeof(sockaddr_un).
    endpoint(sockaddr const* address, socklen_t size) noexcept : unix_{}, size_(size) {
        std::memcpy(&unix_, address, std::min<std::size_t>(size, sizeof unix_));
    }

    /// AF_INET, AF_INET6, AF_UNIX or AF_UNSPEC.
    [[nodiscard]] int family() const noexcept { return any_.sa_family; }
    /// Of an IP address; else 0.
    [[nodiscard]] std::uint16_t port() const noexcept {
        return family() == AF_INET    ? ntohs(v4_.sin_port)
               : family() == AF_INET6 ? ntohs(v6_.sin6_port)
                                      : std::uint16_t{0};
    }
    /// "127.0.0.1:80", "[::1]:80", "/run/socket", "@abstract", or "" for an unnamed one.
    [[nodiscard]] std::string to_string() const;
    /// For system calls.
    [[nodiscard]] sockaddr const* data() const noexcept { return &any_; }
    [[nodiscard]] socklen_t size() const noexcept { return size_; }
    [[nodiscard]] friend bool operator==(endpoint const& a, endpoint const& b) noexcept {
        return a.size_ == b.size_ && std::memcmp(&a.unix_, &b.unix_, a.size_) == 0;
    }

  private:
    union {
        sockaddr any_;
        sockaddr_in v4_;
        sockaddr_in6 v6_;
        sockaddr_un unix_;
    };
    socklen_t size_ = sizeof(sa_family_t);
};

/// How listen() sets a socket up.
struct listen_options {
    int backlog = 4096;       ///< connections that wait to be accepted; the system may allow fewer
    bool reuse_port = false;  ///< several sockets listen at one address, and share what comes
    bool v6_only = false;     ///< at an IPv6 address, no IPv4; else both come
};

// All sockets are non-blocking and close-on-exec. Each function that has no std::error_code& throws
// std::system_error with the name of the call that failed; with one, what is returned is then empty.

namespace detail {

/// The first error of a sequence of calls, and which call it was.
struct attempt {
    std::error_code error;
    char const* call = "";
    /// Whether all went well so far.
    bool operator()(bool succeeded, char const* name) noexcept {
        if (!succeeded) {
            error = last_error();
            call = name;
        }
        return succeeded;
    }
};
inline bool set_option(int fd, int level, int name, int value) noexcept {
    return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}
inline bool is_ip(endpoint const& e) noexcept { return e.family() == AF_INET || e.family() == AF_INET6; }

[[nodiscard]] inline unique_fd open_socket(endpoint const& e, attempt& made) noexcept {
    unique_fd fd(::socket(e.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    made(static_cast<bool>(fd), "socket");
    return fd;
}
[[nodiscard]] inline unique_fd listen(endpoint const& at, listen_options const& options,
                                      attempt& made) noexcept {
    unique_fd fd = open_socket(at, made);
    bool const v6 = at.family() == AF_INET6;
    if (fd && (!is_ip(at) || made(set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1), "setsockopt")) &&
        (!options.reuse_port || made(set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1), "setsockopt")) &&
        (!v6 || made(set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only), "setsockopt")) &&
        made(::bind(fd.get(), at.data(), at.size()) == 0, "bind") &&
        made(::listen(fd.get(), options.backlog) == 0, "listen"))
        return fd;
    return {};
}
[[nodiscard]] inline unique_fd connect(endpoint const& to, attempt& made) noexcept {
    unique_fd fd = open_socket(to, made);
    if (fd && (!is_ip(to) || made(set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1), "setsockopt")) &&
        made(::connect(fd.get(), to.data(), to.size()) == 0 || errno == EINPROGRESS || errno == EINTR,
             "connect"))
        return fd;
    return {};
}

}  // namespace detail

/// A socket that listens at `at`, at once again after another one has closed there. A Unix path must not
/// exist; it stays when the socket is closed.
[[nodiscard]] inline unique_fd listen(endpoint const& at, listen_options const& options,
                                      std::error_code& error) noexcept {
    detail::attempt made;
    unique_fd fd = detail::listen(at, options, made);
    error = made.error;
    return fd;
}
[[nodiscard]] inline unique_fd listen(endpoint const& at, listen_options const& options = {}) {
    detail::attempt made;
    unique_fd fd = detail::listen(at, options, made);
    detail::throw_if(made.error, made.call);
    return fd;
}

/// A socket that connects to `to`, without Nagle's delay. It may still be under way: when the socket is ready
/// to write, it is over, and pending_error() says how.
[[nodiscard]] inline unique_fd connect(endpoint const& to, std::error_code& error) noexcept {
    detail::attempt made;
    unique_fd fd = detail::connect(to, made);
    error = made.error;
    return fd;
}
[[nodiscard]] inline unique_fd connect(endpoint const& to) {
    detail::attempt made;
    unique_fd fd = detail::connect(to, made);
    detail::throw_if(made.error, made.call);
    return fd;
}
/// How a connect() ended, or what else went wrong since the last call.
[[nodiscard]] inline std::error_code pending_error(int fd) noexcept {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return detail::last_error();
    return {error, std::system_category()};
}

/// The next connection that waits at a listening socket, without Nagle's delay. If there is none, empty, and
/// the error is std::errc::resource_unavailable_try_again. One that its peer has given up already is left
/// out.
[[nodiscard]] inline unique_fd accept(int listener, std::error_code& error) noexcept {
    for (;;) {
        unique_fd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (fd) {
            // Fails on a Unix socket, which needs it not.
            detail::set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
            error.clear();
            return fd;
        }
        if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO) continue;
        error = detail::last_error();
        return {};
    }
}
/// The same; empty if there is none. @throws std::system_error for any other reason
[[nodiscard]] inline unique_fd accept(int listener) {
    std::error_code error;
    unique_fd fd = accept(listener, error);
    if (error != std::errc::resource_unavailable_try_again) detail::throw_if(error, "accept4");
    return fd;
}

/// Reads what is there, at most `into.size()` bytes. 0 with no error is the end. If nothing is there, 0 and
/// std::errc::resource_unavailable_try_again. For sockets.
[[nodiscard]] inline std::size_t receive(int fd, std::span<std::byte> into, std::error_code& error) noexcept {
    for (;;) {
        ssize_t const n = ::recv(fd, into.data(), into.size(), 0);
        if (n >= 0) {
            error.clear();
            return static_cast<std::size_t>(n);
        }
        if (errno == EINTR) continue;
        error = detail::last_error();
        return 0;
    }
}
/// Writes what there is room for, and returns how much that was; if none, 0 and
/// std::errc::resource_unavailable_try_again. To a peer that is gone: std::errc::broken_pipe, and no SIGPIPE.
[[nodiscard]] inline std::size_t send(int fd, std::span<std::byte const> from,
                                      std::error_code& error) noexcept {
    for (;;) {
        ssize_t const n = ::send(fd, from.data(), from.size(), MSG_NOSIGNAL);
        if (n >= 0) {
            error.clear();
            return static_cast<std::size_t>(n);
        }
        if (errno == EINTR) continue;
        error = detail::last_error();
        return 0;
    }
}
/// No more is written: the peer reads the end. What it sends can still be read.
inline void shutdown_write(int fd, std::error_code& error) noexcept {
    error = ::shutdown(fd, SHUT_WR) == 0 ? std::error_code{} : detail::last_error();
}

/// Two Unix sockets that are connected to each other. @throws std::system_error
[[nodiscard]] inline std::pair<unique_fd, unique_fd> socket_pair() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        throw std::system_error(detail::last_error(), "socketpair");
    return {unique_fd(fds[0]), unique_fd(fds[1])};
}

/// Accepts connections, also when the process has no descriptor left. Then the connections that wait are
/// closed, so that they do not wait in vain, and so that the loop does not spin: a listening socket is ready
/// as long as anything waits. For that one descriptor is kept in reserve.
class acceptor {
  public:
    /// Takes a listening socket over. @throws std::system_error
    explicit acceptor(unique_fd listener) : listener_(std::move(listener)), spare_(reserve()) {
        if (!spare_) throw std::system_error(detail::last_error(), "open");
    }
    acceptor(acceptor&&) noexcept = default;
    acceptor& operator=(acceptor&&) noexcept = default;

    /// As cairn::accept. Without descriptors or memory for it: closes all that waits, counts it, and returns
    /// nothing, with the error.
    [[nodiscard]] unique_fd accept(std::error_code& error) noexcept {
        unique_fd fd = cairn::accept(listener_.get(), error);
        if (error.value() == EMFILE || error.value() == ENFILE) shed();
        return fd;
    }
    [[nodiscard]] int fd() const noexcept { return listener_.get(); }
    /// How many connections were closed for want of descriptors.
    [[nodiscard]] std::size_t shed_count() const noexcept { return shed_; }

  private:
    [[nodiscard]] static unique_fd reserve() noexcept {
        return unique_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    // accept4 takes a descriptor before it looks whether anyone waits. So it must be tried until it says that
    // nobody does: with the reserve still closed, or it says EMFILE for ever.
    void shed() noexcept {
        spare_.reset();
        std::error_code error;
        while (cairn::accept(listener_.get(), error)) ++shed_;
        spare_ = reserve();
    }

    unique_fd listener_;
    unique_fd spare_;
    std::size_t shed_ = 0;
};

// ---- Addresses. ----

inline endpoint endpoint::ip(std::string_view address, std::uint16_t port) {
    endpoint made;
    std::string const text(address.substr(0, address.find('%')));
    std::string const zone(address.substr(text.size()));  // "%eth0", or nothing
    bool const has_nul = address.find('\0') != std::string_view::npos;
    if (zone.empty() && !has_nul && ::inet_pton(AF_INET, text.c_str(), &made.v4_.sin_addr) == 1) {
        made.v4_.sin_family = AF_INET;
        made.v4_.sin_port = htons(port);
        made.size_ = sizeof(sockaddr_in);
        return made;
    }
    made.v6_ = {};
    unsigned const scope = zone.empty() ? 0 : ::if_nametoindex(zone.c_str() + 1);
    if (has_nul || (scope == 0 && !zone.empty()) ||
        ::inet_pton(AF_INET6, text.c_str(), &made.v6_.sin6_addr) != 1)
        throw std::invalid_argument("endpoint: \"" + std::string(address) + "\" is not an IP address");
    made.v6_.sin6_family = AF_INET6;
    made.v6_.sin6_port = htons(port);
    made.v6_.sin6_scope_id = scope;
    made.size_ = sizeof(sockaddr_in6);
    return made;
}

inline endpoint endpoint::local(std::string_view path) {
    bool const abstract = !path.empty() && path.front() == '\0';
    if (path.empty() || path.size() > sizeof(sockaddr_un::sun_path) - 1 ||
        (!abstract && path.find('\0') != std::string_view::npos))
        throw std::invalid_argument("endpoint: a path of " + std::to_string(path.size()) +
                                    " bytes, or with a NUL in it, cannot name a socket");
    endpoint made;
    made.unix_.sun_family = AF_UNIX;
    path.copy(made.unix_.sun_path, path.size());
    made.size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
    return made;
}

inline endpoint endpoint::of(int fd) {
    endpoint made;
    socklen_t size = sizeof made.unix_;
    if (::getsockname(fd, &made.any_, &size) != 0)
        throw std::system_error(detail::last_error(), "getsockname");
    made.size_ = size;
    return made;
}
inline endpoint endpoint::of_peer(int fd) {
    endpoint made;
    socklen_t size = sizeof made.unix_;
    if (::getpeername(fd, &made.any_, &size) != 0)
        throw std::system_error(detail::last_error(), "getpeername");
    made.size_ = size;
    return made;
}

inline std::string endpoint::to_string() const {
    char text[INET6_ADDRSTRLEN];
    switch (family()) {
        case AF_INET:
            ::inet_ntop(AF_INET, &v4_.sin_addr, text, sizeof text);
            return text + (':' + std::to_string(port()));
        case AF_INET6: {
            ::inet_ntop(AF_INET6, &v6_.sin6_addr, text, sizeof text);
            std::string const zone = v6_.sin6_scope_id == 0 ? "" : '%' + std::to_string(v6_.sin6_scope_id);
            return '[' + (text + zone) + "]:" + std::to_string(port());
        }
        case AF_UNIX: {
            std::string_view name(unix_.sun_path, size_ - offsetof(sockaddr_un, sun_path));
            if (name.empty()) return {};
            if (name.front() == '\0') return '@' + std::string(name.substr(1));
            return std::string(name.substr(0, name.find('\0')));
        }
        default:
            return {};
    }
}

}  // namespace cairn
