#include "search/error_band.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/json.h"

namespace foretrain::search {

namespace {

constexpr const char* kFile = "reports/validation/residuals.json";
constexpr const char* kSchema = "foretrain.residuals/1";
constexpr double kMost = 1e6;

struct Weighted {
  double logarithm, weight;
};

// The least value that the share q of the weight does not exceed. REQUIRES: ascending, not empty.
double quantile(const std::vector<Weighted>& values, double q) {
  double total = 0, so_far = 0;
  for (const Weighted& v : values) {
    total += v.weight;
  }
  constexpr double kRounding = 1e-9;
  for (const Weighted& v : values) {
    so_far += v.weight;
    if (so_far >= q * total - kRounding) {
      return v.logarithm;
    }
  }
  return values.back().logarithm;
}

bool are_alike(const Residuals& r, const std::string& generation) {
  return !generation.empty() && r.generation == generation;
}

}  // namespace

std::string generation_of(const std::string& device) {
  constexpr std::array<std::pair<const char*, const char*>, 12> kNames{{{"V100", "V100"},
                                                                        {"A100", "A100"},
                                                                        {"A800", "A100"},
                                                                        {"GH200", "H100"},
                                                                        {"H100", "H100"},
                                                                        {"H800", "H100"},
                                                                        {"H200", "H100"},
                                                                        {"B200", "B200"},
                                                                        {"B300", "B200"},
                                                                        {"GB200", "B200"},
                                                                        {"GB300", "B200"},
                                                                        {"MI300", "MI300"}}};
  for (const auto& [name, generation] : kNames) {
    if (device.find(name) != std::string::npos) {
      return generation;
    }
  }
  return "";
}

std::vector<Residuals> residuals_of(const reports::Validation& validation) {
  std::vector<Residuals> result;
  for (const reports::ValidationRow& row : validation.rows) {
    if (row.kind != reports::RowKind::step_time || row.skipped) {
      continue;
    }
    const std::string generation = generation_of(row.system);
    auto found = std::find_if(result.begin(), result.end(),
                              [&](const Residuals& r) { return r.group == row.group && r.generation == generation; });
    if (found == result.end()) {
      found = result.insert(result.end(), {row.group, generation, {}});
    }
    found->ratios.push_back(*row.measured / *row.predicted);
  }
  for (Residuals& r : result) {
    std::sort(r.ratios.begin(), r.ratios.end());
  }
  return result;
}

StepBand step_band(const std::vector<Residuals>& residuals, const std::string& generation) {
  CHECK(!residuals.empty(), "a band from no residual");
  const auto like =
      std::count_if(residuals.begin(), residuals.end(), [&](const Residuals& r) { return are_alike(r, generation); });
  const bool known = like >= kGroups;
  std::vector<Weighted> values;
  std::size_t runs = 0, groups = 0;
  for (const Residuals& r : residuals) {
    if (known && !are_alike(r, generation)) {
      continue;
    }
    ++groups;
    runs += r.ratios.size();
    for (const double ratio : r.ratios) {
      values.push_back({std::log(ratio), 1 / static_cast<double>(r.ratios.size())});
    }
  }
  std::sort(values.begin(), values.end(),
            [](const Weighted& a, const Weighted& b) { return a.logarithm < b.logarithm; });
  double low = quantile(values, (1 - kShare) / 2), high = quantile(values, (1 + kShare) / 2);
  const double middle = (low + high) / 2, half = (high - low) / 2 * (known ? 1 : kWider);
  low = std::exp(middle - half);
  high = std::exp(middle + half);
  std::string basis =
      fmt::format("{:.0f} % of {} published runs, in {} groups that count alike, on ", 100 * kShare, runs, groups);
  basis += known ? generation + "s and the like"
                 : fmt::format("other devices, widened {}-fold: fewer than {} groups were measured on such a device",
                               kWider, kGroups);
  return {low, high, basis};
}

void add_bands(reports::Validation& validation, const std::vector<Residuals>& published) {
  std::vector<Residuals> known = residuals_of(validation);
  const auto own = known;
  for (const Residuals& r : published) {
    if (std::none_of(own.begin(), own.end(), [&](const Residuals& o) { return o.group == r.group; })) {
      known.push_back(r);
    }
  }
  std::map<std::pair<std::string, std::string>, StepBand> bands;  // by group and generation
  for (reports::ValidationRow& row : validation.rows) {
    if (row.kind != reports::RowKind::step_time || row.skipped) {
      continue;
    }
    const std::pair<std::string, std::string> key{row.group, generation_of(row.system)};
    if (!bands.contains(key)) {
      std::vector<Residuals> others;
      std::copy_if(known.begin(), known.end(), std::back_inserter(others),
                   [&](const Residuals& r) { return r.group != row.group; });
      if (others.empty()) {
        continue;
      }
      bands[key] = step_band(others, key.second);
    }
    row.low = *row.predicted * bands[key].low;
    row.high = *row.predicted * bands[key].high;
  }
}

std::vector<Residuals> load_residuals(const std::string& path) {
  const JsonDocument document = JsonDocument::from_file(path.empty() ? catalogue_home() + "/" + kFile : path);
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  reader.word("schema", std::nullopt, {kSchema});
  reader.text("description", "");
  std::vector<Residuals> result;
  for (ObjectReader& group : reader.objects("groups")) {
    Residuals r;
    r.group = group.text("group", std::nullopt);
    r.generation = group.text("generation", std::nullopt);
    const nlohmann::json* ratios = group.raw("ratios");
    if (ratios == nullptr || !ratios->is_array() || ratios->empty()) {
      group.mistake("ratios", "expected a list of measured over forecast step times");
    } else {
      for (const nlohmann::json& ratio : *ratios) {
        if (!ratio.is_number() || !(ratio.get<double>() > 1 / kMost) || !(ratio.get<double>() < kMost)) {
          group.mistake("ratios", fmt::format("{} is not allowed; expected a number above 0", shown(ratio)));
          break;
        }
        r.ratios.push_back(ratio.get<double>());
      }
    }
    group.finish();
    result.push_back(std::move(r));
  }
  reader.finish();
  if (mistakes.empty() && result.empty()) {
    reader.mistake("groups", "expected at least one group");
  }
  mistakes.throw_if_any();
  return result;
}

std::string to_json(const std::vector<Residuals>& residuals) {
  std::string out = fmt::format(
      "{{\n  \"schema\": \"{}\",\n  \"description\": \"Measured over forecast step times of published runs, by group; "
      "scripts/validation writes this file\",\n  \"groups\": [\n",
      kSchema);
  for (std::size_t i = 0; i < residuals.size(); ++i) {
    std::string ratios;
    for (const double ratio : residuals[i].ratios) {
      ratios += fmt::format("{}{:.4g}", ratios.empty() ? "" : ", ", ratio);
    }
    out += fmt::format("    {{\"group\": {}, \"generation\": {}, \"ratios\": [{}]}}{}\n",
                       nlohmann::json(residuals[i].group).dump(), nlohmann::json(residuals[i].generation).dump(),
                       ratios, i + 1 < residuals.size() ? "," : "");
  }
  return out + "  ]\n}\n";
}

}  // namespace foretrain::search
