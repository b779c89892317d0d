#include "topologies/disturbance.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <string>

namespace foretrain::topologies {
namespace {

constexpr double kSlowest = 0.001, kFastest = 1000, kMostJitter = 0.25;

// "7" or "0-7".
bool parse(const std::string& text, SpeedRange& range) {
  const char* end = text.data() + text.size();
  std::from_chars_result read = std::from_chars(text.data(), end, range.first);
  range.last = range.first;
  if (read.ec == std::errc{} && read.ptr != end && *read.ptr == '-') {
    read = std::from_chars(read.ptr + 1, end, range.last);
  }
  return read.ec == std::errc{} && read.ptr == end && 0 <= range.first && range.first <= range.last;
}

std::vector<SpeedRange> read_ranges(ObjectReader& reader, const std::string& key) {
  std::vector<SpeedRange> result;
  for (ObjectReader& item : reader.objects(key, false)) {
    SpeedRange range;
    const std::string text = item.text("range", std::nullopt);
    if (!text.empty() && !parse(text, range)) {
      item.mistake("range", fmt::format("\"{}\"; expected a number or first-last, as \"3\" or \"0-7\"", text));
    }
    range.speed = item.number("speed", std::nullopt, kSlowest, kFastest);
    item.finish();
    result.push_back(range);
  }
  return result;
}

nlohmann::json ranges_json(const std::vector<SpeedRange>& ranges) {
  nlohmann::json result = nlohmann::json::array();
  for (const SpeedRange& r : ranges) {
    result.push_back({{"range", r.first == r.last ? fmt::format("{}", r.first) : fmt::format("{}-{}", r.first, r.last)},
                      {"speed", r.speed}});
  }
  return result;
}

}  // namespace

double speed_of(const std::vector<SpeedRange>& ranges, std::int64_t number) {
  double speed = 1;
  for (const SpeedRange& r : ranges) {
    speed *= r.first <= number && number <= r.last ? r.speed : 1;
  }
  return speed;
}

Disturbance read_disturbance(ObjectReader& reader) {
  Disturbance d;
  d.devices = read_ranges(reader, "devices");
  d.nodes = read_ranges(reader, "nodes");
  d.jitter = reader.number("jitter", 0, 0, kMostJitter);
  d.seed = reader.integer("seed", 0, 0);
  reader.finish();
  return d;
}

nlohmann::json to_json(const Disturbance& d) {
  return {{"devices", ranges_json(d.devices)}, {"nodes", ranges_json(d.nodes)}, {"jitter", d.jitter}, {"seed", d.seed}};
}

}  // namespace foretrain::topologies
