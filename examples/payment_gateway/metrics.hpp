// SPDX-License-Identifier: MIT
// Prometheus' text format: a name, what it means, its type, and lines of `name{label="value"} number`.
//
// No label here holds what a client has chosen, such as a merchant: each value of a label is a time series
// that the monitoring keeps, so that would be a stranger's way to fill its disk.
#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "histogram.hpp"

namespace gateway {

class metrics_page {
  public:
    static constexpr auto content_type = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a metric; its samples follow. @param type  counter, gauge or histogram
    void begin(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        ((text_ += "# HELP ") += name) += ' ';
        (text_ += help) += '\n';
        ((text_ += "# TYPE ") += name) += ' ';
        (text_ += type) += '\n';
    }
    template <class Number>
    void sample(Number value, std::string_view label = {}, std::string_view of = {}) {
        line("", label, of, "", value);
    }
    /// Each bucket counts all values up to its bound, so that buckets of several processes add up.
    void sample(histogram const& of, std::string_view label = {}, std::string_view value = {}) {
        std::uint64_t below = 0;
        for (std::size_t i = 0; i < of.bounds().size(); ++i)
            line("_bucket", label, value, number(of.bounds()[i]), below += of.counts()[i]);
        line("_bucket", label, value, "+Inf", of.count());
        line("_sum", label, value, "", of.sum());
        line("_count", label, value, "", of.count());
    }
    [[nodiscard]] std::string text() && { return std::move(text_); }

  private:
    [[nodiscard]] static std::string number(std::integral auto value) { return std::to_string(value); }
    /// 0.0001, where the shortest form is 1e-04: a bound is a label, and labels are compared as text.
    [[nodiscard]] static std::string number(double value) {
        char digits[400];
        auto const end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::fixed).ptr;
        return {digits, end};
    }
    // Labels are ours, and a name of a shard is letters, digits and . _ : - : nothing needs an escape.
    template <class Number>
    void line(std::string_view suffix, std::string_view label, std::string_view of, std::string_view bound,
              Number value) {
        (text_ += name_) += suffix;
        if (!label.empty() || !bound.empty()) {
            text_ += '{';
            if (!label.empty()) (((text_ += label) += "=\"") += of) += '"';
            if (!label.empty() && !bound.empty()) text_ += ',';
            if (!bound.empty()) ((text_ += "le=\"") += bound) += '"';
            text_ += '}';
        }
        ((text_ += ' ') += number(value)) += '\n';
    }

    std::string text_, name_;
};

}  // namespace gateway
