// SPDX-License-Identifier: MIT
// The HTTP server of the chapters in a process of its own, so that its memory and its descriptors can be
// looked at, and clients may block. It ends when this object does, or this process.
#pragma once

#include <cairn/signal_watch.hpp>

#include <signal.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "http/http_server.hpp"
#include "processes/child_process.hpp"

namespace support {

/// What it answers: /echo the body; /large?n so many bytes; /pieces?n so many pieces; else the target.
inline void answer_request(http::request const& what, http::responder to) {
    auto const number = [&] { return std::strtoul(std::string(what.query()).c_str(), nullptr, 10); };
    if (what.path() == "/echo") {
        to.send({.body = what.body()});
    } else if (what.path() == "/large") {
        to.send({.body = std::string(number(), 'x')});
    } else if (what.path() == "/pieces") {
        auto out = to.begin({.type = "text/event-stream"});
        for (std::size_t i = 0, n = number(); i < n; ++i)
            if (!out.write("data: " + std::to_string(i) + "\n\n")) break;
        out.end();
    } else {
        to.send({.body = std::string(what.target())});
    }
}

class http_child {
  public:
    explicit http_child(http::limits const& limits = {}) {
        cairn::unique_fd listener = cairn::listen(cairn::endpoint::loopback(0));
        address_ = cairn::endpoint::of(listener.get());
        process_.emplace([&] { return serve(std::move(listener), limits); });
    }

    [[nodiscard]] cairn::endpoint const& address() const noexcept { return address_; }
    /// Asks it to stop, and returns how it ended: 0 if all clients had gone in time, and nothing was left.
    [[nodiscard]] int stop() { return process_->end(SIGTERM); }
    /// Resident memory now, and the most it ever was, in bytes.
    [[nodiscard]] std::size_t memory() const { return status("VmRSS:"); }
    [[nodiscard]] std::size_t most_memory() const { return status("VmHWM:"); }
    [[nodiscard]] std::size_t descriptors() const {
        std::size_t n = 0;
        for (auto const& one : std::filesystem::directory_iterator(in_proc("fd"))) {
            (void)one;
            ++n;
        }
        return n;
    }

  private:
    [[nodiscard]] static int serve(cairn::unique_fd listener, http::limits const& limits) {
        try {
            cairn::event_loop loop;
            http::server server(loop, answer_request, limits);
            server.listen(std::move(listener));
            bool complete = false;
            cairn::signal_watch const end(loop, {SIGTERM}, [&](int) {
                server.stop(std::chrono::seconds(5), [&] {
                    complete = server.connections() == 0 && loop.watching() == 1 && loop.timers() == 0;
                    loop.stop();
                });
            });
            loop.run();
            return complete ? 0 : 1;
        } catch (std::exception const& e) {
            std::cerr << "the server ended: " << e.what() << std::endl;
            return 2;
        }
    }
    [[nodiscard]] std::size_t status(std::string_view name) const {
        std::ifstream file(in_proc("status"));
        std::string word;
        std::size_t kilobytes = 0;
        while (file >> word)
            if (word == name && file >> kilobytes) return kilobytes * 1024;
        return 0;
    }

    [[nodiscard]] std::string in_proc(std::string const& name) const {
        return "/proc/" + std::to_string(process_->pid()) + '/' + name;
    }

    cairn::endpoint address_;
    std::optional<processes::child_process> process_;
};

}  // namespace support
