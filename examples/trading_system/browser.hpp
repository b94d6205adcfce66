// SPDX-License-Identifier: MIT
// A browser, as far as the chapter needs one: it asks a page for its events.
#pragma once

#include <cairn/event_loop.hpp>
#include <cairn/socket.hpp>

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "page.hpp"

namespace trading {

/// A browser that asks for the events, and reads them, or not.
class browser {
  public:
    browser(cairn::event_loop& loop, page& from, bool reads) {
        auto [own, other] = cairn::socket_pair();
        own_ = std::move(own);
        from.adopt(std::move(other));
        std::string_view const request = "GET /events HTTP/1.1\r\nHost: here\r\n\r\n";
        std::error_code error;
        (void)cairn::send(own_.get(), std::as_bytes(std::span(request)), error);
        if (!reads) return;
        watch_ = loop.watch(own_.get(), cairn::readiness::in, [this](cairn::readiness) { read(); });
    }
    /// How many events of this kind have come.
    [[nodiscard]] std::size_t events(std::string_view kind) const {
        std::size_t n = 0;
        for (std::size_t at = 0; (at = got_.find(kind, at)) != got_.npos; at += kind.size()) ++n;
        return n;
    }

  private:
    void read() {
        std::array<std::byte, 4'096> some;
        std::error_code error;
        std::size_t const n = cairn::receive(own_.get(), some, error);
        got_.append(reinterpret_cast<char const*>(some.data()), n);
        if (n == 0) watch_.reset();
    }
    cairn::unique_fd own_;
    cairn::registration watch_;
    std::string got_;
};

}  // namespace trading
