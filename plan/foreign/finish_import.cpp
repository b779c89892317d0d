#include "plan/foreign/finish_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "plan/job.h"
#include "plan/overrides.h"
#include "topologies/cluster_file.h"

namespace foretrain::plan {

std::vector<std::string> overridden_fields(const std::vector<std::string>& overrides) {
  std::vector<std::string> fields;
  for (const std::string& text : overrides) {
    fields.push_back(full_override(text));
  }
  return fields;
}

namespace {

constexpr std::int64_t kMostRanks = 1'000'000;

// Of a node; of a system that cannot be read 8: the job's reader says what is wrong with it.
std::int64_t usual_devices(const SettingReader& r) {
  const nlohmann::json system = r.value("cluster.system");
  try {
    return system.is_string() ? topologies::load_system(system.get<std::string>()).devices_per_node : 8;
  } catch (const InputError&) {
    return 8;
  }
}

std::int64_t product(const SettingReader& r) {
  std::int64_t all = 1;
  for (const char* axis : {"strategy.tp", "strategy.pp", "strategy.cp"}) {
    const std::int64_t size = r.integer_at(axis, 1);
    all = size > 0 && size <= kMostRanks && all <= kMostRanks ? all * size : all;
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

// A job of ours that is all on one line: its line says nothing of the file.
void check(const std::string& job, const std::string& origin) {
  try {
    job_from_text(job, origin, {});
  } catch (const InputError& error) {
    std::string mistakes = error.what();
    const std::string place = origin + ":1: ";
    for (std::size_t at = 0; (at = mistakes.find(place, at)) != std::string::npos;) {
      mistakes.replace(at, place.size(), origin + ": ");
    }
    throw InputError(mistakes);
  }
}

}  // namespace

void set_cluster(SettingReader& r, const LaunchWords& launch, const std::vector<std::string>& overrides) {
  r.assume("cluster.system", "dgx-h100", "the file does not say what the devices are; give it with system=NAME");
  const std::int64_t usual = usual_devices(r);
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
    nodes = std::max<std::int64_t>(1, *launch.ranks / devices.value_or(usual));
    devices = *launch.ranks < usual && !devices ? launch.ranks : devices;
  }
  const std::int64_t ranks = product(r), per_node = devices.value_or(usual);
  if (nodes && *nodes * per_node < ranks) {
    r.warn_of_file(
        fmt::format("{} x {} devices are fewer than the {} ranks of one replica: as many nodes as it needs are "
                    "assumed; give nodes=N",
                    *nodes, per_node, ranks));
    nodes = (ranks + per_node - 1) / per_node;
  }
  if (nodes || devices) {
    r.set_as("cluster.nodes", nodes.value_or(1), launch.said_by);
    if (devices && *devices != usual) {
      r.set_as("cluster.devices_per_node", *devices, launch.said_by);
    }
    return;
  }
  if (ranks < usual) {
    r.assume("cluster.devices_per_node", ranks, "one replica: the file does not say how many devices there are");
  }
  r.assume("cluster.nodes", (ranks + usual - 1) / usual,
           "one replica: the file does not say how many devices there are; give it with nodes=N");
}

std::int64_t data_parallel_size(const SettingReader& r) {
  const auto most = [&](std::string_view path, std::int64_t fallback) {
    return std::clamp<std::int64_t>(r.integer_at(path, fallback), 1, kMostRanks);
  };
  if (!r.value("strategy.dp").is_null()) {
    return most("strategy.dp", 1);
  }
  const std::int64_t devices = most("cluster.nodes", 1) * most("cluster.devices_per_node", usual_devices(r));
  return std::clamp<std::int64_t>(devices / product(r), 1, kMostRanks);
}

ImportedJob finished(ImportedJob job, const std::string& origin, const std::vector<std::string>& overrides) {
  JsonDocument document = JsonDocument::from_text(job.document, fmt::format("job of {}", origin));
  for (const std::string& text : overrides) {
    document.override_value(full_override(text));
  }
  auto ordered = nlohmann::ordered_json::parse(job.document);
  for (const char* part : {"workload", "cluster", "strategy"}) {
    ordered[part] = document.root().at(part);
  }
  job.document = ordered.dump(2) + "\n";
  check(ordered.dump(), document.origin());
  return job;
}

}  // namespace foretrain::plan
