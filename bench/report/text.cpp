// SPDX-License-Identifier: MIT
#include "text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace cairn::report::text {
namespace {

struct code_point {
    char32_t value;      // U+FFFD for a malformed sequence
    std::size_t length;  // bytes taken; at least 1
};

constexpr char32_t replacement = 0xfffd;

// Decodes the sequence at the start of `bytes`, which is not empty. Overlong forms, surrogates and values
// above U+10FFFF are malformed; of a malformed sequence one byte is taken.
code_point decode(std::string_view bytes) {
    auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    unsigned const lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    std::size_t const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || bytes.size() < length) return {replacement, 1};
    char32_t value = lead & (0x7fU >> length);
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0U) != 0x80) return {replacement, 1};
        value = value << 6 | (byte(i) & 0x3fU);
    }
    constexpr std::array<char32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000};
    bool const surrogate = value >= 0xd800 && value <= 0xdfff;
    if (value < smallest[length] || value > 0x10ffff || surrogate) return {replacement, 1};
    return {value, length};
}

struct range {
    char32_t first, last;
};

template <std::size_t N>
bool contains(std::array<range, N> const& ranges, char32_t c) {
    return std::ranges::any_of(ranges, [c](range r) { return c >= r.first && c <= r.last; });
}

// What a terminal or a browser would obey instead of showing.
bool steers(char32_t c) {
    static constexpr std::array<range, 7> ranges{{{0x00, 0x1f},
                                                  {0x7f, 0x9f},
                                                  {0x200e, 0x200f},
                                                  {0x2028, 0x202e},
                                                  {0x2066, 0x2069},
                                                  {0xfeff, 0xfeff},
                                                  {0xfffe, 0xffff}}};
    return contains(ranges, c);
}

// The common ranges; a rare script outside them costs an alignment, nothing else.
std::size_t columns_of(char32_t c) {
    static constexpr std::array<range, 8> none{{{0x300, 0x36f},
                                                {0x483, 0x489},
                                                {0x591, 0x5bd},
                                                {0x610, 0x61a},
                                                {0x64b, 0x65f},
                                                {0x200b, 0x200d},
                                                {0x20d0, 0x20ff},
                                                {0xfe00, 0xfe0f}}};
    static constexpr std::array<range, 10> two{{{0x1100, 0x115f},
                                                {0x2e80, 0x303e},
                                                {0x3041, 0xa4cf},
                                                {0xac00, 0xd7a3},
                                                {0xf900, 0xfaff},
                                                {0xfe30, 0xfe6f},
                                                {0xff00, 0xff60},
                                                {0xffe0, 0xffe6},
                                                {0x1f300, 0x1faff},
                                                {0x20000, 0x3fffd}}};
    return contains(none, c) ? 0 : contains(two, c) ? 2 : 1;
}

// The longest head of `clean` that fits `columns`, in bytes.
std::size_t head(std::string_view clean, std::size_t columns) {
    std::size_t bytes = 0;
    for (std::size_t used = 0; bytes < clean.size();) {
        code_point const c = decode(clean.substr(bytes));
        used += columns_of(c.value);
        if (used > columns) break;
        bytes += c.length;
    }
    return bytes;
}

}  // namespace

std::string clean(std::string_view bytes) {
    std::string result;
    result.reserve(bytes.size());
    while (!bytes.empty()) {
        code_point const c = decode(bytes);
        bool const malformed = c.value == replacement && c.length == 1;
        if (c.value == '\t' || c.value == '\n' || c.value == '\r')
            result += ' ';
        else if (malformed || steers(c.value))
            result += "\xef\xbf\xbd";
        else
            result += bytes.substr(0, c.length);
        bytes.remove_prefix(c.length);
    }
    return result;
}

std::size_t width(std::string_view clean) {
    std::size_t columns = 0;
    while (!clean.empty()) {
        code_point const c = decode(clean);
        columns += columns_of(c.value);
        clean.remove_prefix(c.length);
    }
    return columns;
}

std::string shorten(std::string_view clean, std::size_t columns) {
    if (width(clean) <= columns) return std::string(clean);
    return std::string(clean.substr(0, head(clean, columns - 1))) + "…";
}

std::string right(std::string_view clean, std::size_t columns) {
    std::size_t const used = width(clean);
    return std::string(columns > used ? columns - used : 0, ' ').append(clean);
}

std::string left(std::string_view clean, std::size_t columns) {
    std::size_t const used = width(clean);
    return std::string(clean).append(columns > used ? columns - used : 0, ' ');
}

std::vector<std::string> wrap(std::string_view clean, std::size_t columns) {
    std::vector<std::string> lines;
    std::string line;
    auto const flush = [&] {
        if (!line.empty()) lines.push_back(std::move(line));
        line.clear();
    };
    while (!clean.empty()) {
        std::size_t const end = std::min(clean.find(' '), clean.size());
        std::string_view word = clean.substr(0, end);
        clean.remove_prefix(std::min(end + 1, clean.size()));
        if (word.empty()) continue;
        if (!line.empty() && width(line) + 1 + width(word) > columns) flush();
        while (width(word) > columns) {
            // A wide character in a one-column line has nowhere to go: take it whole, or loop for ever.
            std::size_t const taken = std::max(head(word, columns), decode(word).length);
            line = word.substr(0, taken);
            word.remove_prefix(taken);
            flush();
        }
        if (word.empty()) continue;
        if (!line.empty()) line += ' ';
        line += word;
    }
    flush();
    return lines;
}

std::string html(std::string_view bytes) {
    std::string result;
    for (char const c : clean(bytes)) {
        switch (c) {
            case '&':
                result += "&amp;";
                break;
            case '<':
                result += "&lt;";
                break;
            case '>':
                result += "&gt;";
                break;
            case '"':
                result += "&quot;";
                break;
            case '\'':
                result += "&#39;";
                break;
            default:
                result += c;
        }
    }
    return result;
}

std::string grouped(std::uint64_t value) {
    std::string digits = std::to_string(value);
    for (std::size_t i = digits.size(); i > 3;) digits.insert(i -= 3, 1, ',');
    return digits;
}

std::string quantity(double value) {
    bool const whole = std::isfinite(value) && value >= 0 && value < 1e15 && value == std::floor(value);
    return whole ? grouped(static_cast<std::uint64_t>(value)) : number(value);
}

std::string number(double value) {
    if (!std::isfinite(value)) return "-";
    if (value == 0) return "0";
    double const size = std::abs(value);
    std::string const sign = value < 0 ? "-" : "";
    std::array<char, 40> buffer{};
    if (size < 1e-6 || size >= 1e15) {
        std::snprintf(buffer.data(), buffer.size(), "%.2e", size);
        return sign + buffer.data();
    }
    // Round to three significant digits first: 999.6 is 1,000 and 9.996 is 10.0.
    std::snprintf(buffer.data(), buffer.size(), "%.2e", size);
    double const rounded = std::strtod(buffer.data(), nullptr);
    int const decimals = std::max(0, 2 - static_cast<int>(std::floor(std::log10(rounded) + 1e-12)));
    if (decimals == 0) return sign + grouped(static_cast<std::uint64_t>(rounded));
    std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, rounded);
    return sign + buffer.data();
}

}  // namespace cairn::report::text
