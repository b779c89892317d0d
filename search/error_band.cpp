#include "search/error_band.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/json.h"
#include "base/kept_files.h"

namespace foretrain::search {

namespace {

constexpr const char* kFile = "reports/validation/residuals.json";
constexpr const char* kSchema = "foretrain.residuals/1";
constexpr double kMost = 1e6;

struct Weighted {
  double value, weight;
};

double total(const std::vector<Weighted>& values) {
  double sum = 0;
  for (const Weighted& v : values) {
    sum += v.weight;
  }
  return sum;
}

// The least value up to which `weight` lies; the greatest where there is less. REQUIRES: not empty.
double up_to(std::vector<Weighted> values, double weight) {
  std::sort(values.begin(), values.end(), [](const Weighted& a, const Weighted& b) { return a.value < b.value; });
  constexpr double kRounding = 1e-9;
  double so_far = 0;
  for (const Weighted& v : values) {
    so_far += v.weight;
    if (so_far >= weight - kRounding) {
      return v.value;
    }
  }
  return values.back().value;
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
    auto found = std::find_if(result.begin(), result.end(), [&](const Residuals& r) {
      return r.group == row.group && r.generation == generation && r.experts == row.experts;
    });
    if (found == result.end()) {
      found = result.insert(result.end(), {row.group, generation, row.experts, {}});
    }
    found->ratios.push_back(*row.measured / *row.predicted);
  }
  for (Residuals& r : result) {
    std::sort(r.ratios.begin(), r.ratios.end());
  }
  return result;
}

StepBand step_band(const std::vector<Residuals>& residuals, const std::string& generation, bool experts) {
  CHECK(!residuals.empty(), "a band from no residual");
  const bool peers =
      std::any_of(residuals.begin(), residuals.end(), [&](const Residuals& r) { return r.experts == experts; });
  std::map<std::string, std::size_t> runs_of;  // by group
  std::size_t runs = 0;
  bool known = false;
  for (const Residuals& r : residuals) {
    if (!peers || r.experts == experts) {
      runs_of[r.group] += r.ratios.size();
      runs += r.ratios.size();
      known = known || are_alike(r, generation);
    }
  }
  std::vector<Weighted> values;
  for (const Residuals& r : residuals) {
    for (const double ratio : r.ratios) {
      if (!peers || r.experts == experts) {
        values.push_back(
            {std::log(ratio), (are_alike(r, generation) ? kAlike : 1) / static_cast<double>(runs_of.at(r.group))});
      }
    }
  }
  const double middle = up_to(values, total(values) / 2);
  constexpr double kUnseen = 1;
  const double reach = kShare * (total(values) + kUnseen);
  for (Weighted& v : values) {
    v.value = std::abs(v.value - middle);
  }
  const double half = up_to(std::move(values), reach) * (known && peers ? 1 : kWider);
  const auto word = [](bool with) { return with ? "with" : "without"; };
  std::string basis = fmt::format("{:.0f} % of {} published runs {} experts, in {} groups that count alike",
                                  100 * kShare, runs, word(peers == experts), runs_of.size());
  if (!peers) {
    basis += fmt::format("; widened {}-fold: no model {} experts was measured", kWider, word(experts));
  } else if (!known) {
    basis += fmt::format("; widened {}-fold: none was measured on such a device", kWider);
  } else {
    basis += fmt::format(", {}s and the like {}-fold", generation, kAlike);
  }
  return {std::exp(middle - half), std::exp(middle + half), basis};
}

void add_bands(reports::Validation& validation, const std::vector<Residuals>& published) {
  std::vector<Residuals> known = residuals_of(validation);
  const auto own = known;
  for (const Residuals& r : published) {
    if (std::none_of(own.begin(), own.end(), [&](const Residuals& o) { return o.group == r.group; })) {
      known.push_back(r);
    }
  }
  std::map<std::tuple<std::string, std::string, bool>, StepBand> bands;  // by group, generation and experts
  for (reports::ValidationRow& row : validation.rows) {
    if (row.kind != reports::RowKind::step_time || row.skipped) {
      continue;
    }
    const std::tuple<std::string, std::string, bool> key{row.group, generation_of(row.system), row.experts};
    if (!bands.contains(key)) {
      std::vector<Residuals> others;
      std::copy_if(known.begin(), known.end(), std::back_inserter(others),
                   [&](const Residuals& r) { return r.group != row.group; });
      if (others.empty()) {
        continue;
      }
      bands[key] = step_band(others, std::get<1>(key), row.experts);
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
    r.experts = group.boolean("experts", false);
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

std::shared_ptr<const std::vector<Residuals>> published_residuals() {
  static KeptFiles<std::vector<Residuals>> kept;
  return kept.get(catalogue_home() + "/" + kFile, load_residuals);
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
    out += fmt::format("    {{\"group\": {}, \"generation\": {}{}, \"ratios\": [{}]}}{}\n",
                       nlohmann::json(residuals[i].group).dump(), nlohmann::json(residuals[i].generation).dump(),
                       residuals[i].experts ? ", \"experts\": true" : "", ratios, i + 1 < residuals.size() ? "," : "");
  }
  return out + "  ]\n}\n";
}

}  // namespace foretrain::search
