// SPDX-License-Identifier: MIT
// A payment: what a client sends, what is kept of it in memory, and what the client is answered.
//
//   POST /payments                       {"merchant":"bakery","currency":"EUR","amount":"12.34"}
//   Idempotency-Key: order-17
//
// The key names the payment: it is its id, what the circle of shards is asked for, and the primary key of the
// row. So "the same key again" needs no second table, and no second index: the row is there already or not.
//
// In memory a payment is 96 bytes without a pointer. Its merchant and currency are symbols: a thousand
// payments to one bakery hold its name once, and whether two are to the same one is a comparison of integers.
// But an interner never forgets, and strangers choose these names. So they are bounded: in length, in number,
// and nothing is interned that has not passed all other checks.
#pragma once

#include <cairn/concurrent_string_interner.hpp>
#include <cairn/symbol.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "money.hpp"
#include "problem.hpp"

namespace gateway {

/// From 1 to 63 of letters, digits and . _ : - , so that it needs no quoting, in a path, in JSON or in SQL.
/// Not "." or "..": clients take these out of a path before they ask.
class payment_id {
  public:
    static constexpr std::size_t most = 63;

    payment_id() noexcept = default;
    /// @throws problem
    explicit payment_id(std::string_view text) : size_(static_cast<std::uint8_t>(text.size())) {
        if (!is_valid(text))
            throw problem(400, "invalid_key", "a key has 1 to 63 letters, digits or . _ : -");
        std::memcpy(text_.data(), text.data(), text.size());
    }
    [[nodiscard]] static bool is_valid(std::string_view text) noexcept {
        return !text.empty() && text.size() <= most && text != "." && text != ".." &&
               std::all_of(text.begin(), text.end(), [](char c) {
                   return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          c == '.' || c == '_' || c == ':' || c == '-';
               });
    }
    [[nodiscard]] std::string_view view() const noexcept { return {text_.data(), size_}; }
    friend bool operator==(payment_id const& a, payment_id const& b) noexcept { return a.view() == b.view(); }

  private:
    std::array<char, most> text_{};
    std::uint8_t size_ = 0;
};

/// What a shard does with it.
enum class action : std::uint8_t { insert, erase };

struct payment {
    payment_id id;
    cairn::symbol merchant;
    cairn::symbol currency;
    std::int64_t minor = 0;      ///< the amount
    std::int64_t received = 0;   ///< milliseconds since 1970
    std::uint64_t position = 0;  ///< of its id on the circle of shards
    action what = action::insert;
};

/// Whether two requests with one key ask for the same. Not by their bytes: "12.30" is 12.3.
[[nodiscard]] inline bool same_request(payment const& a, payment const& b) noexcept {
    return a.merchant == b.merchant && a.currency == b.currency && a.minor == b.minor;
}

/// The names of merchants and currencies. Flushers look symbols up while the loop interns.
class catalog {
  public:
    static constexpr std::size_t longest_merchant = 64;

    explicit catalog(std::size_t most_merchants = 100'000) : most_(most_merchants) {
        for (currency const& one : currencies) decimals_.emplace(names_.intern(one.code), one.decimals);
    }
    /// @throws problem for what is no currency here. Interns nothing.
    [[nodiscard]] cairn::symbol currency_of(std::string_view code) const {
        auto const found = names_.find(code);
        if (!found || !decimals_.contains(*found))
            throw problem(422, "unknown_currency", "currency must be a code of ISO 4217 that is taken here");
        return *found;
    }
    [[nodiscard]] unsigned decimals(cairn::symbol currency) const { return decimals_.at(currency); }
    /// @throws problem for a new one when there are too many.
    [[nodiscard]] cairn::symbol merchant_of(std::string_view name) {
        if (auto const found = names_.find(name)) return *found;
        if (names_.size() - decimals_.size() >= most_)
            throw problem(503, "too_many_merchants", "no new merchants are taken at the moment");
        return names_.intern(name);
    }
    /// For what was taken before, and stands in a database: without that limit.
    [[nodiscard]] cairn::symbol known(std::string_view name) { return names_.intern(name); }
    [[nodiscard]] std::string_view name(cairn::symbol of) const noexcept { return names_.view(of); }
    [[nodiscard]] std::size_t size() const noexcept { return names_.size(); }

  private:
    cairn::concurrent_string_interner names_;
    std::unordered_map<cairn::symbol, unsigned> decimals_;  // filled once: then anybody may read it
    std::size_t most_;
};

/// The fields of a body as they come, token by token: no tree is built for four of them.
class payment_fields {
  public:
    /// @throws problem
    explicit payment_fields(std::string_view body) {
        (void)nlohmann::json::sax_parse(body.begin(), body.end(), this);
        if (!open_) throw problem(400, "malformed_json", "the body must be an object");
    }
    [[nodiscard]] std::string const* id() const noexcept { return has(0); }
    /// @throws problem
    [[nodiscard]] std::string const& merchant() const { return require(1); }
    [[nodiscard]] std::string const& currency() const { return require(2); }
    [[nodiscard]] std::int64_t minor(unsigned decimals) const {
        if (number_) return checked_amount(*number_);
        return parse_amount(require(3), decimals);
    }

    // ---- What the parser calls. ----
    bool null() { wrong_type(); }
    bool boolean(bool) { wrong_type(); }
    bool number_integer(std::int64_t) {
        if (!at_amount()) wrong_type();
        throw problem(422, "invalid_amount", "amount must be greater than zero");
    }
    bool number_unsigned(std::uint64_t value) {
        if (!at_amount()) wrong_type();
        number_ = value;
        return true;
    }
    bool number_float(double, std::string const& text) {
        if (!at_amount()) wrong_type();
        if (text.find_first_not_of("0123456789") == text.npos)  // an integer of more than 64 bits
            throw problem(422, "amount_too_large", "amount does not fit");
        throw problem(422, "invalid_amount",
                      "amount must be a string, or an integer of minor units: a number with a point or an "
                      "exponent is not exact");
    }
    bool string(std::string& value) {
        if (!open_) wrong_type();
        values_[at_].emplace(std::move(value));
        return true;
    }
    bool binary(nlohmann::json::binary_t&) { wrong_type(); }
    bool start_object(std::size_t) {
        if (open_) wrong_type();
        open_ = true;
        return true;
    }
    bool key(std::string const& name) {
        at_ = static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
        if (at_ == names.size())
            throw problem(400, "unknown_field", "a payment has merchant, currency, amount and perhaps id");
        // Of two values one reader takes the first, and another one the last.
        if (seen_[at_]) throw problem(400, "field_twice", std::string(names[at_]) + " is there twice");
        seen_[at_] = true;
        return true;
    }
    bool end_object() { return true; }
    bool start_array(std::size_t) { wrong_type(); }
    bool end_array() { return true; }
    bool parse_error(std::size_t at, std::string const& token, nlohmann::json::exception const& why) {
        if (why.id == 406) return number_float(0, token);  // 1e400: JSON, but no double
        throw problem(400, "malformed_json", "not JSON, from byte " + std::to_string(at) + " on");
    }

  private:
    static constexpr std::array<std::string_view, 4> names{"id", "merchant", "currency", "amount"};

    [[noreturn]] void wrong_type() const {
        if (!open_) throw problem(400, "malformed_json", "the body must be an object");
        throw problem(400, "wrong_type",
                      std::string(names[at_]) + (at_ == 3 ? " must be a string, or an integer of minor units"
                                                          : " must be a string"));
    }
    [[nodiscard]] bool at_amount() const noexcept { return open_ && at_ == 3; }
    [[nodiscard]] std::string const* has(std::size_t i) const noexcept {
        return values_[i] ? &*values_[i] : nullptr;
    }
    [[nodiscard]] std::string const& require(std::size_t i) const {
        if (!values_[i]) throw problem(400, "missing_field", std::string(names[i]) + " is missing");
        return *values_[i];
    }

    std::array<std::optional<std::string>, 4> values_;
    std::optional<std::uint64_t> number_;
    std::array<bool, 4> seen_{};
    std::size_t at_ = 0;
    bool open_ = false;
};

/// The payment that a request asks for, all of it checked. @param key  the header's; may be in quotes, may be
/// empty if the body has an id. @throws problem
[[nodiscard]] inline payment parse_payment(std::string_view body, std::string_view key, catalog& names) {
    if (key.size() > 1 && key.front() == '"' && key.back() == '"') key = key.substr(1, key.size() - 2);
    payment_fields const fields(body);
    std::string const* const id = fields.id();
    if (key.empty() && id == nullptr)
        throw problem(400, "missing_key", "a payment needs an Idempotency-Key, or an id in its body");
    if (!key.empty() && id != nullptr && key != *id)
        throw problem(400, "two_keys", "Idempotency-Key and id are both there, and differ");
    payment made;
    made.id = payment_id(key.empty() ? std::string_view(*id) : key);
    std::string const& merchant = fields.merchant();
    if (merchant.empty() || merchant.size() > catalog::longest_merchant ||
        std::any_of(merchant.begin(), merchant.end(), [](char c) { return c >= 0 && c < ' '; }))
        throw problem(422, "invalid_merchant",
                      "merchant must have 1 to 64 bytes, without control characters");
    made.currency = names.currency_of(fields.currency());
    made.minor = fields.minor(names.decimals(made.currency));
    made.merchant = names.merchant_of(merchant);  // last: what is refused leaves nothing behind
    return made;
}

/// What a client is told of a payment, now or when it asks again.
[[nodiscard]] inline std::string payment_body(payment const& of, catalog const& names) {
    std::string body;
    body.reserve(256);
    body += R"({"id":")";
    body += of.id.view();
    body += R"(","merchant":)";
    append_json(body, names.name(of.merchant));
    body += R"(,"currency":")";
    body += names.name(of.currency);
    body += R"(","amount":")";
    append_amount(body, of.minor, names.decimals(of.currency));
    body += R"(","received":)";
    body += std::to_string(of.received);
    return body += ",\"status\":\"accepted\"}\n";
}

}  // namespace gateway
