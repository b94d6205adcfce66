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
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../http/http_server.hpp"
#include "latency.hpp"
#include "page_html.hpp"
#include "picture.hpp"
#include "pipeline.hpp"

namespace trading {

/// What the browsers see.
class page {
  public:
    page(cairn::event_loop& loop, pipeline& books)
        : loop_(loop), books_(books), server_(loop, [this](http::request const& asked, http::responder to) {
              answer(asked, std::move(to));
          }) {
        for (std::size_t i = 0; i < books.workers().size(); ++i)
            books.workers()[i]->tops().watch([this, i] { loop_.post([this, i] { take(i); }); });
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
    /// The books are those of this day from now on.
    void begin_day(std::uint64_t day) { day_ = day; }
    /// The times of the day until now, and what there is to say of the feed, if anything.
    void show(latencies const& times, std::string_view note = {}) {
        std::ostringstream picture;
        draw(picture, "From tick to book",
             grouped(times.all.size()) + " messages of day " + std::to_string(day_), curves(times));
        picture_ = picture.str();
        std::string rows;
        for (curve const& one : curves(times)) rows += (rows.empty() ? "" : ",") + row_of(one);
        times_ = "event: times\ndata: {\"picture\":" + std::to_string(++pictures_) +
                 ",\"day\":" + std::to_string(day_) + ",\"note\":\"" + harmless(note) + "\",\"rows\":[" +
                 rows + "]}\n\n";
        send(times_);
    }

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
            watch(std::move(to));
        else
            to.send({.status = 404, .body = "not here\n"});
    }
    /// This browser gets what is known now, and from now on all that is sent.
    void watch(http::responder to) {
        std::uint64_t const number = ++opened_;
        auto const at = browsers_.emplace(number, to.begin({.body = books_text() + times_,
                                                            .type = "text/event-stream",
                                                            .headers = {{"Cache-Control", "no-store"}}}));
        // In a later turn: it may be that this one walks over them.
        at.first->second.on_gone([this, number] { loop_.post([this, number] { browsers_.erase(number); }); });
    }

    void take(std::size_t worker) {
        books_.workers()[worker]->tops().take(
            [&](top_update const& update) { latest_[update.locate] = {update, worker}; });
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
        std::vector<shown_book const*> busiest;
        for (auto const& [locate, one] : latest_) {
            messages += one.now.messages;
            busiest.push_back(&one);
        }
        std::size_t const n = std::min<std::size_t>(busiest.size(), 20);
        std::partial_sort(busiest.begin(), busiest.begin() + static_cast<std::ptrdiff_t>(n), busiest.end(),
                          [](auto const* a, auto const* b) {
                              return std::pair(b->now.messages, a->now.locate) <
                                     std::pair(a->now.messages, b->now.locate);
                          });
        std::ostringstream text;
        text << "event: books\ndata: {\"day\":" << day_ << ",\"messages\":" << messages
             << ",\"rate\":" << rate(messages) << ",\"stocks\":" << latest_.size() << ",\"books\":[";
        for (std::size_t i = 0; i < n; ++i) {
            auto const& [now, worker] = *busiest[i];
            text << (i == 0 ? "" : ",") << "[\"" << harmless(books_.router().name(now.stock)) << "\","
                 << worker << ',' << now.best.bid.price << ',' << now.best.bid.shares << ','
                 << now.best.ask.price << ',' << now.best.ask.shares << ',' << now.best.traded << ','
                 << now.orders << ',' << now.messages << ']';
        }
        text << "]}\n\n";
        return text.str();
    }
    /// Messages a second, over about a second. When a day begins, that of the day before, for that long.
    [[nodiscard]] std::uint64_t rate(std::uint64_t messages) {
        std::int64_t const took = now() - rate_since_;
        bool const new_day = messages < rate_messages_;
        if (!new_day && took < 1'000'000'000) return rate_;
        if (!new_day) rate_ = (messages - rate_messages_) * 1'000'000'000 / static_cast<std::uint64_t>(took);
        rate_messages_ = messages;
        rate_since_ += took;
        return rate_;
    }
    /// For a string of JSON. A feed may name a stock as it likes; a page must not believe it.
    [[nodiscard]] static std::string harmless(std::string_view name) {
        std::string result(name);
        for (char& letter : result)
            if (letter < ' ' || letter > '~' || letter == '"' || letter == '\\') letter = '?';
        return result;
    }
    [[nodiscard]] static std::string row_of(curve const& one) {
        std::string row = "[\"" + one.name + "\"," + std::to_string(one.times->size());
        for (double const share : percentiles)
            row += ",\"" + (one.times->size() == 0 ? "" : in_words(one.times->at(share), "µ")) + '"';
        return row + ']';
    }

    struct shown_book {
        top_update now;
        std::size_t worker = 0;
    };

    cairn::event_loop& loop_;
    pipeline& books_;
    std::unordered_map<std::uint16_t, shown_book> latest_;  // by locate
    std::map<std::uint64_t, http::stream> browsers_;
    std::uint64_t opened_ = 0;
    std::string picture_, times_;
    std::uint64_t day_ = 1, pictures_ = 0, rate_ = 0, rate_messages_ = 0;
    std::int64_t rate_since_ = now();
    http::server server_;
    cairn::timer beat_;
};

/// Replays the day again and again, so many frames a second, until SIGINT or SIGTERM.
/// @throws std::system_error for a busy port; what a thread failed of.
inline void serve(std::span<std::byte const> day, std::uint16_t port, std::size_t workers, double rate) {
    cairn::event_loop loop;
    pipeline books({.workers = workers});
    page shown(loop, books);
    std::exception_ptr failed;
    bool stopping = false;
    auto const stop = [&] {
        if (std::exchange(stopping, true)) return;
        books.stop();
        shown.stop([&loop] { loop.stop(); });
    };
    cairn::signal_watch const signals(loop, {SIGINT, SIGTERM}, [&](int) { stop(); });  // before any thread
    auto at = cairn::endpoint::loopback(port);
    try {
        at = shown.listen(at);
    } catch (std::system_error const& error) {
        throw std::system_error(error.code(), at.to_string());
    }
    std::cout << "http://" << at.to_string() << "  (Ctrl-C ends it)" << std::endl;

    // A day may be longer than the memory for its times, and who watches will not wait for its end.
    auto const two_seconds = static_cast<std::uint64_t>(std::clamp(2 * rate, 1.0, 2e6));
    auto const replay = [&](std::uint64_t number) {
        books.clear();
        loop.post([&shown, number] { shown.begin_day(number); });
        latencies times;
        run_result part;
        do {
            part = books.run_in_time(day, rate, times, {.from = part.offset, .frames = two_seconds});
            std::string const note = part.error ? "The feed ends early, at " + part.error->what : "";
            if (part.error && number == 1) std::cerr << note << '\n';
            loop.post(
                [&shown, note, now = std::make_shared<latencies const>(times)] { shown.show(*now, note); });
        } while (part.frames == two_seconds && !books.stopped());
    };
    std::thread feed([&] {
        try {
            for (std::uint64_t number = 1; !books.stopped(); ++number) {
                auto const soonest = std::chrono::steady_clock::now() + std::chrono::seconds(1);
                replay(number);
                if (!books.stopped()) std::this_thread::sleep_until(soonest);  // a day of ten frames is one
            }
        } catch (...) {
            failed = std::current_exception();
            loop.post(stop);
        }
    });
    loop.run();
    feed.join();
    if (failed != nullptr) std::rethrow_exception(failed);
    std::cout << "stopped" << std::endl;
}

}  // namespace trading
