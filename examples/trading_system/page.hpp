// SPDX-License-Identifier: MIT
// The books as a page that is alive: server-sent events over the HTTP server of the chapters.
//
//     feed thread, workers ── tickers ──▶ loop thread: ten times a second, one text for all browsers
//
// Three things keep a slow browser from slowing anyone. The loop asks the tickers, so the workers only ever
// answer. A browser that does not keep up is left out until it has taken what it was sent: the next text has
// the newest prices anyway. And what is sent is one text for all, made once.
//
// Thread safety: the page belongs to the loop's thread; the feed has its own.
#pragma once

#include <cairn/event_loop.hpp>
#include <cairn/signal_watch.hpp>
#include <cairn/socket.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../http/http_server.hpp"
#include "latency.hpp"
#include "page_html.hpp"
#include "pipeline.hpp"

namespace trading {

/// What the browsers see.
class page {
  public:
    page(cairn::event_loop& loop, pipeline& books)
        : loop_(loop), books_(books), server_(loop, [this](http::request const& asked, http::responder to) {
              answer(asked, std::move(to));
          }) {
        for (auto const& one : books.workers())
            one->tops().watch([this, from = one.get()] { loop_.post([this, from] { take(*from); }); });
        beat_ = loop.call_every(std::chrono::milliseconds(100), [this] { beat(); });
    }

    [[nodiscard]] cairn::endpoint listen(cairn::endpoint const& at) { return server_.listen(at); }
    /// Shows it to one who is connected already.
    void adopt(cairn::unique_fd browser) { server_.adopt(std::move(browser)); }
    /// Says goodbye to all, then calls then().
    void stop(std::function<void()> then) {
        for (auto& [number, one] : browsers_) one.end();
        browsers_.clear();
        server_.stop(std::chrono::seconds(1), std::move(then));
    }
    /// A day is over.
    void show(latencies const& times, std::uint64_t day) {
        std::ostringstream picture;
        draw(
            picture, "From tick to book, day " + std::to_string(day),
            std::vector<curve>{{"all messages", &times.all}, {"with the cores at hand", &times.undisturbed}});
        picture_ = picture.str();
        times_ = "event: times\ndata: {\"day\":" + std::to_string(day) + ",\"rows\":[" +
                 row_of("all messages", times.all) + ',' +
                 row_of("with the cores at hand", times.undisturbed) + "]}\n\n";
        day_ = day + 1;
        send(times_);
    }
    [[nodiscard]] std::size_t browsers() const noexcept { return browsers_.size(); }

  private:
    void answer(http::request const& asked, http::responder to) {
        std::string_view const path = asked.path();
        if (asked.method() != "GET")
            to.send({.status = 405, .body = "GET, please\n", .headers = {{"Allow", "GET"}}});
        else if (path == "/")
            to.send({.body = std::string(page_html), .type = "text/html; charset=utf-8"});
        else if (path == "/latency.svg" && !picture_.empty())
            to.send({.body = picture_, .type = "image/svg+xml", .headers = {{"Cache-Control", "no-store"}}});
        else if (path == "/events")
            add(std::move(to));
        else
            to.send({.status = 404, .body = "not here\n"});
    }
    void add(http::responder to) {
        std::uint64_t const number = ++opened_;
        auto const at = browsers_.emplace(number, to.begin({.body = "retry: 1000\n\n" + books_text() + times_,
                                                            .type = "text/event-stream",
                                                            .headers = {{"Cache-Control", "no-store"}}}));
        // In a later turn: it may be that this one walks over them.
        at.first->second.on_gone([this, number] { loop_.post([this, number] { browsers_.erase(number); }); });
    }

    void take(worker& from) {
        from.tops().take([this](top_update const& update) { latest_[update.locate] = update; });
    }
    void beat() {
        for (auto const& one : books_.workers()) one->tops().ask();
        if (!browsers_.empty()) send(books_text());
    }
    /// To all that keep up.
    void send(std::string const& text) {
        for (auto& [number, one] : browsers_)
            if (!one.congested()) (void)one.write(text);
    }

    [[nodiscard]] std::string books_text() {
        std::uint64_t messages = 0;
        std::vector<top_update const*> busiest;
        for (auto const& [locate, update] : latest_) {
            messages += update.messages;
            busiest.push_back(&update);
        }
        std::size_t const n = std::min<std::size_t>(busiest.size(), 20);
        std::partial_sort(busiest.begin(), busiest.begin() + static_cast<std::ptrdiff_t>(n), busiest.end(),
                          [](auto const* a, auto const* b) {
                              return std::pair(b->messages, a->locate) < std::pair(a->messages, b->locate);
                          });
        std::ostringstream text;
        text << "event: books\ndata: {\"day\":" << day_ << ",\"messages\":" << messages
             << ",\"rate\":" << rate(messages) << ",\"books\":[";
        for (std::size_t i = 0; i < n; ++i) {
            top_update const& one = *busiest[i];
            text << (i == 0 ? "" : ",") << "[\"" << harmless(books_.router().name(one.stock)) << "\","
                 << one.best.bid.price << ',' << one.best.bid.shares << ',' << one.best.ask.price << ','
                 << one.best.ask.shares << ',' << one.best.traded << ',' << one.orders << ',' << one.messages
                 << ']';
        }
        text << "]}\n\n";
        return text.str();
    }
    /// Messages a second, over about a second.
    [[nodiscard]] std::uint64_t rate(std::uint64_t messages) {
        std::int64_t const at = now();
        if (messages < rate_messages_) rate_messages_ = messages;  // a new day
        if (at - rate_time_ > 1'000'000'000) {
            rate_ = (messages - rate_messages_) * 1'000'000'000 / static_cast<std::uint64_t>(at - rate_time_);
            rate_messages_ = messages;
            rate_time_ = at;
        }
        return rate_;
    }
    /// A feed may name a stock as it likes; a page must not believe it.
    [[nodiscard]] static std::string harmless(std::string_view name) {
        std::string result(name);
        for (char& letter : result)
            if (letter < ' ' || letter > '~' || letter == '"' || letter == '\\') letter = '?';
        return result;
    }
    [[nodiscard]] static std::string row_of(std::string_view what, histogram const& times) {
        std::string row = "[\"" + std::string(what) + "\",\"" + std::to_string(times.size()) + '"';
        for (double const share : percentiles) row += ",\"" + in_words(times.at(share)) + '"';
        return row + ']';
    }

    cairn::event_loop& loop_;
    pipeline& books_;
    std::unordered_map<std::uint16_t, top_update> latest_;
    std::map<std::uint64_t, http::stream> browsers_;
    std::uint64_t opened_ = 0;
    std::string picture_, times_;
    std::uint64_t day_ = 1, rate_ = 0, rate_messages_ = 0;
    std::int64_t rate_time_ = now();
    http::server server_;
    cairn::timer beat_;
};

/// Replays the day again and again, so many frames a second, until SIGINT or SIGTERM. Returns the exit code.
inline int serve(std::span<std::byte const> day, std::uint16_t port, std::size_t workers, double rate) {
    cairn::event_loop loop;
    pipeline books({.workers = workers});
    page shown(loop, books);
    std::exception_ptr failed;
    bool stopping = false;
    std::thread feed;
    auto const stop = [&] {
        if (std::exchange(stopping, true)) return;
        books.stop();
        shown.stop([&loop] { loop.stop(); });
    };
    cairn::signal_watch const signals(loop, {SIGINT, SIGTERM}, [&](int) { stop(); });  // before any thread
    std::cout << "http://" << shown.listen(cairn::endpoint::loopback(port)).to_string()
              << "  (Ctrl-C ends it)" << std::endl;

    feed = std::thread([&] {
        try {
            for (std::uint64_t n = 1; !books.stopped(); ++n) {
                books.clear();
                auto times = std::make_shared<latencies>();
                run_result const result = books.run_in_time(day, rate, *times);
                if (result.error && n == 1)
                    std::cerr << "the feed ends early: " << result.error->what << '\n';
                if (result.frames == 0) throw std::runtime_error("the feed has no message");
                loop.post([&shown, times, n] { shown.show(*times, n); });
            }
        } catch (...) {
            failed = std::current_exception();
            loop.post(stop);
        }
    });
    loop.run();
    feed.join();
    if (failed != nullptr) std::rethrow_exception(failed);
    return 0;
}

}  // namespace trading
