#include "plan/foreign/finish_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "plan/job.h"
#include "plan/overrides.h"

namespace foretrain::plan {

std::vector<std::string> overridden_fields(const std::vector<std::string>& overrides) {
  std::vector<std::string> fields;
  for (const std::string& text : overrides) {
    const std::string full = full_override(text);
    fields.push_back(full.substr(0, full.find('=')));
  }
  return fields;
}

namespace {

constexpr std::int64_t kUsualDevices = 8;  // of a node

std::int64_t product(const SettingReader& r) {
  std::int64_t all = 1;
  for (const char* axis : {"strategy.tp", "strategy.pp", "strategy.cp"}) {
    const std::int64_t size = r.integer_at(axis, 1);
    all = size > 0 && size <= 1'000'000 && all <= 1'000'000 ? all * size : all;
  }
  return all;
}

std::optional<std::int64_t> overridden(const std::vector<std::string>& overrides, std::string_view field) {
  std::optional<std::int64_t> value;
  for (const std::string& text : overrides) {
    const std::string full = full_override(text);
    const std::size_t equals = full.find('=');
    std::int64_t number = 0;
    const auto end = std::from_chars(full.data() + equals + 1, full.data() + full.size(), number);
    if (std::string_view(full).substr(0, equals) == field && end.ec == std::errc{} && number > 0) {
      value = number;
    }
  }
  return value;
}

}  // namespace

void set_cluster(SettingReader& r, const LaunchWords& launch, const std::vector<std::string>& overrides) {
  r.assume("cluster.system", "dgx-h100", "the file does not say what the devices are; give it with system=NAME");
  const auto given_nodes = overridden(overrides, "cluster.nodes");
  const auto given_devices = overridden(overrides, "cluster.devices_per_node");
  if (given_nodes) {
    r.set_quietly("cluster.nodes", *given_nodes);
    if (const auto per_node = given_devices ? given_devices : launch.devices_per_node) {
      r.set_quietly("cluster.devices_per_node", *per_node);
    }
    return;
  }
  auto nodes = launch.nodes;
  auto devices = given_devices ? given_devices : launch.devices_per_node;
  if (!nodes && launch.ranks) {
    nodes = std::max<std::int64_t>(1, *launch.ranks / devices.value_or(kUsualDevices));
    devices = *launch.ranks < kUsualDevices && !devices ? launch.ranks : devices;
  }
  if (nodes || devices) {
    r.set("cluster.nodes", nodes.value_or(1), launch.said_by);
    if (devices && *devices != kUsualDevices) {
      r.set("cluster.devices_per_node", *devices, launch.said_by);
    }
    return;
  }
  const std::int64_t ranks = product(r);
  if (ranks < kUsualDevices) {
    r.assume("cluster.devices_per_node", ranks, "one replica: the file does not say how many devices there are");
  }
  r.assume("cluster.nodes", (ranks + kUsualDevices - 1) / kUsualDevices,
           "one replica: the file does not say how many devices there are; give it with nodes=N");
}

std::int64_t data_parallel_size(const SettingReader& r) {
  const std::int64_t devices =
      r.integer_at("cluster.nodes", 1) * r.integer_at("cluster.devices_per_node", kUsualDevices);
  return std::max<std::int64_t>(1, devices / product(r));
}

ImportedJob finished(ImportedJob job, const std::string& origin, const std::vector<std::string>& overrides) {
  JsonDocument document = JsonDocument::from_text(job.document.dump(), fmt::format("job of {}", origin));
  std::vector<std::string> assignments;
  for (const std::string& text : overrides) {
    assignments.push_back(full_override(text));
    document.override_value(assignments.back());
  }
  const nlohmann::json& all = document.root();
  for (const char* part : {"workload", "cluster", "strategy"}) {
    job.document[part] = all.at(part);
  }
  job_from_text(all.dump(), document.origin(), {});  // for its mistakes
  return job;
}

}  // namespace foretrain::plan
