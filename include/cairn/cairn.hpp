// SPDX-License-Identifier: MIT
// All of cairn in one include, for trying things out. A program includes what it uses.
#pragma once

#include "bounded_loads.hpp"
#include "concurrent_object_pool.hpp"
#include "concurrent_string_interner.hpp"
#include "directory.hpp"
#include "hash.hpp"
#include "hash_ring.hpp"
#include "lookup.hpp"
#include "object_pool.hpp"
#include "placement.hpp"
#include "pool_resource.hpp"
#include "recycling_pool.hpp"
#include "router.hpp"
#include "search.hpp"
#include "shared_ring.hpp"
#include "slots.hpp"
#include "spsc_queue.hpp"
#include "string_interner.hpp"
#include "symbol.hpp"
#include "table_router.hpp"
#include "version.hpp"
