// SPDX-License-Identifier: MIT
#include "loop_servers.hpp"

#include <cairn/async_fd.hpp>
#include <cairn/event_loop.hpp>
#include <cairn/task.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>

#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(CAIRN_BENCH_HAVE_LIBUV)
#include <uv.h>
#endif
#if defined(CAIRN_BENCH_HAVE_LIBEVENT)
#include <event2/event.h>
#endif
#if defined(CAIRN_BENCH_HAVE_ASIO)
#include <boost/asio.hpp>
#endif

namespace cairn::bench {

std::string_view exchange::answer(std::string_view data) noexcept {
    if (protocol_ == protocol::echo) return data;
    static std::string const replies = [] {
        std::string all;
        for (int i = 0; i < 512; ++i) all += http_reply;
        return all;
    }();
    constexpr std::string_view end = "\r\n\r\n";
    std::size_t requests = 0;
    for (char const c : data) {
        matched_ = c == end[matched_] ? matched_ + 1 : c == '\r' ? 1 : 0;
        if (matched_ == end.size()) {
            ++requests;
            matched_ = 0;
        }
    }
    return std::string_view(replies).substr(0, requests * http_reply.size());
}

namespace {

constexpr std::size_t room = 16'384;

/// Reads once and answers. False if the connection is over. The loader has one request under way on each
/// connection, so an answer that is not taken whole is an error of the measurement.
[[nodiscard]] bool serve_once(int fd, exchange& with, std::array<char, room>& buffer) noexcept {
    ssize_t const got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    std::string_view const reply = with.answer({buffer.data(), static_cast<std::size_t>(got)});
    return reply.empty() ||
           ::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(reply.size());
}

// ---- By hand. ----

void serve_raw(unique_fd listener, protocol p, endpoint const&) {
    struct connection {
        int fd;
        exchange with;
    };
    int const poll = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{EPOLLIN, {nullptr}};
    (void)epoll_ctl(poll, EPOLL_CTL_ADD, listener.get(), &event);
    std::array<epoll_event, 512> events;
    std::array<char, room> buffer;
    for (;;) {
        int const n = epoll_wait(poll, events.data(), static_cast<int>(events.size()), -1);
        for (int i = 0; i < n; ++i) {
            auto* const one = static_cast<connection*>(events[static_cast<std::size_t>(i)].data.ptr);
            if (one == nullptr) {
                for (;;) {
                    int const fd = accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                    if (fd < 0) break;
                    event = {EPOLLIN, {new connection{fd, exchange(p)}}};
                    (void)epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                }
            } else if (!serve_once(one->fd, one->with, buffer)) {
                (void)close(one->fd);
                delete one;
            }
        }
    }
}

// ---- cairn. ----

void serve_cairn(unique_fd listener, protocol p, endpoint const&) {
    struct connection {
        unique_fd fd;
        exchange with;
        registration watch{};
    };
    event_loop loop;
    std::array<char, room> buffer;
    auto const watched = loop.watch(listener.get(), readiness::in, [&](readiness) {
        std::error_code error;
        for (;;) {
            unique_fd fd = accept(listener.get(), error);
            if (error) break;
            auto* const one = new connection{std::move(fd), exchange(p)};
            one->watch = loop.watch(one->fd.get(), readiness::in, [one, &buffer](readiness) {
                if (!serve_once(one->fd.get(), one->with, buffer)) delete one;
            });
        }
    });
    loop.run();
}

/// All share the buffer: what is read is answered before anything else is. An answer that had to wait would
/// not be whole, but none does, and the loader would see it.
task<> cairn_session(async_fd peer, exchange with, std::array<std::byte, room>& buffer) {
    while (std::size_t const got = co_await peer.read_some(buffer)) {
        auto const reply = with.answer({reinterpret_cast<char const*>(buffer.data()), got});
        co_await peer.write_all(std::as_bytes(std::span(reply)));
    }
}
task<> cairn_accept(event_loop& loop, unique_fd socket, protocol p) {
    async_fd listener(loop, std::move(socket));
    std::array<std::byte, room> buffer;
    scope sessions;
    for (;;) {
        unique_fd fd = co_await listener.accept();
        sessions.spawn(cairn_session(async_fd(loop, std::move(fd)), exchange(p), buffer));
    }
}
void serve_cairn_coroutines(unique_fd listener, protocol p, endpoint const&) {
    event_loop loop;
    run(loop, cairn_accept(loop, std::move(listener), p));
}

#if defined(CAIRN_BENCH_HAVE_LIBUV)
// ---- libuv: uv_read_start and uv_write, as its guide has it. ----

void serve_libuv(unique_fd listener, protocol p, endpoint const&) {
    static std::array<char, room> buffer;
    static protocol spoken;
    spoken = p;
    struct connection {
        uv_tcp_t handle{};
        uv_write_t write{};
        exchange with{spoken};
    };
    uv_loop_t loop;
    uv_loop_init(&loop);
    uv_tcp_t server;
    uv_tcp_init(&loop, &server);
    uv_tcp_open(&server, listener.get());
    uv_listen(reinterpret_cast<uv_stream_t*>(&server), 1'024, [](uv_stream_t* from, int) {
        auto* const one = new connection;
        uv_tcp_init(from->loop, &one->handle);
        one->handle.data = one;
        auto* const stream = reinterpret_cast<uv_stream_t*>(&one->handle);
        if (uv_accept(from, stream) != 0) return;
        uv_read_start(
            stream, [](uv_handle_t*, std::size_t, uv_buf_t* to) { *to = uv_buf_init(buffer.data(), room); },
            [](uv_stream_t* on, ssize_t got, uv_buf_t const* data) {
                auto* const at = static_cast<connection*>(on->data);
                if (got < 0) {
                    uv_close(reinterpret_cast<uv_handle_t*>(on),
                             [](uv_handle_t* handle) { delete static_cast<connection*>(handle->data); });
                    return;
                }
                std::string_view const reply = at->with.answer({data->base, static_cast<std::size_t>(got)});
                if (reply.empty()) return;
                uv_buf_t const out =
                    uv_buf_init(const_cast<char*>(reply.data()), static_cast<unsigned>(reply.size()));
                uv_write(&at->write, on, &out, 1, [](uv_write_t*, int) {});
            });
    });
    uv_run(&loop, UV_RUN_DEFAULT);
}
#endif

#if defined(CAIRN_BENCH_HAVE_LIBEVENT)
void serve_libevent(unique_fd listener, protocol p, endpoint const&) {
    struct shared {
        event_base* base;
        int listener;
        protocol p;
        std::array<char, room> buffer;
    };
    struct connection {
        shared* with_all;
        exchange with;
        event* watch;
    };
    auto const all = std::make_unique<shared>(shared{event_base_new(), listener.get(), p, {}});
    event* const accepting = event_new(
        all->base, listener.get(), EV_READ | EV_PERSIST,
        [](evutil_socket_t, short, void* to) {
            auto* const with_all = static_cast<shared*>(to);
            for (;;) {
                int const fd = accept4(with_all->listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0) return;
                auto* const one = new connection{with_all, exchange(with_all->p), nullptr};
                one->watch = event_new(
                    with_all->base, fd, EV_READ | EV_PERSIST,
                    [](evutil_socket_t socket, short, void* on) {
                        auto* const at = static_cast<connection*>(on);
                        if (serve_once(socket, at->with, at->with_all->buffer)) return;
                        event_free(at->watch);
                        (void)close(socket);
                        delete at;
                    },
                    one);
                event_add(one->watch, nullptr);
            }
        },
        all.get());
    event_add(accepting, nullptr);
    event_base_dispatch(all->base);
}
#endif

#if defined(CAIRN_BENCH_HAVE_ASIO)
namespace asio = boost::asio;
using asio::ip::tcp;

class asio_connection : public std::enable_shared_from_this<asio_connection> {
  public:
    asio_connection(tcp::socket socket, protocol p) : socket_(std::move(socket)), with_(p) {}
    void read() {
        socket_.async_read_some(asio::buffer(buffer_), [self = shared_from_this()](
                                                           boost::system::error_code error, std::size_t got) {
            if (error) return;
            std::string_view const reply = self->with_.answer({self->buffer_.data(), got});
            if (reply.empty()) return self->read();
            asio::async_write(self->socket_, asio::buffer(reply),
                              [self](boost::system::error_code failed, std::size_t) {
                                  if (!failed) self->read();
                              });
        });
    }

  private:
    tcp::socket socket_;
    exchange with_;
    std::array<char, room> buffer_;
};
void accept_next(tcp::acceptor& from, protocol p) {
    from.async_accept([&from, p](boost::system::error_code error, tcp::socket socket) {
        if (!error) std::make_shared<asio_connection>(std::move(socket), p)->read();
        accept_next(from, p);
    });
}
void serve_asio(unique_fd listener, protocol p, endpoint const&) {
    asio::io_context context(1);
    tcp::acceptor from(context, tcp::v4(), listener.release());
    accept_next(from, p);
    context.run();
}

asio::awaitable<void> asio_session(tcp::socket socket, protocol p) {
    std::array<char, room> buffer;
    exchange with(p);
    try {
        for (;;) {
            std::size_t const got =
                co_await socket.async_read_some(asio::buffer(buffer), asio::use_awaitable);
            std::string_view const reply = with.answer({buffer.data(), got});
            if (!reply.empty()) co_await asio::async_write(socket, asio::buffer(reply), asio::use_awaitable);
        }
    } catch (boost::system::system_error const&) {  // it is over
    }
}
asio::awaitable<void> asio_accept(tcp::acceptor& from, protocol p) {
    for (;;) {
        tcp::socket socket = co_await from.async_accept(asio::use_awaitable);
        asio::co_spawn(from.get_executor(), asio_session(std::move(socket), p), asio::detached);
    }
}
void serve_asio_coroutines(unique_fd listener, protocol p, endpoint const&) {
    asio::io_context context(1);
    tcp::acceptor from(context, tcp::v4(), listener.release());
    asio::co_spawn(context, asio_accept(from, p), asio::detached);
    context.run();
}
#endif

// ---- nginx, in front of nothing. ----

char const* nginx_program() {
    for (char const* const path : {"/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"})
        if (access(path, X_OK) == 0) return path;
    return nullptr;
}
void serve_nginx(unique_fd, protocol, endpoint const& at) {
    std::string folder = (std::filesystem::temp_directory_path() / "cairn-nginx-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) _exit(1);
    std::ofstream(folder + "/nginx.conf")
        << "daemon off; master_process off; worker_processes 1; pid " << folder
        << "/pid; error_log /dev/null;\n"
        << "events { worker_connections 2048; }\n"
        << "http { access_log off; keepalive_requests 1000000000; client_body_temp_path " << folder << "/b;"
        << " proxy_temp_path " << folder << "/p; fastcgi_temp_path " << folder << "/f; uwsgi_temp_path "
        << folder << "/u; scgi_temp_path " << folder << "/s;\n"
        << " server { listen 127.0.0.1:" << at.port()
        << "; location / { default_type text/plain; return 200 hello; } } }\n";
    std::string const configuration = folder + "/nginx.conf";
    // The folder goes when nginx does; it has read the file by then.
    if (pid_t const parent = getpid(); fork() == 0) {
        (void)prctl(PR_SET_PDEATHSIG, 0);
        while (kill(parent, 0) == 0) (void)usleep(100'000);
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
        _exit(0);
    }
    execl(nginx_program(), "nginx", "-p", folder.c_str(), "-c", configuration.c_str(), "-e", "/dev/null",
          static_cast<char*>(nullptr));
    _exit(1);
}

}  // namespace

std::vector<server_kind> server_kinds() {
    std::vector<server_kind> all{{"raw epoll", "baseline", false, serve_raw},
                                 {"raw again", "baseline", false, serve_raw},
                                 {"cairn", "ours", false, serve_cairn},
                                 {"cairn coroutines", "ours", false, serve_cairn_coroutines}};
#if defined(CAIRN_BENCH_HAVE_LIBUV)
    all.push_back({"libuv", "peer", false, serve_libuv});
#endif
#if defined(CAIRN_BENCH_HAVE_LIBEVENT)
    all.push_back({"libevent", "peer", false, serve_libevent});
#endif
#if defined(CAIRN_BENCH_HAVE_ASIO)
    all.push_back({"asio", "peer", false, serve_asio});
    all.push_back({"asio coroutines", "peer", false, serve_asio_coroutines});
#endif
    if (nginx_program() != nullptr) all.push_back({"nginx", "peer", true, serve_nginx});
    return all;
}

server_process::server_process(server_kind const& kind, protocol p) : address_(endpoint::ip("127.0.0.1", 0)) {
    unique_fd listener = listen(address_);
    address_ = endpoint::of(listener.get());
    if (kind.other_program) listener.reset();  // or early clients would be in a queue that nobody serves
    pid_ = fork();
    if (pid_ == -1) throw std::runtime_error("no process for a server");
    if (pid_ == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        cpu_set_t first;
        CPU_ZERO(&first);
        CPU_SET(0, &first);
        (void)sched_setaffinity(0, sizeof first, &first);
        try {
            kind.serve(std::move(listener), p, address_);
        } catch (std::exception const& error) {
            std::fprintf(stderr, "%s: %s\n", kind.name.c_str(), error.what());
        }
        _exit(1);
    }
}
server_process::server_process(server_process&& from) noexcept
    : address_(from.address_), pid_(std::exchange(from.pid_, -1)) {}
server_process::~server_process() {
    if (pid_ <= 0) return;
    (void)kill(pid_, SIGKILL);
    (void)waitpid(pid_, nullptr, 0);
}
std::uint64_t server_process::cpu() const {
    std::uint64_t ns = 0;
    std::ifstream("/proc/" + std::to_string(pid_) + "/schedstat") >> ns;
    return ns;
}

}  // namespace cairn::bench
