// SPDX-License-Identifier: MIT
// Reads the answers of an HTTP server, strictly: what is not right is an exception.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace support {

struct http_answer {
    unsigned status = 0;
    std::string head;  // with its last line's end
    std::string body;
    std::size_t size = 0;      // of all of it, on the wire
    bool until_close = false;  // its end is the connection's

    /// The value of a field, written as the server writes it, or nothing.
    [[nodiscard]] std::string field(std::string_view name) const {
        std::size_t const at = head.find("\r\n" + std::string(name) + ": ");
        if (at == head.npos) return {};
        std::size_t const begin = at + name.size() + 4;
        return head.substr(begin, head.find("\r\n", begin) - begin);
    }
};

/// The first answer in `wire`, or nothing if it is not complete. `head`: it is for a HEAD.
[[nodiscard]] inline std::optional<http_answer> read_answer(std::string_view wire, bool head = false) {
    auto const require = [&](bool holds) {
        if (!holds) throw std::runtime_error("not an answer: " + std::string(wire.substr(0, 200)));
    };
    std::string_view const begin = "HTTP/1.1 ";
    require(begin.starts_with(wire.substr(0, begin.size())));
    std::size_t at = wire.find("\r\n\r\n");
    if (at == wire.npos) return {};
    http_answer made;
    made.head = wire.substr(0, at += 2);
    require(made.head.size() > 13 && made.head[12] == ' ');
    made.status = static_cast<unsigned>(std::strtoul(made.head.c_str() + 9, nullptr, 10));
    require(made.status >= 100 && made.status < 600);
    at += 2;
    std::string const length = made.field("Content-Length");
    bool const chunked = made.field("Transfer-Encoding") == "chunked";
    if (head || made.status < 200 || made.status == 204 || made.status == 304) {
    } else if (chunked) {
        require(length.empty());
        for (std::size_t n = 1; n != 0;) {
            std::size_t const end = wire.find("\r\n", at);
            if (end == wire.npos) return {};
            n = std::strtoul(std::string(wire.substr(at, end - at)).c_str(), nullptr, 16);
            if (wire.size() < end + 2 + n + 2) return {};
            made.body += wire.substr(end + 2, n);
            at = end + 2 + n;
            require(wire.substr(at, 2) == "\r\n");
            at += 2;
        }
    } else if (!length.empty()) {
        std::size_t const n = std::strtoul(length.c_str(), nullptr, 10);
        if (wire.size() < at + n) return {};
        made.body = wire.substr(at, n);
        at += n;
    } else {
        require(made.field("Connection") == "close");
        made.until_close = true;
        made.body = wire.substr(at);
        at = wire.size();
    }
    made.size = at;
    return made;
}

}  // namespace support
