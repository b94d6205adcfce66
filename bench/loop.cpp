// SPDX-License-Identifier: MIT
// What does an event loop add to what the kernel takes, and how do the known loops compare?
#include <cairn/event_loop.hpp>
#include <cairn/timer_queue.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <malloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>

#if defined(CAIRN_BENCH_HAVE_LIBUV)
#include <uv.h>
#endif
#if defined(CAIRN_BENCH_HAVE_LIBEVENT)
#include <event2/event.h>
#endif
#if defined(CAIRN_BENCH_HAVE_ASIO)
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#endif

#include "loop_servers.hpp"
#include "partner.hpp"
#include "questions.hpp"

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
constexpr auto our_name = "cairn";

// ---- Servers under load. ----

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

struct served_cell {
    std::string name;
    std::vector<std::string> servers, roles;
    std::vector<std::vector<double>> cpu;   // by server: ns a request, one value a round
    std::vector<std::vector<double>> rate;  // requests a second

    [[nodiscard]] std::size_t at(std::string const& server) const {
        return static_cast<std::size_t>(std::find(servers.begin(), servers.end(), server) - servers.begin());
    }
    [[nodiscard]] bool has(std::string const& server) const { return at(server) != servers.size(); }
    /// The median over the rounds of a server's processor time a request, as a multiple of another's.
    [[nodiscard]] summary ratio(std::string const& server, std::string const& to) const {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < cpu.front().size(); ++i)
            ratios.push_back(cpu[at(server)][i] / cpu[at(to)][i]);
        return summarise(std::move(ratios));
    }
};

/// All servers are up at once; each gets its slice of a round, in an order that is drawn anew.
[[nodiscard]] served_cell serve(context const& ctx, protocol p, std::size_t connections) {
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

/// System calls that a server makes for a request, of those that ptrace sees.
[[nodiscard]] double system_calls(server_kind const& kind) {
    server_process server(kind, protocol::http);
    load clients(server.address(), protocol::http, 64);
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

[[nodiscard]] nlohmann::json served_table(std::vector<served_cell> const& cells) {
    nlohmann::json columns = {"load", "raw epoll, µs"}, rows = nlohmann::json::array();
    auto const& widest = *std::max_element(cells.begin(), cells.end(), [](auto const& a, auto const& b) {
        return a.servers.size() < b.servers.size();
    });
    for (auto const& name : widest.servers)
        if (name != "raw epoll") columns.push_back(name + ", x");
    for (auto const& cell : cells) {
        nlohmann::json row = {{{"text", cell.name}}, {{"text", number(summarise(cell.cpu[0]).median / 1e3)}}};
        for (auto const& name : widest.servers) {
            if (name == "raw epoll") continue;
            if (!cell.has(name)) {
                row.push_back({{"text", "-"}});
                continue;
            }
            summary const ratio = cell.ratio(name, "raw epoll");
            row.push_back({{"text", number(ratio.median)},
                           {"spread", number(ratio.low) + " to " + number(ratio.high)}});
        }
        rows.push_back(row);
    }
    return {{"id", "loop-cpu"},
            {"title", "Processor time of the server for a request, as a multiple of raw epoll's"},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}
[[nodiscard]] nlohmann::json rate_table(std::vector<served_cell> const& cells) {
    nlohmann::json columns = {"load"}, rows = nlohmann::json::array();
    auto const& widest = *std::max_element(cells.begin(), cells.end(), [](auto const& a, auto const& b) {
        return a.servers.size() < b.servers.size();
    });
    for (auto const& name : widest.servers) columns.push_back(name);
    for (auto const& cell : cells) {
        nlohmann::json row = {{{"text", cell.name}}};
        for (auto const& name : widest.servers)
            row.push_back(
                {{"text", cell.has(name) ? number(summarise(cell.rate[cell.at(name)]).median) : "-"}});
        rows.push_back(row);
    }
    return {{"id", "loop-rate"},
            {"title", "Requests a second: bound by the loader and the host, for orientation"},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}

// ---- The loop alone. ----

/// Descriptors that are always ready.
class ready_descriptors {
  public:
    explicit ready_descriptors(std::size_t n) {
        for (std::size_t i = 0; i < n; ++i) all_.emplace_back(eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
    }
    [[nodiscard]] std::vector<unique_fd> const& all() const noexcept { return all_; }

  private:
    std::vector<unique_fd> all_;
};

constexpr std::size_t ready = 1'024;

[[nodiscard]] cell_result measure_dispatch(context const& ctx) {
    progress("loop: dispatch");
    ready_descriptors const descriptors(ready);
    std::vector<contestant> all;
    {  // What the kernel takes alone.
        auto const poll = std::make_shared<unique_fd>(epoll_create1(EPOLL_CLOEXEC));
        for (auto const& one : descriptors.all()) {
            epoll_event event{EPOLLIN, {}};
            (void)epoll_ctl(poll->get(), EPOLL_CTL_ADD, one.get(), &event);
        }
        auto const events = std::make_shared<std::vector<epoll_event>>(ready);
        all.push_back({"epoll_wait", ready, [poll, events](std::size_t) {
                           int const n = epoll_wait(poll->get(), events->data(), static_cast<int>(ready), 0);
                           if (n != static_cast<int>(ready)) throw std::runtime_error("not all were ready");
                           return std::uint64_t{1};
                       }});
    }
    struct ours {
        event_loop loop;
        std::uint64_t called = 0;
        std::vector<registration> watched;
    };
    auto const mine = std::make_shared<ours>();
    for (auto const& one : descriptors.all())
        mine->watched.push_back(
            mine->loop.watch(one.get(), readiness::in, [at = mine.get()](readiness) { ++at->called; }));
    for (int i = 0; i < 20; ++i) (void)mine->loop.poll();  // until a turn takes all of them
    all.push_back({our_name, ready, [mine](std::size_t) {
                       std::uint64_t const before = mine->called;
                       (void)mine->loop.poll();
                       if (mine->called - before != ready) throw std::runtime_error("not all were called");
                       return mine->called;
                   }});
#if defined(CAIRN_BENCH_HAVE_LIBEVENT)
    struct theirs {
        event_base* base = event_base_new();
        std::uint64_t called = 0;
    };
    auto const libevent = std::make_shared<theirs>();
    for (auto const& one : descriptors.all())
        event_add(
            event_new(
                libevent->base, one.get(), EV_READ | EV_PERSIST,
                [](evutil_socket_t, short, void* at) { ++static_cast<theirs*>(at)->called; }, libevent.get()),
            nullptr);
    for (int i = 0; i < 20; ++i) event_base_loop(libevent->base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    all.push_back({"libevent", ready, [libevent](std::size_t) {
                       event_base_loop(libevent->base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
                       return libevent->called;
                   }});
#endif
    // Not libuv: it looks again, up to 48 times, when a turn has found as many events as it has room for.
    return measure(ctx, all);
}

/// Posts in a burst from another thread: the time that the poster takes for one.
[[nodiscard]] cell_result measure_post(context const& ctx) {
    progress("loop: post");
    constexpr std::size_t posts = 20'000;
    std::vector<contestant> all;
    partner other;
    auto const took = std::make_shared<double>(0);
    auto const timed = [took](auto burst) {
        auto const begin = clock::now();
        burst();
        *took = std::chrono::duration<double>(clock::now() - begin).count();
    };
    auto const add = [&](std::string name, auto run) {
        all.push_back({std::move(name),
                       posts,
                       [run](std::size_t window) {
                           run();
                           return std::uint64_t{window};
                       },
                       {},
                       [took] { return *took; }});
    };
    auto const loop = std::make_shared<event_loop>();
    add(our_name, [loop, timed, &other] {
        std::uint64_t ran = 0;
        other.together(
            [&] {
                timed([&] {
                    for (std::size_t i = 0; i < posts; ++i)
                        loop->post([&ran, at = loop.get()] {
                            if (++ran == posts) at->stop();
                        });
                });
            },
            [&] { loop->run(); });
        if (ran != posts) throw std::runtime_error("a post was lost");
    });
#if defined(CAIRN_BENCH_HAVE_LIBUV)
    // libuv has no queue: uv_async_send only wakes. What its users put beside it: a mutex and a vector.
    struct uv_posts {
        uv_loop_t loop{};
        uv_async_t async{};
        std::mutex mutex;
        std::vector<std::function<void()>> waiting, now;
    };
    auto const uv = std::make_shared<uv_posts>();
    uv_loop_init(&uv->loop);
    uv_async_init(&uv->loop, &uv->async, [](uv_async_t* async) {
        auto* const at = static_cast<uv_posts*>(async->data);
        {
            std::lock_guard const lock(at->mutex);
            at->now.swap(at->waiting);
        }
        for (auto const& one : at->now) one();
        at->now.clear();
    });
    uv->async.data = uv.get();
    add("libuv", [uv, timed, &other] {
        std::uint64_t ran = 0;
        other.together(
            [&] {
                timed([&] {
                    for (std::size_t i = 0; i < posts; ++i) {
                        {
                            std::lock_guard const lock(uv->mutex);
                            uv->waiting.emplace_back([&ran, at = uv.get()] {
                                if (++ran == posts) uv_stop(&at->loop);
                            });
                        }
                        uv_async_send(&uv->async);
                    }
                });
            },
            [&] { uv_run(&uv->loop, UV_RUN_DEFAULT); });
        if (ran != posts) throw std::runtime_error("a post was lost");
    });
#endif
#if defined(CAIRN_BENCH_HAVE_ASIO)
    namespace asio = boost::asio;
    struct asio_posts {
        asio::io_context context;
        asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
    };
    auto const io = std::make_shared<asio_posts>();
    add("asio", [io, timed, &other] {
        std::uint64_t ran = 0;
        io->context.restart();
        other.together(
            [&] {
                timed([&] {
                    for (std::size_t i = 0; i < posts; ++i)
                        asio::post(io->context, [&ran, at = io.get()] {
                            if (++ran == posts) at->context.stop();
                        });
                });
            },
            [&] { io->context.run(); });
        if (ran != posts) throw std::runtime_error("a post was lost");
    });
#endif
    return measure(ctx, all);
}

// ---- Timers. ----

constexpr std::size_t timers = 10'000;

/// When the i-th timer is due: some seconds ahead, all over the place.
[[nodiscard]] clock::duration delay_of(std::size_t i) noexcept {
    return 10s + std::chrono::microseconds(i * 7'919 % timers * 1'000);
}

/// Does one thing to each of 10,000 timers. `prepare` makes or ends the others, untimed.
struct timer_cells {
    cell_result add, refresh, cancel;
};
[[nodiscard]] timer_cells measure_timers(context const& ctx) {
    progress("loop: timers");
    std::vector<contestant> add, refresh, cancel;
    auto const join = [](std::vector<contestant>& to, std::string name, auto run, auto prepare) {
        to.push_back({std::move(name), timers,
                      [run](std::size_t window) {
                          run(window);
                          return std::uint64_t{window};
                      },
                      prepare});
    };
    struct ours {
        event_loop loop;
        std::vector<timer> all{timers};
        std::uint64_t fired = 0;
        void fill() {
            clock::time_point const now = clock::now();
            for (std::size_t i = 0; i < timers; ++i)
                if (!all[i]) all[i] = loop.call_at(now + delay_of(i), [this] { ++fired; });
        }
        void clear() {
            for (auto& one : all) (void)one.cancel();
        }
    };
    auto const mine = std::make_shared<ours>();
    join(add, our_name, [mine](std::size_t) { mine->fill(); }, [mine] { mine->clear(); });
    join(cancel, our_name, [mine](std::size_t) { mine->clear(); }, [mine] { mine->fill(); });
    join(
        refresh, our_name,
        [mine](std::size_t window) {
            // As a server does for each request: the time of the turn, and a while more.
            clock::time_point const now = clock::now() + std::chrono::milliseconds(window % 64);
            for (std::size_t i = 0; i < timers; ++i) (void)mine->all[i].rearm(now + delay_of(i) + 1s);
        },
        [mine] { mine->fill(); });
#if defined(CAIRN_BENCH_HAVE_LIBUV)
    struct uv_timers {
        uv_loop_t loop{};
        std::vector<uv_timer_t> all{timers};
        bool full = false;
        void fill(std::uint64_t later) {
            for (std::size_t i = 0; i < timers; ++i)
                uv_timer_start(
                    &all[i], [](uv_timer_t*) {},
                    static_cast<std::uint64_t>(
                        std::chrono::ceil<std::chrono::milliseconds>(delay_of(i)).count()) +
                        later,
                    0);
        }
        void clear() {
            for (auto& one : all) uv_timer_stop(&one);
        }
    };
    auto const uv = std::make_shared<uv_timers>();
    uv_loop_init(&uv->loop);
    for (auto& one : uv->all) uv_timer_init(&uv->loop, &one);
    join(add, "libuv", [uv](std::size_t) { uv->fill(0); }, [uv] { uv->clear(); });
    join(cancel, "libuv", [uv](std::size_t) { uv->clear(); }, [uv] { uv->fill(0); });
    join(
        refresh, "libuv", [uv](std::size_t window) { uv->fill(1'000 + window % 64); }, [uv] { uv->fill(0); });
#endif
#if defined(CAIRN_BENCH_HAVE_LIBEVENT)
    struct event_timers {
        event_base* base = event_base_new();
        std::vector<event*> all;
        void fill(long later) {
            for (std::size_t i = 0; i < timers; ++i) {
                auto const us =
                    std::chrono::duration_cast<std::chrono::microseconds>(delay_of(i)).count() + later;
                timeval const when{us / 1'000'000, us % 1'000'000};
                evtimer_add(all[i], &when);
            }
        }
        void clear() {
            for (auto* const one : all) evtimer_del(one);
        }
    };
    auto const libevent = std::make_shared<event_timers>();
    for (std::size_t i = 0; i < timers; ++i)
        libevent->all.push_back(evtimer_new(libevent->base, [](evutil_socket_t, short, void*) {}, nullptr));
    join(add, "libevent", [libevent](std::size_t) { libevent->fill(0); }, [libevent] { libevent->clear(); });
    join(
        cancel, "libevent", [libevent](std::size_t) { libevent->clear(); },
        [libevent] { libevent->fill(0); });
    join(
        refresh, "libevent",
        [libevent](std::size_t window) {
            libevent->fill(static_cast<long>(1'000'000 + window % 64 * 1'000));
        },
        [libevent] { libevent->fill(0); });
#endif
#if defined(CAIRN_BENCH_HAVE_ASIO)
    struct asio_timers {
        boost::asio::io_context context;
        std::vector<boost::asio::steady_timer> all;
        void fill(clock::duration later) {
            clock::time_point const now = clock::now();
            for (std::size_t i = 0; i < timers; ++i) {
                all[i].expires_at(now + delay_of(i) + later);
                all[i].async_wait([](boost::system::error_code) {});
            }
        }
        void clear() {
            for (auto& one : all) one.cancel();
        }
        /// Handlers of cancelled timers run, or their memory would be kept.
        void settle() {
            context.restart();
            (void)context.poll();
        }
    };
    auto const io = std::make_shared<asio_timers>();
    for (std::size_t i = 0; i < timers; ++i) io->all.emplace_back(io->context);
    join(add, "asio", [io](std::size_t) { io->fill(0s); }, [io] { io->clear(), io->settle(); });
    join(cancel, "asio", [io](std::size_t) { io->clear(); }, [io] { io->settle(), io->fill(0s); });
    join(
        refresh, "asio", [io](std::size_t window) { io->fill(1s + std::chrono::milliseconds(window % 64)); },
        [io] { io->settle(), io->fill(0s); });
#endif
    return {measure(ctx, add), measure(ctx, refresh), measure(ctx, cancel)};
}

struct lateness {
    double median = 0, p99 = 0;  // µs
    std::uint64_t early = 0, fired = 0;
};
/// Deadlines of 100 µs, one after the other.
[[nodiscard]] lateness measure_lateness(context const& ctx) {
    progress("loop: lateness");
    event_loop loop;
    std::vector<double> late;
    lateness result;
    for (int i = 0; i < (ctx.quick ? 200 : 2'000); ++i) {
        clock::time_point const due = clock::now() + 100us;
        bool fired = false;
        timer const one = loop.call_at(due, [&] {
            clock::time_point const now = clock::now();
            result.early += now < due;
            late.push_back(std::chrono::duration<double, std::micro>(now - due).count());
            fired = true;
        });
        while (!fired) (void)loop.run_once(1s);
    }
    result.fired = late.size();
    std::sort(late.begin(), late.end());
    result.median = late[late.size() / 2];
    result.p99 = late[late.size() * 99 / 100];
    return result;
}

/// Bytes of the heap for each of 4,096 descriptors that are watched and idle.
[[nodiscard]] double memory_of_a_watch() {
    constexpr std::size_t n = 4'096;
    ready_descriptors const descriptors(64);
    std::vector<unique_fd> copies;
    for (std::size_t i = 0; i < n; ++i) copies.emplace_back(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    struct connection {  // what a callback server has for each
        int fd;
        registration watch;
    };
    std::vector<std::unique_ptr<connection>> all;
    all.reserve(n);
    event_loop loop;
    std::size_t const before = mallinfo2().uordblks;
    for (auto const& one : copies) {
        all.push_back(std::make_unique<connection>(connection{one.get(), {}}));
        all.back()->watch =
            loop.watch(one.get(), readiness::in, [at = all.back().get()](readiness) { (void)at; });
    }
    return static_cast<double>(mallinfo2().uordblks - before) / static_cast<double>(n);
}

[[nodiscard]] nlohmann::json timer_table(timer_cells const& cells, cell_result const& dispatch,
                                         cell_result const& posted) {
    nlohmann::json rows = nlohmann::json::array();
    std::vector<std::string> names = cells.add.names();
    nlohmann::json columns = {"operation"};
    for (auto const& name : names) columns.push_back(name);
    auto const row = [&](std::string const& what, cell_result const& from) {
        nlohmann::json line = {{{"text", what}}};
        for (auto const& name : names) {
            if (!from.has(name)) {
                line.push_back({{"text", "-"}});
                continue;
            }
            summary const s = from.of(name);
            line.push_back(
                {{"text", number(s.median) + " ns"}, {"spread", number(s.low) + " to " + number(s.high)}});
        }
        rows.push_back(line);
    };
    row("an event of 1,024 ready ones, the kernel's part included", dispatch);
    row("post from another thread, in a burst", posted);
    row("a timer among 10,000: add", cells.add);
    row("refresh, to a later time", cells.refresh);
    row("cancel", cells.cancel);
    return {{"id", "loop-operations"},
            {"title", "What an operation costs"},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}

void served_figures(std::vector<served_cell> const& cells, std::vector<figure>& figures) {
    auto const at_most = [&](std::string what, std::string const& server, std::string const& to, double most,
                             auto counts) {
        std::pair<summary, std::string> worst{{}, ""};
        for (served_cell const& cell : cells) {
            if (!counts(cell.name) || !cell.has(server) || !cell.has(to)) continue;
            summary const ratio = cell.ratio(server, to);
            if (worst.second.empty() || ratio.median > worst.first.median) worst = {ratio, cell.name};
        }
        if (worst.second.empty()) return;
        figures.push_back({std::move(what), "at most " + number(most) + " x",
                           number(worst.first.median) + " x (" + number(worst.first.low) + " to " +
                               number(worst.first.high) + ") in the worst row (" + worst.second + ")",
                           worst.first.median <= most});
    };
    auto const all = [](std::string const&) { return true; };
    auto const many = [](std::string const& name) { return name.find("512") != std::string::npos; };
    auto const few = [](std::string const& name) { return name.find("512") == std::string::npos; };
    at_most("loop: the resolution, raw epoll vs itself", "raw again", "raw epoll", 1.01, all);
    at_most("loop: processor time a request vs raw epoll", our_name, "raw epoll", 1.02, all);
    at_most("… coroutines, to 256 connections", "cairn coroutines", "raw epoll", 1.05, few);
    at_most("… coroutines, 512 connections", "cairn coroutines", "raw epoll", 1.08, many);
    at_most("… vs libuv", our_name, "libuv", 0.88, all);
    at_most("… vs asio", our_name, "asio", 0.97, all);
    at_most("… coroutines vs asio's coroutines", "cairn coroutines", "asio coroutines", 0.93, all);
}

}  // namespace

answer question_loop(context& ctx) {
    answer result;
    auto& question = result.question;
    question = {{"id", "loop"},
                {"title", "What does an event loop cost?"},
                {"tables", nlohmann::json::array()},
                {"charts", nlohmann::json::array()},
                {"sentences", nlohmann::json::array()}};
    question["intro"] = {
        "Servers are processes on one core, the loader is on another, all on the loopback. All servers are "
        "up at "
        "once; in each round each one is loaded for a short slice, in an order drawn anew. What counts is "
        "the "
        "server's processor time for a request, as a multiple of raw epoll's in the same round; \"raw "
        "again\" is "
        "the same program once more, and shows what differences mean nothing.",
        "All servers read once, look for the end of the request and answer: so loops are compared, not "
        "parsers. "
        "nginx parses and logs nothing; it is here for orientation."};
    std::vector<served_cell> cells;
    if (partner::possible()) {
        for (protocol const p : {protocol::http, protocol::echo})
            for (std::size_t const connections : {std::size_t{64}, std::size_t{512}}) {
                if (ctx.quick && (p == protocol::echo || connections != 64)) continue;
                cells.push_back(serve(ctx, p, connections));
            }
        question["tables"].push_back(served_table(cells));
        question["tables"].push_back(rate_table(cells));
        served_figures(cells, result.figures);
        for (server_kind const& kind : server_kinds()) {
            if (kind.name != our_name) continue;
            progress("loop: system calls");
            double const calls = system_calls(kind);
            if (calls != 0)
                result.figures.push_back({"loop: system calls for a request, 64 connections", "at most 2.05",
                                          number(calls), calls <= 2.05});
        }
    } else {
        question["intro"].push_back("This machine has one core: no servers were loaded.");
    }
    cell_result const dispatch = measure_dispatch(ctx);
    cell_result const posted = measure_post(ctx);
    timer_cells const timing = measure_timers(ctx);
    lateness const late = measure_lateness(ctx);
    question["tables"].push_back(timer_table(timing, dispatch, posted));

    double const own = dispatch.of(our_name).median - dispatch.of("epoll_wait").median;
    result.figures.push_back({"loop: dispatch beyond epoll_wait, 1,024 ready", "at most 5.00 ns an event",
                              number(own) + " ns", own <= 5});
    auto const at_most = [&](std::string what, cell_result const& cell, double most) {
        summary const s = cell.of(our_name);
        result.figures.push_back({std::move(what), "at most " + number(most) + " ns",
                                  number(s.median) + " ns (" + number(s.low) + " to " + number(s.high) + ")",
                                  s.median <= most});
    };
    at_most("loop: post in a burst from another thread", posted, 40);
    at_most("loop: refresh of a timer among 10,000", timing.refresh, 20);
    at_most("loop: add", timing.add, 45);
    at_most("loop: cancel", timing.cancel, 25);
    result.figures.push_back(
        {"loop: lateness of a deadline of 100 µs, median; early ones", "at most 100 µs; 0",
         number(late.median) + " µs (p99 " + number(late.p99) + "); " +
             count(static_cast<double>(late.early)) + " of " + count(static_cast<double>(late.fired)),
         late.median <= 100 && late.early == 0});
    double const bytes = memory_of_a_watch();
    result.figures.push_back({"loop: memory of an idle connection, callback", "at most 160 bytes",
                              number(bytes) + " bytes", bytes <= 160});
    return result;
}

}  // namespace cairn::bench
