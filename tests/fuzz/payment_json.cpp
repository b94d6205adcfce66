// SPDX-License-Identifier: MIT
// Any bytes as the body of a payment, and as its key. It is refused with a problem, or it is a payment: then
// it is within its limits, and what is answered reads back as the same payment. Bytes above 127 stand for
// parts of one, so that a random string gets beyond the first brace.
#include "payment_gateway/payment.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

constexpr std::array<std::string_view, 24> parts{"{",
                                                 "}",
                                                 R"("merchant":)",
                                                 R"("currency":)",
                                                 R"("amount":)",
                                                 R"("id":)",
                                                 R"("EUR")",
                                                 R"("JPY")",
                                                 R"("m")",
                                                 R"("12.34")",
                                                 "1234",
                                                 ",",
                                                 "\"",
                                                 "-1",
                                                 "0",
                                                 ".",
                                                 "\\u00e4",
                                                 "[",
                                                 "]",
                                                 "null",
                                                 "99999999999999999999",
                                                 R"("KWD")",
                                                 "e9",
                                                 R"({"merchant":"m","currency":"EUR","amount":)"};

std::string expand(std::uint8_t const* data, std::size_t n) {
    std::string text;
    for (std::size_t i = 0; i < n; ++i) {
        if (data[i] == 255 && i + 1 < n)
            text += static_cast<char>(data[++i]);
        else if (data[i] > 127)
            text += parts[data[i] % parts.size()];
        else
            text += static_cast<char>(data[i]);
    }
    return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t n) {
    static gateway::catalog names(1'000);
    std::string_view key = "k";
    std::string own;
    if (n != 0 && data[0] % 4 == 0) {  // a key of its own, up to the first NUL
        own.assign(reinterpret_cast<char const*>(data), n);
        key = std::string_view(own).substr(0, own.find('\0'));
    }
    std::string const body = expand(data, n);
    try {
        gateway::payment const made = gateway::parse_payment(body, key, names);
        require(made.minor > 0 && made.minor <= gateway::largest_amount);
        require(gateway::payment_id::is_valid(made.id.view()));
        auto const answer = nlohmann::json::parse(gateway::payment_body(made, names));
        nlohmann::json const again{{"merchant", answer.at("merchant")},
                                   {"currency", answer.at("currency")},
                                   {"amount", answer.at("amount")}};
        std::string const id = answer.at("id");
        gateway::payment const read = gateway::parse_payment(again.dump(), id, names);
        require(gateway::same_request(made, read) && made.id == read.id);
    } catch (gateway::problem const& p) {
        require(p.status() == 400 || p.status() == 422 || p.status() == 503);
        require(nlohmann::json::accept(gateway::error_body(p.code(), p.what())));
    }
    return 0;
}
