// Rows of nccl-tests: collective, bytes (the total buffer) and time_us (out of place), forecast on the environment that
// their table was measured in.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "reports/validation.h"
#include "search/row_reader.h"
#include "topologies/nccl_constants.h"
#include "topologies/network_environment.h"

namespace foretrain::search {

class CollectiveForecasts {
 public:
  // A file of network environments; "": the catalogue's. Throws InputError for what is wrong with it.
  explicit CollectiveForecasts(const std::string& constants);

  // The row beside its forecast, or why there is none. Mistakes go to the reader; the row is then not to be used.
  reports::ValidationRow forecast(const RowReader& reader) const;

 private:
  void predict(const topologies::NetworkEnvironment& e, const std::string& word, const std::string& version, int ranks,
               int nodes, reports::ValidationRow& row) const;
  const topologies::NcclConstants& chooser(const std::string& version) const;

  std::vector<topologies::NetworkEnvironment> environments_;
  mutable std::map<std::string, topologies::NcclConstants> chooser_;  // read when a row asks for that version
};

}  // namespace foretrain::search
