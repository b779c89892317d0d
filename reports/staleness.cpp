#include "reports/staleness.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace foretrain::reports {

namespace {

struct Figures {
  std::int64_t updates = 0, most = 0;
  double mean = 0;
};

Figures figures(const plan::Staleness& updates) {
  Figures f;
  double sum = 0;
  for (const auto& [staleness, count] : updates) {
    f.updates += count;
    f.most = staleness;
    sum += static_cast<double>(staleness * count);
  }
  f.mean = sum / static_cast<double>(f.updates);
  return f;
}

}  // namespace

nlohmann::ordered_json staleness_json(const plan::Staleness& updates) {
  const Figures f = figures(updates);
  nlohmann::ordered_json histogram = nlohmann::ordered_json::object();
  for (const auto& [staleness, count] : updates) {
    histogram[std::to_string(staleness)] = count;
  }
  return {{"updates", f.updates}, {"mean", f.mean}, {"max", f.most}, {"histogram", std::move(histogram)}};
}

std::string staleness_text(const plan::Staleness& updates) {
  const Figures f = figures(updates);
  return fmt::format("{:.2f} in the mean, {} at most", f.mean, f.most);
}

}  // namespace foretrain::reports
