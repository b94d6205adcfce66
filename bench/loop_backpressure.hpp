// SPDX-License-Identifier: MIT
// What does a server hold for a client that asks without end and reads nothing?
#pragma once

#include "questions.hpp"

namespace cairn::bench {

/// Adds a table and a figure to what the loop's question says.
void measure_backpressure(answer& result);

}  // namespace cairn::bench
