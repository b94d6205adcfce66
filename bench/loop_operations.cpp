// SPDX-License-Identifier: MIT
#include "loop_operations.hpp"

#include <cairn/async_fd.hpp>
#include <cairn/event_loop.hpp>
#include <cairn/task.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <malloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

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

#include "partner.hpp"

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
constexpr auto our_name = "cairn";

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

constexpr std::size_t timers = 10'000;

/// When the i-th timer is due: some seconds ahead, all over the place.
[[nodiscard]] clock::duration delay_of(std::size_t i) noexcept {
    return 10s + std::chrono::microseconds(i * 7'919 % timers * 1'000);
}

}  // namespace

cell_result measure_dispatch(context const& ctx) {
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
        std::uint64_t called = 0, called_at_first = 0;
        clock::time_point first, last;
        std::vector<registration> watched;
    };
    auto const mine = std::make_shared<ours>();
    auto const watch = [at = mine.get()](unique_fd const& one, auto handler) {
        at->watched.push_back(at->loop.watch(one.get(), readiness::in, handler));
    };
    for (auto const& one : descriptors.all()) watch(one, [at = mine.get()](readiness) { ++at->called; });
    for (int i = 0; i < 20; ++i) (void)mine->loop.poll();  // until a turn takes all of them
    // Once more, so that the first is the first of a batch, and stays it. It and the last look at the clock.
    mine->watched.clear();
    for (auto const& one : descriptors.all()) {
        if (&one == &descriptors.all().front())
            watch(one, [at = mine.get()](readiness) {
                at->called_at_first = at->called++;
                at->first = clock::now();
            });
        else if (&one == &descriptors.all().back())
            watch(one, [at = mine.get()](readiness) {
                at->last = clock::now();
                ++at->called;
            });
        else
            watch(one, [at = mine.get()](readiness) { ++at->called; });
    }
    all.push_back({our_name, ready, [mine](std::size_t) {
                       std::uint64_t const before = mine->called;
                       (void)mine->loop.poll();
                       if (mine->called - before != ready) throw std::runtime_error("not all were called");
                       return mine->called;
                   }});
    all.push_back({dispatch_alone,
                   ready - 1,
                   [mine](std::size_t) {
                       (void)mine->loop.poll();
                       if (mine->called - mine->called_at_first != ready)
                           throw std::runtime_error("the first was not the first, or the last not the last");
                       return mine->called;
                   },
                   {},
                   [mine] { return std::chrono::duration<double>(mine->last - mine->first).count(); }});
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

cell_result measure_post(context const& ctx) {
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

timer_cells measure_timers(context const& ctx) {
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

lateness measure_lateness(context const& ctx, unsigned long slack) {
    progress("loop: lateness");
    (void)prctl(PR_SET_TIMERSLACK, slack);
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
    (void)prctl(PR_SET_TIMERSLACK, usual_slack);
    return result;
}

double memory_of_a_watch() {
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

namespace {

task<> serve_echo(async_fd peer, std::array<std::byte, 64>& data) {
    while (std::size_t const got = co_await peer.read_some(data))
        co_await peer.write_all(std::span(data).first(got));
}

}  // namespace

double memory_of_a_coroutine() {
    constexpr std::size_t n = 4'096;
    // Connections whose other ends wait to be accepted: so all descriptors are the server's.
    unique_fd const listener = listen(endpoint::local(std::string_view("\0cairn-compare", 14)));
    std::vector<unique_fd> connections;
    for (std::size_t i = 0; i < n; ++i) connections.push_back(connect(endpoint::of(listener.get())));
    event_loop loop;
    std::array<std::byte, 64> buffer;
    scope all;
    std::size_t const before = mallinfo2().uordblks;
    for (auto& one : connections) all.spawn(serve_echo(async_fd(loop, std::move(one)), buffer));
    for (int i = 0; i < 20; ++i) (void)loop.poll();
    if (all.size() != n) throw std::runtime_error("a connection has ended");
    return static_cast<double>(mallinfo2().uordblks - before) / static_cast<double>(n);
}

}  // namespace cairn::bench
