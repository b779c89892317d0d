#include "topologies/disturbance.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <string>

#include "topologies/fabric_file.h"

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

// Two devices of {"from": 0, "to": 9}.
template <class T>
void read_ends(ObjectReader& item, T& ends) {
  ends.from = item.integer("from", std::nullopt, 0);
  ends.to = item.integer("to", std::nullopt, 0);
  if (item.has("from") && item.has("to") && ends.from == ends.to) {
    item.mistake("to", fmt::format("device {}, where it comes from; expected another device", ends.to));
  }
}

std::vector<SlowLink> read_links(ObjectReader& reader) {
  std::vector<SlowLink> result;
  for (ObjectReader& item : reader.objects("links", false)) {
    SlowLink& link = result.emplace_back();
    read_ends(item, link);
    link.link_class = item.text("class", std::nullopt);
    link.speed = item.number("speed", std::nullopt, kSlowest, kFastest);
    item.finish();
  }
  return result;
}

std::vector<BackgroundFlow> read_background(ObjectReader& reader) {
  std::vector<BackgroundFlow> result;
  for (ObjectReader& item : reader.objects("background", false)) {
    BackgroundFlow& flow = result.emplace_back();
    read_ends(item, flow);
    flow.bandwidth = link_bandwidth(item, "bandwidth", std::nullopt);
    item.finish();
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
  d.links = read_links(reader);
  d.background = read_background(reader);
  d.jitter = reader.number("jitter", 0, 0, kMostJitter);
  d.seed = reader.integer("seed", 0, 0);
  reader.finish();
  return d;
}

nlohmann::json to_json(const Disturbance& d) {
  nlohmann::json links = nlohmann::json::array(), background = nlohmann::json::array();
  for (const SlowLink& l : d.links) {
    links.push_back({{"from", l.from}, {"to", l.to}, {"class", l.link_class}, {"speed", l.speed}});
  }
  for (const BackgroundFlow& f : d.background) {
    background.push_back({{"from", f.from}, {"to", f.to}, {"bandwidth", fmt::format("{} B/s", f.bandwidth.value)}});
  }
  return {{"devices", ranges_json(d.devices)},
          {"nodes", ranges_json(d.nodes)},
          {"links", links},
          {"background", background},
          {"jitter", d.jitter},
          {"seed", d.seed}};
}

}  // namespace foretrain::topologies
