// SPDX-License-Identifier: MIT
// The files of the page, embedded at build time by embed.cmake.
#pragma once

#include <string_view>

namespace cairn::report::assets {

[[nodiscard]] std::string_view page_html() noexcept;
[[nodiscard]] std::string_view page_css() noexcept;
[[nodiscard]] std::string_view page_js() noexcept;
[[nodiscard]] std::string_view plot_css() noexcept;
[[nodiscard]] std::string_view plot_js() noexcept;
[[nodiscard]] std::string_view plot_licence() noexcept;

}  // namespace cairn::report::assets
