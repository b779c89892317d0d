// `foretrain list topologies`: every system's network in figures, and pictures of one.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "reports/table.h"

namespace foretrain::cli {

struct TopologyOptions {
  std::string name;        // of one system, or a path; "" lists all
  std::int64_t nodes = 0;  // 0: 32 in lists (1 of this machine), and as few as show the fabric in pictures
  std::string dot, svg;    // files to draw the named one to
};

// Fills `items` and `table`, and `note` with the lines below it: the links of one system by class. Writes the pictures.
// Throws InputError for a system that is not known, or for a picture of none.
void list_topologies(const TopologyOptions& options, nlohmann::ordered_json& items, reports::Table& table,
                     std::string& note);

}  // namespace foretrain::cli
