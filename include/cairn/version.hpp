// SPDX-License-Identifier: MIT
// The version of cairn. CMake reads these three lines, so that the number stands in one place.
#pragma once

#define CAIRN_VERSION_MAJOR 0
#define CAIRN_VERSION_MINOR 1
#define CAIRN_VERSION_PATCH 0
