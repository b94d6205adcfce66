// SPDX-License-Identifier: MIT
// What machine and build a comparison ran on, so that a table can be compared with another.
#pragma once

#include <nlohmann/json.hpp>

namespace cairn::bench {

/// {"cpu", "cores", "mhz", "l1d_kib", "l2_kib", "l3_kib", "os"}; what the system does not tell is 0 or
/// "unknown".
[[nodiscard]] nlohmann::json machine();

/// {"compiler", "flags", "type"}.
[[nodiscard]] nlohmann::json build();

/// The time now, as 2026-01-31T12:00:00Z.
[[nodiscard]] std::string now();

}  // namespace cairn::bench
