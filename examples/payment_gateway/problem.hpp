// SPDX-License-Identifier: MIT
// What a client is told when its request cannot be served: a status, a word for programs, a sentence for
// people.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace gateway {

/// Thrown where the fault is found, and caught in one place, which makes the answer of it.
class problem : public std::runtime_error {
  public:
    /// @param code  for programs: it stays when the sentence is rewritten.
    problem(unsigned status, char const* code, std::string const& message)
        : std::runtime_error(message), status_(status), code_(code) {}
    [[nodiscard]] unsigned status() const noexcept { return status_; }
    [[nodiscard]] char const* code() const noexcept { return code_; }

  private:
    unsigned status_;
    char const* code_;
};

/// Appends text as a JSON string. Precondition: it is UTF-8.
inline void append_json(std::string& to, std::string_view text) {
    to += '"';
    for (char const c : text) {
        auto const byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            to += '\\';
            to += c;
        } else if (byte < 0x20) {
            constexpr char const* digits = "0123456789abcdef";
            (to += "\\u00") += digits[byte / 16];
            to += digits[byte % 16];
        } else {
            to += c;
        }
    }
    to += '"';
}

/// {"error":{"code":"unknown_currency","message":"…"}}
[[nodiscard]] inline std::string error_body(std::string_view code, std::string_view message) {
    std::string body = R"({"error":{"code":)";
    append_json(body, code);
    body += R"(,"message":)";
    append_json(body, message);
    return body += "}}\n";
}

}  // namespace gateway
