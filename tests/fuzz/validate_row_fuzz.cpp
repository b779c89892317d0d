// Measured rows. Whatever a line holds ends in a mistake, a reason why it is not forecast, or a job whose figures are
// numbers; read twice, it is read alike.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "search/collective_rows.h"
#include "search/row_reader.h"
#include "search/training_forecast.h"

namespace {

using namespace foretrain::search;  // NOLINT(google-build-using-namespace): a program of its own

// A step of few ranks and layers is simulated too; more would only be slower.
bool is_small(const foretrain::plan::Job& job) {
  return job.cluster.nodes * job.cluster.devices_per_node <= 64 && job.workload.model.layers <= 64 &&
         job.microbatches() <= 256;
}

void read(const std::string& line) {
  static const CollectiveForecasts collectives("");
  static const TrainingRules rules = load_training_rules("");
  foretrain::Mistakes mistakes;
  const nlohmann::json object = parse_row(line, "input:1", mistakes);
  CHECK(object.is_null() == !mistakes.empty(), "an object and a mistake, or neither");
  if (object.is_null()) {
    return;
  }
  const RowReader reader(object, "input:1", mistakes);
  if (object.contains("collective")) {
    const foretrain::reports::ValidationRow row = collectives.forecast(reader);
    CHECK(!mistakes.empty() || row.skipped || std::isfinite(row.error()), "a forecast that is no number");
    return;
  }
  const TrainingRow row = read_training_row(reader);
  if (!mistakes.empty()) {
    return;
  }
  const Reading reading = read_job(row, rules);
  CHECK(reading.job.has_value() != reading.skipped.has_value(), "a job and a reason against it, or neither");
  if (reading.job && is_small(*reading.job)) {
    const foretrain::reports::ValidationRow first = forecast_all({row}, rules).front();
    const foretrain::reports::ValidationRow again = forecast_all({row}, rules).front();
    CHECK(first.predicted == again.predicted && first.skipped == again.skipped, "two readings differ");
    CHECK(first.skipped || std::isfinite(first.error()), "an error that is no number");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    read(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const foretrain::InputError&) {
    return 0;
  }
  return 0;
}
