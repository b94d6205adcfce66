// SPDX-License-Identifier: MIT
// Any strings in any sequence of calls: both interners agree with a std::map.
#include <cairn/concurrent_string_interner.hpp>
#include <cairn/string_interner.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t n) {
    if (n < 2) return 0;
    cairn::string_interner names(data[0]);
    cairn::concurrent_string_interner shared(data[1]);
    std::map<std::string, cairn::symbol> model;
    std::map<std::string, cairn::symbol> shared_model;
    std::vector<cairn::symbol> order;
    for (std::size_t i = 2; i < n;) {
        std::uint8_t const what = data[i++];
        std::size_t const length = std::min<std::size_t>(what % 32, n - i);
        std::string text(reinterpret_cast<char const*>(data + i), length);
        i += length;
        switch (what / 32) {
            case 0:
                require(names.contains(text) == model.contains(text));
                break;
            case 1:
                text.append(what % 32 * 17, 'x');
                [[fallthrough]];  // beyond the lengths of one byte
            case 2:
            case 3:
            case 4: {
                cairn::symbol const s = names.intern(text);
                if (model.emplace(text, s).second) order.push_back(s);
                require(model.at(text) == s && names.view(s) == text &&
                        names.view(s).data()[text.size()] == '\0');
                cairn::symbol const t = shared.intern(text);
                require(shared_model.emplace(text, t).first->second == t && shared.view(t) == text);
                break;
            }
            case 5: {
                std::vector<std::string_view> const views(what % 32, text);
                std::vector<cairn::symbol> symbols(views.size());
                names.intern_n(views, symbols);
                if (!views.empty() && model.emplace(text, symbols[0]).second) order.push_back(symbols[0]);
                for (cairn::symbol const s : symbols) require(s == model.at(text));
                break;
            }
            case 6: {
                cairn::string_interner copy = names;
                require(std::equal(copy.begin(), copy.end(), order.begin(), order.end()));
                names = std::move(copy);
                break;
            }
            default:
                names.reserve(what % 32 * std::size_t{10});
                shared.reserve(what % 32 * std::size_t{10});
        }
        require(names.size() == model.size() && shared.size() == shared_model.size());
    }
    for (auto const& [text, s] : model) require(names.find(text) == s && names.view(s) == text);
    for (auto const& [text, s] : shared_model) require(shared.find(text) == s);
    require(std::equal(names.begin(), names.end(), order.begin(), order.end()));
    return 0;
}
