// SPDX-License-Identifier: MIT
#include "loop_backpressure.hpp"

#include <cairn/connection.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <malloc.h>
#include <poll.h>
#include <sys/socket.h>

#if defined(CAIRN_BENCH_HAVE_BEAST)
#include "http/http_server.hpp"
#endif
#include "loop_servers.hpp"

namespace cairn::bench {
namespace {

/// A connection that scans for the ends of requests, as the servers that are compared with each other do.
struct scanner {
    exchange text{protocol::http};
    std::vector<std::unique_ptr<connection<scanner>>>& all;

    std::size_t on_data(connection<scanner>& client, std::span<std::byte const> data) {
        std::size_t taken = 0;
        while (taken != data.size() && !client.congested()) {
            auto const step = data.subspan(taken, std::min<std::size_t>(data.size() - taken, 4'096));
            client.write(std::as_bytes(
                std::span(text.answer({reinterpret_cast<char const*>(step.data()), step.size()}))));
            taken += step.size();
        }
        return taken;
    }
    void on_close(connection<scanner>& client, std::error_code) {
        std::erase_if(all, [&](auto const& one) { return one.get() == &client; });
    }
};
/// A forked process has all free memory of its parent's, and would hide in it what it needs. Gives that back,
/// and begins to count anew what it had at most.
void forget_the_parents_memory() {
    ::malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << "5";
}
void serve_by_connections(unique_fd listener, protocol, endpoint const&) {
    forget_the_parents_memory();
    event_loop loop;
    std::vector<std::unique_ptr<connection<scanner>>> all;
    auto const watch = loop.watch(listener.get(), readiness::in, [&](readiness) {
        while (unique_fd fd = accept(listener.get()))
            all.push_back(std::make_unique<connection<scanner>>(loop, std::move(fd), connection_limits{},
                                                                scanner{.all = all}));
    });
    loop.run();
}
#if defined(CAIRN_BENCH_HAVE_BEAST)
void serve_http(unique_fd listener, protocol, endpoint const&) {
    forget_the_parents_memory();
    event_loop loop;
    http::server server(loop, [](http::request const&, http::responder to) {
        to.send({.body = "hello", .type = "text/plain"});
    });
    server.listen(std::move(listener));
    loop.run();
}
#endif

/// Of a process, in KB: "VmRSS:", or "VmHWM:", the most there ever was.
[[nodiscard]] double kilobytes(pid_t of, std::string_view what) {
    std::ifstream file("/proc/" + std::to_string(of) + "/status");
    std::string word;
    double n = 0;
    while (file >> word)
        if (word == what && file >> n) break;
    return n;
}

struct held {
    double before = 0, at_most = 0;  // KB
    std::size_t stuck_after = 0;     // bytes
    std::size_t requests = 0, answers = 0;
    double seconds = 0;
};

/// Pipelines requests until nobody takes more for a while, and only then reads. Each answer is counted.
[[nodiscard]] held pipeline(server_kind const& kind, std::size_t bytes) {
    server_process const server(kind, protocol::http);
    unique_fd const client = connect(server.address());
    auto const wait = [&](short events, int ms) {
        pollfd one{client.get(), events, 0};
        return ::poll(&one, 1, ms) > 0;
    };
    held made;
    made.requests = bytes / http_request.size();
    std::string block;
    for (int i = 0; i < 1'000; ++i) block += http_request;
    std::size_t const all = made.requests * http_request.size();
    std::size_t sent = 0;
    std::error_code error;
    auto const push = [&](std::size_t end) {
        while (sent < end) {
            std::string_view const rest = std::string_view(block).substr(sent % block.size());
            std::size_t const n =
                send(client.get(), std::as_bytes(std::span(rest.substr(0, end - sent))), error);
            if (error && error != std::errc::resource_unavailable_try_again) return false;
            if (n == 0) break;
            sent += n;
        }
        return true;
    };
    std::size_t matched = 0;  // characters of what ends an answer
    auto const pull = [&] {
        static std::array<std::byte, 262'144> data;
        std::size_t const n = receive(client.get(), data, error);
        constexpr std::string_view end = "\r\n\r\nhello";
        for (std::byte const b : std::span(data).first(n)) {
            char const c = static_cast<char>(b);
            matched = c == end[matched] ? matched + 1 : c == '\r' ? 1 : 0;
            if (matched == end.size()) {
                ++made.answers;
                matched = 0;
            }
        }
        return n != 0 || error == std::errc::resource_unavailable_try_again;
    };
    // One request, so that what the server needs anyhow is there.
    (void)push(http_request.size());
    while (made.answers == 0)
        if (!wait(POLLIN, 5'000) || !pull()) return made;
    made.before = kilobytes(server.pid(), "VmRSS:");

    auto const begin = std::chrono::steady_clock::now();
    while (push(all) && sent != all && wait(POLLOUT, 300)) {
    }
    made.stuck_after = sent;
    while (made.answers != made.requests) {
        if (!push(all) || !wait(static_cast<short>(POLLIN | (sent == all ? 0 : POLLOUT)), 5'000)) break;
        if (!pull()) break;
    }
    made.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    made.at_most = kilobytes(server.pid(), "VmHWM:");
    return made;
}

}  // namespace

void measure_backpressure(answer& result) {
    std::vector<server_kind> const kinds = {
        {"connection", "ours", false, serve_by_connections},
#if defined(CAIRN_BENCH_HAVE_BEAST)
        {"http_server", "ours", false, serve_http},
#endif
    };
    constexpr std::size_t bytes = 27'000'000;
    nlohmann::json rows = nlohmann::json::array();
    for (server_kind const& kind : kinds) {
        progress("loop: backpressure, " + kind.name);
        held const made = pipeline(kind, bytes);
        double const growth = (made.at_most - made.before) / 1e3;
        bool const complete = made.answers == made.requests;
        rows.push_back({{{"text", kind.name}},
                        {{"text", number(static_cast<double>(made.stuck_after) / 1e6) + " MB"}},
                        {{"text", count(static_cast<double>(made.answers)) + " of " +
                                      count(static_cast<double>(made.requests))}},
                        {{"text", number(made.before / 1e3) + " MB"}},
                        {{"text", number(growth) + " MB"}},
                        {{"text", number(made.seconds) + " s"}}});
        result.figures.push_back({"loop: 27 MB pipelined, read late: " + kind.name,
                                  "complete; at most 4.00 MB more memory",
                                  std::string(complete ? "complete; " : "INCOMPLETE; ") + number(growth) +
                                      " MB more, " + number(made.at_most / 1e3) + " MB in all",
                                  complete && growth <= 4});
    }
    result.question["tables"].push_back(
        {{"id", "loop-backpressure"},
         {"title", "A client that pipelines requests and reads nothing until nobody takes more of them"},
         {"unit", ""},
         {"columns",
          {"server", "it could send", "answers", "memory before", "and more, at most",
           "until all was there"}},
         {"rows", rows}});
}

}  // namespace cairn::bench
