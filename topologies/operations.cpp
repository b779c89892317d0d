#include "topologies/operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/json.h"

namespace foretrain::topologies {

namespace {

constexpr const char* kFile = "topologies/operations.json";
constexpr double kMostPerDeviceHour = 1;  // a device that fails every hour trains nothing

const std::vector<std::string>& kinds() {
  static const std::vector<std::string> words{"gpu", "host", "network", "software", "unknown"};
  return words;
}

std::vector<FailureCause> read_causes(ObjectReader& reader) {
  std::vector<FailureCause> causes;
  double counted = 0;
  for (ObjectReader& r : reader.objects("components")) {
    FailureCause cause;
    cause.name = r.text("name", std::nullopt);
    cause.kind = r.word("class", std::nullopt, kinds());
    if (r.has("per_device_hour")) {
      cause.per_device_hour = r.number("per_device_hour", std::nullopt, 0, kMostPerDeviceHour);
    } else {
      cause.share = r.number("count", std::nullopt, 0, 1e9);
    }
    counted += cause.share;
    r.finish();
    causes.push_back(std::move(cause));
  }
  if (causes.empty()) {
    reader.mistake("components", "is empty; expected at least one");
  }
  for (FailureCause& cause : causes) {
    cause.share = counted > 0 ? cause.share / counted : 0;
  }
  return causes;
}

double share_of_kind(const std::vector<FailureCause>& causes, const std::string& kind) {
  double share = 0;
  for (const FailureCause& cause : causes) {
    share += cause.kind == kind ? cause.share : 0;
  }
  return share;
}

std::vector<Site> read_sites(ObjectReader& reader, const std::vector<FailureCause>& causes) {
  std::vector<Site> sites;
  for (ObjectReader& r : reader.objects("sites")) {
    Site site;
    site.name = r.text("name", std::nullopt);
    site.source = r.text("source", "");
    site.per_device_hour = r.number("per_device_hour", std::nullopt, 0, kMostPerDeviceHour);
    if (r.has("only")) {  // failures of some kinds were counted, and are so many of all
      double share = 0;
      for (const std::string& kind : r.words("only", kinds())) {
        share += share_of_kind(causes, kind);
      }
      if (share > 0) {
        site.per_device_hour /= share;
      } else {
        r.mistake("only", "no component with a count is of these classes");
      }
    }
    r.finish();
    sites.push_back(std::move(site));
  }
  if (sites.empty()) {
    reader.mistake("sites", "is empty; expected at least one");
  }
  return sites;
}

Range ordered(ObjectReader& reader, Range range) {
  if (range.high < range.low) {
    reader.mistake("high", "is below low");
  }
  reader.finish();
  return range;
}
Range read_times(ObjectReader& parent, const char* key) {
  ObjectReader r = parent.object(key);
  return ordered(r, {seconds(r.time("low", std::nullopt)), seconds(r.time("high", std::nullopt))});
}

std::vector<double> read_factors(ObjectReader& reader, const char* key) {
  std::vector<double> factors;
  const nlohmann::json* list = reader.raw(key);
  bool good = list != nullptr && list->is_array() && !list->empty();
  for (std::size_t i = 0; good && i < list->size(); ++i) {
    good = (*list)[i].is_number() && (*list)[i].get<double>() >= 0.5 && (*list)[i].get<double>() <= 10;
    if (good) {
      factors.push_back((*list)[i].get<double>());
    }
  }
  if (!good) {
    reader.mistake(key, "expected a list of numbers from 0.5 to 10, at least one");
  }
  return factors;
}

Operations read(const JsonDocument& document) {
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  reader.word("schema", std::nullopt, {"foretrain.operations/1"});
  reader.text("description", "");
  Operations o;
  ObjectReader failures = reader.object("failures");
  o.causes = read_causes(failures);
  failures.text("source", "");
  o.sites = read_sites(failures, o.causes);
  failures.finish();

  ObjectReader planned = reader.object("planned_stops");
  o.planned_per_device_hour = planned.number("per_device_hour", std::nullopt, 0, kMostPerDeviceHour);
  planned.text("source", "");
  planned.finish();

  ObjectReader restart = reader.object("restart");
  o.detect = read_times(restart, "detect");
  o.resume = read_times(restart, "resume");
  o.restart_source = restart.text("source", "");
  restart.finish();

  ObjectReader checkpoint = reader.object("checkpoint");
  o.storage_per_node = checkpoint.bandwidth("storage_per_node", std::nullopt);
  if (checkpoint.present() && o.storage_per_node.value <= 0) {
    checkpoint.mistake("storage_per_node", "is not allowed; expected more than 0 GB/s");
  }
  o.storage_source = checkpoint.text("source", "");
  checkpoint.finish();

  ObjectReader spells = reader.object("slow_spells");
  o.spells_per_device_hour = spells.number("per_device_hour", std::nullopt, 0, kMostPerDeviceHour);
  o.spell = read_times(spells, "duration");
  if (o.spell.low <= 0 && o.spells_per_device_hour > 0) {
    spells.mistake("duration", "is not allowed; expected times above 0 s");
  }
  ObjectReader slowdown = spells.object("slowdown");
  o.slowdown =
      ordered(slowdown, {slowdown.number("low", std::nullopt, 0, 1e3), slowdown.number("high", std::nullopt, 0, 1e3)});
  spells.text("source", "");
  spells.finish();

  ObjectReader jitter = reader.object("step_jitter");
  o.step_mean_over_median = read_factors(jitter, "mean_over_median");
  jitter.text("source", "");
  jitter.finish();

  ObjectReader power = reader.object("power");
  o.waiting_power = power.number("waiting", std::nullopt, 0, 1);
  o.node_power = power.number("node", std::nullopt, 0, 10);
  o.pue = power.number("pue", std::nullopt, 1, 10);
  o.power_source =
      power.text("waiting_source", "") + "; " + power.text("node_source", "") + "; " + power.text("pue_source", "");
  power.finish();
  reader.finish();
  mistakes.throw_if_any();
  return o;
}

}  // namespace

double Operations::rate(const Site& site) const {
  double sum = 0;
  for (const FailureCause& cause : causes) {
    sum += rate(site, cause);
  }
  return sum;
}

Operations load_operations(const std::string& path) {
  return read(JsonDocument::from_file(path.empty() ? catalogue_home() + "/" + kFile : path));
}

Operations operations_from_text(std::string_view text, const std::string& origin) {
  return read(JsonDocument::from_text(text, origin));
}

void set_site(Operations& operations, const std::string& name) {
  std::vector<std::string> known;
  for (const Site& site : operations.sites) {
    known.push_back(site.name);
    if (site.name == name) {
      operations.sites = std::vector<Site>{site};
      return;
    }
  }
  const std::string near = nearest_word(name, known);
  throw InputError(fmt::format("unknown site \"{}\"{}; known: {}", name,
                               near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near),
                               fmt::join(known, ", ")));
}

void set_mtbf(Operations& operations, double seconds, std::int64_t devices) {
  const double per_device_hour = 3600 / seconds / static_cast<double>(devices);
  const Site first = operations.sites.front();
  const double all = operations.rate(first);
  for (FailureCause& cause : operations.causes) {
    const double share =
        all > 0 ? operations.rate(first, cause) / all : 1.0 / static_cast<double>(operations.causes.size());
    cause.share = share;
    cause.per_device_hour.reset();
  }
  operations.sites = {{"given", "", per_device_hour}};
}

void set_failure_rates(Operations& operations, const std::string& text) {
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, comma - begin);
    begin = comma + 1;
    const std::size_t equals = part.find('=');
    const std::string word = part.substr(0, equals), value = equals == std::string::npos ? "" : part.substr(equals + 1);
    double rate = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), rate);
    if (error != std::errc{} || end != value.data() + value.size() || !(rate >= 0 && rate <= kMostPerDeviceHour)) {
      throw InputError(
          fmt::format("\"{}\" is not allowed; expected CLASS=RATE or COMPONENT=RATE with commas between, "
                      "rates in failures per device and hour, from 0 to {}: gpu=2e-5",
                      part, kMostPerDeviceHour));
    }
    const bool is_kind = std::find(kinds().begin(), kinds().end(), word) != kinds().end();
    const auto is_meant = [&](const FailureCause& c) { return is_kind ? c.kind == word : c.name == word; };
    const double all = share_of_kind(operations.causes, word);
    const auto meant = std::count_if(operations.causes.begin(), operations.causes.end(), is_meant);
    for (FailureCause& cause : operations.causes) {
      if (is_meant(cause)) {
        cause.per_device_hour = rate * (is_kind && all > 0 ? cause.share / all : 1.0 / static_cast<double>(meant));
      }
    }
    if (meant == 0) {
      std::vector<std::string> known = kinds();
      for (const FailureCause& cause : operations.causes) {
        known.push_back(cause.name);
      }
      const std::string near = nearest_word(word, known);
      throw InputError(fmt::format("unknown component \"{}\"{}; known: {}", word,
                                   near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near),
                                   fmt::join(known, ", ")));
    }
  }
}

}  // namespace foretrain::topologies
