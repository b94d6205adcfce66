// SPDX-License-Identifier: MIT
// A folder of a test's own, removed with all that is in it.
#pragma once

#include <string>

#include "../../examples/files/temporary_folder.hpp"

namespace support {

class scratch_folder : files::temporary_folder {
  public:
    [[nodiscard]] std::string file(std::string const& name) const { return *this / name; }
};

}  // namespace support
