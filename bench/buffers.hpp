// SPDX-License-Identifier: MIT
// The parts of the question about buffers. Each measures one thing, and adds its tables, charts and figures.
#pragma once

#include "questions.hpp"

namespace cairn::bench {

void buffers_flat_out(context& ctx, answer& result);  // a sink that costs nothing
void buffers_paced(context& ctx, answer& result);     // 100,000 events a second into SQLite
void buffers_gain(context& ctx, answer& result);      // batches against single rows; linger
void buffers_stall(context& ctx, answer& result);     // the stall law, memory
void buffers_failing(context& ctx, answer& result);   // a sink that fails
void buffers_killed(context& ctx, answer& result);    // kill -9, with SQLite

}  // namespace cairn::bench
