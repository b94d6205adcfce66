// SPDX-License-Identifier: MIT
#include "loop_load.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "partner.hpp"

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

/// Connections to one server, each with one request under way while it is driven.
class load {
  public:
    load(endpoint const& to, protocol p, std::size_t connections)
        : request_(p == protocol::http ? http_request : echo_message), poll_(epoll_create1(EPOLL_CLOEXEC)) {
        for (std::size_t i = 0; i < connections; ++i) {
            sockets_.push_back(connected(to));
            epoll_event event{EPOLLIN, {}};
            event.data.u64 = i;
            if (epoll_ctl(poll_.get(), EPOLL_CTL_ADD, sockets_.back().get(), &event) != 0)
                throw std::runtime_error("a connection cannot be watched");
        }
        have_.resize(connections);
        // Of which length answers are: nginx has headers of its own.
        answer_ = p == protocol::echo ? echo_message.size() : first_answer();
    }

    /// Requests answered in so long a time. All answers have come when it returns.
    [[nodiscard]] std::uint64_t drive(clock::duration time) {
        std::size_t under_way = 0;
        for (auto const& socket : sockets_) {
            send(socket.get());
            ++under_way;
        }
        std::uint64_t answered = 0;
        bool over = false;
        clock::time_point const end = clock::now() + time;
        std::array<epoll_event, 512> events;
        std::array<char, 4'096> buffer;
        while (under_way != 0) {
            int const n = epoll_wait(poll_.get(), events.data(), static_cast<int>(events.size()), 5'000);
            if (n == 0) throw std::runtime_error("a server does not answer");
            over = over || clock::now() >= end;
            for (int i = 0; i < n; ++i) {
                auto const at = static_cast<std::size_t>(events[static_cast<std::size_t>(i)].data.u64);
                ssize_t const got = recv(sockets_[at].get(), buffer.data(), buffer.size(), 0);
                if (got <= 0) throw std::runtime_error("a server has ended a connection");
                have_[at] += static_cast<std::size_t>(got);
                if (have_[at] > answer_) throw std::runtime_error("a server answers too much");
                if (have_[at] != answer_) continue;
                have_[at] = 0;
                ++answered;
                if (over)
                    --under_way;
                else
                    send(sockets_[at].get());
            }
        }
        return answered;
    }

  private:
    [[nodiscard]] static unique_fd connected(endpoint const& to) {
        // A server needs a moment to begin to listen.
        for (int left = 200;; --left) {
            unique_fd socket(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
            if (::connect(socket.get(), to.data(), to.size()) == 0) return socket;
            if (left == 0) throw std::runtime_error("a server does not listen");
            std::this_thread::sleep_for(10ms);
        }
    }
    void send(int socket) const {
        if (::send(socket, request_.data(), request_.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(request_.size()))
            throw std::runtime_error("a request was not taken");
    }
    [[nodiscard]] std::size_t first_answer() const {
        send(sockets_.front().get());
        std::string answer;
        std::array<char, 4'096> buffer;
        for (;;) {
            ssize_t const got = recv(sockets_.front().get(), buffer.data(), buffer.size(), 0);
            if (got <= 0) throw std::runtime_error("a server has ended a connection");
            answer.append(buffer.data(), static_cast<std::size_t>(got));
            if (answer.ends_with("\r\n\r\nhello")) return answer.size();
        }
    }

    std::string_view request_;
    unique_fd poll_;
    std::vector<unique_fd> sockets_;
    std::vector<std::size_t> have_;
    std::size_t answer_ = 0;
};

}  // namespace

served_cell serve(context const& ctx, protocol p, std::size_t connections) {
    served_cell cell;
    cell.name = std::string(p == protocol::http ? "HTTP" : "echo") + ", " +
                count(static_cast<double>(connections)) + " connections";
    std::vector<server_process> servers;
    std::vector<std::unique_ptr<load>> loads;
    for (server_kind const& kind : server_kinds()) {
        if (kind.other_program && p != protocol::http) continue;
        progress("loop: " + cell.name + ", " + kind.name);
        servers.emplace_back(kind, p);
        loads.push_back(std::make_unique<load>(servers.back().address(), p, connections));
        cell.servers.push_back(kind.name);
        cell.roles.push_back(kind.role);
    }
    cell.cpu.resize(servers.size());
    cell.rate.resize(servers.size());
    std::vector<std::size_t> order(servers.size());
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(7);
    auto const slice = ctx.quick ? 20ms : 60ms;
    for (std::size_t i = 0; i < servers.size(); ++i) (void)loads[i]->drive(slice);  // warms up
    for (std::size_t round = 0; round < (ctx.quick ? 5 : std::max<std::size_t>(ctx.rounds, 31)); ++round) {
        progress("loop: " + cell.name + ", round " + std::to_string(round + 1));
        std::shuffle(order.begin(), order.end(), random);
        for (std::size_t const i : order) {
            std::uint64_t const before = servers[i].cpu();
            auto const begin = clock::now();
            std::uint64_t const answered = loads[i]->drive(slice);
            double const took = std::chrono::duration<double>(clock::now() - begin).count();
            cell.cpu[i].push_back(static_cast<double>(servers[i].cpu() - before) /
                                  static_cast<double>(answered));
            cell.rate[i].push_back(static_cast<double>(answered) / took);
        }
    }
    return cell;
}

double system_calls(server_kind const& kind) {
    server_process server(kind, protocol::http);
    load clients(server.address(), protocol::http, 64);
    (void)clients.drive(20ms);  // until all are accepted, which is not part of a request
    std::uint64_t answered = 0, calls = 0;
    std::atomic<bool> traced{false}, over{false};
    // The thread that traces must be the one that waits, so the load comes from another one.
    std::thread driver([&] {
        until([&] { return traced.load(); });
        try {
            answered = clients.drive(300ms);
        } catch (std::exception const&) {
        }
        over = true;
        // Interrupts the last wait of the server, so that the tracer looks once more.
        (void)kill(server.pid(), SIGSTOP);
    });
    if (ptrace(PTRACE_SEIZE, server.pid(), nullptr, PTRACE_O_TRACESYSGOOD) != 0 ||
        ptrace(PTRACE_INTERRUPT, server.pid(), nullptr, nullptr) != 0) {
        traced = true;
        driver.join();
        return 0;
    }
    bool first = true;
    for (;;) {
        int status = 0;
        if (waitpid(server.pid(), &status, __WALL) < 0) break;
        if (WIFEXITED(status) || WIFSIGNALED(status) || over) break;
        if (WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80)) ++calls;
        (void)ptrace(PTRACE_SYSCALL, server.pid(), nullptr, nullptr);
        if (std::exchange(first, false)) traced = true;
    }
    driver.join();
    (void)ptrace(PTRACE_DETACH, server.pid(), nullptr, nullptr);
    (void)kill(server.pid(), SIGCONT);
    // Each call stops twice: where it begins and where it ends.
    return answered == 0 ? 0 : static_cast<double>(calls) / 2 / static_cast<double>(answered);
}

}  // namespace cairn::bench
