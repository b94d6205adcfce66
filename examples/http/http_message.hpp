// SPDX-License-Identifier: MIT
// What an HTTP/1.1 server reads and writes: requests, by Boost.Beast's parser, and answers.
//
// The parser knows the grammar: lines, fields, chunks. What a server must refuse beyond it stands here, in
// check(): a request whose end two readers could see at different places is how requests are smuggled past a
// proxy, so a Content-Length beside a Transfer-Encoding, an encoding that is not known, and a missing or a
// second Host are errors. Trailers are dropped: a field that comes after the body was checked by nobody.
// The parser limits a line, but not all of them together; so they are counted here.
// Sources: RFC 9110 and 9112 (2022).
#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace http {

/// Whether two names of fields are the same: A is a there.
[[nodiscard]] inline bool same_name(std::string_view a, std::string_view b) noexcept {
    auto const lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](char x, char y) { return lower(x) == lower(y); });
}

/// A request, whole. A value: copy it to keep it.
class request {
  public:
    [[nodiscard]] std::string_view method() const noexcept { return view(method_); }
    /// As it came, undecoded: "/pay?id=7".
    [[nodiscard]] std::string_view target() const noexcept { return view(target_); }
    /// The target up to the '?': "/pay". Without "http://host", if a client of a proxy sends it.
    [[nodiscard]] std::string_view path() const noexcept {
        std::string_view all = target();
        if (std::size_t const scheme = all.find("://"); scheme < all.find_first_of("/?")) {
            std::size_t const begin = all.find_first_of("/?", scheme + 3);
            all = begin == all.npos || all[begin] == '?' ? "/" : all.substr(begin);
        }
        return all.substr(0, all.find('?'));
    }
    /// What stands behind the '?', or nothing: "id=7".
    [[nodiscard]] std::string_view query() const noexcept {
        std::size_t const mark = target().find('?');
        return mark == std::string_view::npos ? std::string_view() : target().substr(mark + 1);
    }
    /// The value of the first field of that name, in any case, or nothing.
    [[nodiscard]] std::string_view header(std::string_view name) const noexcept {
        for (auto const& [of, value] : fields_)
            if (same_name(view(of), name)) return view(value);
        return {};
    }
    [[nodiscard]] std::size_t headers() const noexcept { return fields_.size(); }
    [[nodiscard]] std::pair<std::string_view, std::string_view> header(std::size_t i) const noexcept {
        return {view(fields_[i].first), view(fields_[i].second)};
    }
    [[nodiscard]] std::string const& body() const noexcept { return body_; }
    /// Whether it came as HTTP/1.0.
    [[nodiscard]] bool http_1_0() const noexcept { return version_ == 10; }

  private:
    friend class request_parser;
    /// A part of text_: all that is not the body lies there, one behind the other.
    struct part {
        std::uint32_t begin = 0, size = 0;
    };
    [[nodiscard]] std::string_view view(part p) const noexcept {
        return std::string_view(text_).substr(p.begin, p.size);
    }
    part add(std::string_view text) {
        part const made{static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(text.size())};
        text_ += text;
        return made;
    }

    std::string text_;
    std::string body_;
    std::vector<std::pair<part, part>> fields_;
    part method_, target_;
    int version_ = 11;
};

/// An answer, whole. A status of 200 to 599.
struct response {
    unsigned status = 200;
    std::string body{};
    std::string type = "text/plain; charset=utf-8";  ///< Content-Type; "" for none
    std::vector<std::pair<std::string, std::string>> headers{};
};

/// Reads one request. After need_more, what was not taken must come again, with more behind it.
class request_parser : public boost::beast::http::basic_parser<true> {
  public:
    using error = boost::beast::http::error;
    using error_code = boost::beast::error_code;

    request_parser(std::uint32_t header_bytes, std::uint64_t body_bytes) : most_(header_bytes) {
        header_limit(header_bytes);
        body_limit(body_bytes);
    }
    /// Takes what belongs to the request, and returns how much that was. `status` is what the client must be
    /// told if it is wrong, else 0; `more` is whether the rest of the data is an incomplete part.
    std::size_t take(std::string_view data, unsigned& status, bool& more) {
        error_code failed;
        std::size_t const n = put(boost::asio::const_buffer(data.data(), data.size()), failed);
        more = failed == error::need_more;
        status = !failed || more ? 0 : status_of(failed, data);
        if (more && data.size() - n > most_) status = is_header_done() ? 400 : 431;
        return n;
    }
    /// Once the header is there: what the client must be told if it cannot be served, else 0.
    [[nodiscard]] unsigned check() const {
        auto const encoding = request_.header("Transfer-Encoding");
        if (hosts_ > 1 || (hosts_ == 0 && !request_.http_1_0())) return 400;
        if (encodings_ != 0 && request_.http_1_0()) return 400;
        if (encodings_ > 1 || (encodings_ == 1 && !same_name(encoding, "chunked"))) return 501;
        if (!known_ || request_.method() == "CONNECT") return 501;
        auto const expected = request_.header("Expect");
        if (!expected.empty() && !same_name(expected, "100-continue")) return 417;
        return 0;
    }
    /// Whether the client waits to be told that it may send the body.
    [[nodiscard]] bool expects_continue() const {
        return !is_done() && !request_.http_1_0() && !request_.header("Expect").empty();
    }
    [[nodiscard]] request& message() noexcept { return request_; }

  private:
    using view = boost::beast::string_view;

    static unsigned status_of(error_code const& failed, std::string_view data) {
        if (failed == error::header_limit) return 431;
        if (failed == error::body_limit) return 413;
        if (failed == error::bad_version) {
            std::string_view const line = data.substr(0, data.find("\r\n"));
            std::size_t const name = line.rfind(" HTTP/");
            auto const digit = [&](std::size_t i) { return line[i] >= '0' && line[i] <= '9'; };
            if (name != line.npos && line.size() == name + 9 && digit(name + 6) && line[name + 7] == '.' &&
                digit(name + 8))
                return 505;
        }
        return 400;
    }
    void on_request_impl(boost::beast::http::verb verb, view method, view target, int version,
                         error_code&) override {
        known_ = verb != boost::beast::http::verb::unknown;
        request_.method_ = request_.add(method);
        request_.target_ = request_.add(target);
        request_.version_ = version;
    }
    void on_field_impl(boost::beast::http::field name, view text, view value, error_code& failed) override {
        if (is_header_done()) return;  // a trailer
        if (request_.text_.size() + text.size() + value.size() > most_) {
            failed = error::header_limit;
            return;
        }
        hosts_ += name == boost::beast::http::field::host;
        encodings_ += name == boost::beast::http::field::transfer_encoding;
        auto const n = request_.add(text);
        request_.fields_.emplace_back(n, request_.add(value));
    }
    void on_header_impl(error_code&) override {}
    void on_body_init_impl(boost::optional<std::uint64_t> const&, error_code&) override {}
    std::size_t on_body_impl(view body, error_code&) override {
        request_.body_.append(body.data(), body.size());
        return body.size();
    }
    void on_chunk_header_impl(std::uint64_t, view, error_code&) override {}
    std::size_t on_chunk_body_impl(std::uint64_t, view body, error_code&) override {
        request_.body_.append(body.data(), body.size());
        return body.size();
    }
    void on_finish_impl(error_code&) override {}
    void on_response_impl(int, view, int, error_code&) override {}

    request request_;
    std::size_t most_;
    int hosts_ = 0, encodings_ = 0;
    bool known_ = false;
};

/// How an answer goes on the wire.
struct framing {
    bool http_1_0 = false;
    bool head = false;     ///< it is for a HEAD: no body
    bool close = false;    ///< no other one follows
    bool chunked = false;  ///< the length is not known before
};

/// Appends the head of an answer to `to`: the status line, the fields, the empty line.
/// @throws std::invalid_argument, nothing appended, if a field could not be read as what it is.
inline void append_head(std::string& to, response const& what, framing const& how, std::string_view date) {
    if (what.status < 200 || what.status > 599)
        throw std::invalid_argument("http: a status of " + std::to_string(what.status));
    auto const breaks = [](std::string_view text) {
        return std::any_of(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n' || c == 0; });
    };
    bool bad = breaks(what.type);
    for (auto const& [name, value] : what.headers)
        bad = bad || name.empty() || name.find_first_of(": \t") != name.npos || breaks(name) || breaks(value);
    if (bad) throw std::invalid_argument("http: a field with a line break, or a name that is none");

    auto const reason =
        boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(what.status));
    to += "HTTP/1.1 ";
    to += std::to_string(what.status);
    to += ' ';
    to.append(reason.data(), reason.size());
    to += "\r\nDate: ";
    to += date;
    if (!what.type.empty() && (how.chunked || !what.body.empty())) {
        to += "\r\nContent-Type: ";
        to += what.type;
    }
    if (how.chunked) {
        // Without chunks, in HTTP/1.0, the end of the connection is the end of the answer.
        if (!how.http_1_0) to += "\r\nTransfer-Encoding: chunked";
    } else if (what.status != 204 && what.status != 304) {
        to += "\r\nContent-Length: ";
        to += std::to_string(what.body.size());
    }
    if (how.close)
        to += "\r\nConnection: close";
    else if (how.http_1_0)
        to += "\r\nConnection: keep-alive";
    for (auto const& [name, value] : what.headers) {
        to += "\r\n";
        to += name;
        to += ": ";
        to += value;
    }
    to += "\r\n\r\n";
}
/// Appends a piece of a chunked answer. An empty one would be its end, and is left out.
inline void append_chunk(std::string& to, std::string_view piece) {
    if (piece.empty()) return;
    char size[16];
    int n = 0;
    for (std::size_t left = piece.size(); left != 0; left /= 16) size[n++] = "0123456789abcdef"[left % 16];
    while (n != 0) to += size[--n];
    to += "\r\n";
    to += piece;
    to += "\r\n";
}
/// "Sun, 06 Nov 1994 08:49:37 GMT"
[[nodiscard]] inline std::string http_date(std::time_t now) {
    static constexpr char const* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr char const* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm utc{};
    ::gmtime_r(&now, &utc);
    // Not by the locale: a server's dates are English everywhere.
    auto const two = [](int n) {
        return std::string{static_cast<char>('0' + n / 10), static_cast<char>('0' + n % 10)};
    };
    return std::string(days[utc.tm_wday]) + ", " + two(utc.tm_mday) + ' ' + months[utc.tm_mon] + ' ' +
           std::to_string(utc.tm_year + 1900) + ' ' + two(utc.tm_hour) + ':' + two(utc.tm_min) + ':' +
           two(utc.tm_sec) + " GMT";
}

}  // namespace http
