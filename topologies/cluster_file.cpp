#include "topologies/cluster_file.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/parallel.h"
#include "topologies/exact_text.h"
#include "topologies/fabric_file.h"
#include "topologies/this_machine.h"

namespace foretrain::topologies {

namespace {

constexpr std::int64_t kMaxNodes = 1'000'000;
constexpr std::int64_t kMaxHosts = 1'000;
constexpr std::int64_t kMaxDevices = 100'000;
constexpr Dtype kComputeTypes[] = {Dtype::fp64, Dtype::fp32, Dtype::tf32,  Dtype::fp16,
                                   Dtype::bf16, Dtype::fp8,  Dtype::mxfp8, Dtype::nvfp4};

// What `read` reads at `key`, which must be more than zero.
template <class Read>
auto positive(ObjectReader& reader, const std::string& key, Read read) {
  const std::size_t before = reader.mistakes().count();
  auto value = read();
  if (value.value > 0) {
    return value;
  }
  if (reader.mistakes().count() == before && reader.has(key)) {
    reader.mistake(key, "must be more than zero");
  }
  return decltype(value){1};
}

Bytes memory(ObjectReader& reader, const std::string& key, std::optional<Bytes> fallback) {
  return positive(reader, key, [&] { return reader.bytes(key, fallback); });
}

Bandwidth bandwidth(ObjectReader& reader, const std::string& key) {
  return positive(reader, key, [&] { return reader.bandwidth(key, std::nullopt); });
}

// "source": where the figures beside it come from.
void take_source(ObjectReader& reader, const std::string& what, std::vector<std::string>& sources) {
  if (const std::string source = reader.text("source", ""); !source.empty()) {
    sources.push_back(what + ": " + source);
  }
}

// Where the value at `key` names a file, reads that file's root, else the object itself; `read` gets the reader.
template <class Result, class Read>
Result read_part(ObjectReader& reader, const std::string& key, const char* folder, const char* kind, Read read) {
  const nlohmann::json* value = reader.raw(key);
  if (value == nullptr || !value->is_string()) {
    ObjectReader object = reader.object(key);
    return object.present() ? read(object) : Result{};
  }
  const auto word = value->get<std::string>();
  try {
    const std::string path = is_catalogue_name(word) ? catalogue_path(folder, kind, word) : reader.file_path(key, word);
    const JsonDocument document = JsonDocument::from_file(path);
    ObjectReader root(document, reader.mistakes());
    return root.present() ? read(root) : Result{};
  } catch (const InputError& e) {
    reader.mistake(key, e.what());
    return {};
  }
}

struct DevicePart {
  Device device;
  std::vector<std::string> sources;
};

// On this machine the name and the memory are the machine's own unless given.
// `is_cores`: those of this machine.
DevicePart read_device(ObjectReader& reader, bool is_cores) {
  DevicePart part;
  Device& d = part.device;
  reader.integer("version", 1, 1, 1);
  reader.text("description", "");
  const auto own_memory = is_cores ? std::optional(available_memory()) : std::nullopt;
  d.name = reader.text("name", is_cores ? std::optional(processor_name()) : std::nullopt);
  d.memory = memory(reader, "memory", own_memory);
  d.memory_bandwidth = bandwidth(reader, "memory_bandwidth");
  ObjectReader peak = reader.object("peak");
  for (const Dtype dtype : kComputeTypes) {
    const std::string key(name(dtype));
    if (peak.has(key)) {
      d.peak[dtype] = positive(peak, key, [&] { return peak.flop_rate(key, std::nullopt); });
    }
  }
  if (peak.present() && d.peak.empty()) {
    peak.mistake("", "names no rate; expected at least one, such as \"bf16\": \"312 TFLOP/s\"");
  }
  peak.finish();
  d.multiprocessors = static_cast<int>(reader.integer("multiprocessors", 0, 0, 100'000));
  d.l2 = reader.bytes("l2", Bytes{});
  d.tdp_watts = reader.number("tdp_watts", 0.0, 0, 1e6);
  d.exclusive_streams = reader.boolean("exclusive_streams", is_cores);
  take_source(reader, d.name, part.sources);
  reader.finish();
  return part;
}

Link read_link(ObjectReader reader, const std::string& what, std::vector<std::string>& sources) {
  Link link;
  link.bandwidth = link_bandwidth(reader, "bandwidth", std::nullopt);
  link.latency = reader.time("latency", std::nullopt);
  take_source(reader, what, sources);
  reader.finish();
  return link;
}

HostPart read_host(ObjectReader reader, const std::string& what, std::vector<std::string>& sources) {
  HostPart host;
  host.link = link_bandwidth(reader, "link", std::nullopt);
  host.memory = link_bandwidth(reader, "memory", std::nullopt);
  take_source(reader, what, sources);
  reader.finish();
  return host;
}

// In the system, or beside it.
Storage read_storage(ObjectReader reader, const std::string& what, std::vector<std::string>& sources) {
  Storage storage;
  storage.bandwidth = link_bandwidth(reader, "bandwidth", std::nullopt);
  storage.latency = reader.time("latency", Time{});
  storage.is_shared = reader.boolean("shared", false);
  take_source(reader, what, sources);
  reader.finish();
  return storage;
}

// An absent profile of the machine itself is no mistake: nobody has calibrated yet.
std::string profile_path(ObjectReader& reader, const Cluster& c) {
  namespace fs = std::filesystem;
  std::error_code error;
  const std::string word = reader.text("profile", "");
  if (word.empty()) {
    const std::string own = c.is_gpu ? this_gpu_profile_path() : c.this_machine ? this_machine_profile_path() : "";
    return !own.empty() && fs::exists(own, error) ? fs::absolute(own).string() : "";
  }
  if (!is_catalogue_name(word)) {
    const std::string path = reader.file_path("profile", word);
    if (!fs::is_regular_file(path, error)) {
      reader.mistake("profile", fmt::format("{}: no such file", path));
    }
    return path;
  }
  try {
    return catalogue_path(kProfileFolder, "profile", word);
  } catch (const InputError& e) {
    reader.mistake("profile", e.what());
    return "";
  }
}

Cluster read_system(ObjectReader& reader) {
  Cluster c;
  reader.integer("version", 1, 1, 1);
  c.name = reader.text("name", "inline");
  c.description = reader.text("description", "");
  c.this_machine = reader.boolean("this_machine", false);
  c.is_gpu = reader.boolean("gpu", false);
  if (c.is_gpu && !c.this_machine) {
    reader.mistake("gpu", "is for this_machine: GPUs elsewhere are devices of a node");
  }
  const bool is_cores = c.this_machine && !c.is_gpu;
  if (is_cores) {
    c.shared_memory = memory(reader, "shared_memory", available_memory());
  }
  DevicePart part = read_part<DevicePart>(reader, "device", kDeviceFolder, "device",
                                          [&](ObjectReader& object) { return read_device(object, is_cores); });
  c.device = std::move(part.device);
  c.sources = std::move(part.sources);
  c.devices_per_node = static_cast<int>(reader.integer("devices_per_node",
                                                       c.is_gpu   ? std::optional<std::int64_t>(1)
                                                       : is_cores ? std::optional<std::int64_t>(available_cores())
                                                                  : std::nullopt,
                                                       1, kMaxDevices));
  c.intra = read_link(reader.object("intra"), c.name + " intra", c.sources);
  if (!c.this_machine || reader.has("inter")) {
    c.inter = read_link(reader.object("inter"), c.name + " inter", c.sources);
  }
  if (reader.has("host")) {
    c.host = read_host(reader.object("host"), c.name + " host", c.sources);
  }
  if (reader.has("storage")) {
    c.storage = read_storage(reader.object("storage"), c.name + " storage", c.sources);
  }
  ObjectReader fabric = reader.object("fabric", false);
  take_source(fabric, c.name + " fabric", c.sources);
  c.fabric = read_fabric(fabric, c);
  c.profile_path = profile_path(reader, c);
  take_source(reader, c.name, c.sources);
  for (std::string& source : reader.texts("sources")) {
    c.sources.push_back(std::move(source));
  }
  reader.finish();
  return c;
}

// Names stand on a launcher's command line.
bool is_host_name(const std::string& name) {
  constexpr const char* kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
  return !name.empty() && name.front() != '-' && name.find_first_not_of(kLetters) == std::string::npos;
}

NamedHosts read_named_hosts(ObjectReader reader) {
  NamedHosts hosts;
  const auto read_role = [&](const char* role, std::vector<std::string>& names) {
    for (const std::string& name : reader.texts(role)) {
      if (!is_host_name(name)) {
        reader.mistake(role,
                       fmt::format("\"{}\" is no name of a host; expected letters, digits, '.', '-' and '_'", name));
      } else if (const auto all = hosts.all(); std::find(all.begin(), all.end(), name) != all.end()) {
        reader.mistake(role, fmt::format("\"{}\" is named twice; a host has one role", name));
      } else {
        names.push_back(name);
      }
    }
  };
  read_role("worker", hosts.worker);
  read_role("server", hosts.server);
  read_role("loader", hosts.loader);
  reader.finish();
  if (hosts.worker.empty()) {
    reader.mistake("worker", "names no host; expected at least one");
  }
  return hosts;
}

// The link of a host may stand beside the number of hosts, or in the system.
void read_hosts(ObjectReader& reader, std::int64_t most, Cluster& c) {
  c.cores_per_host = c.devices_per_node;
  if (const ObjectReader hosts = reader.object("hosts", false); hosts.present()) {
    c.hosts = read_named_hosts(hosts);
    const auto named = std::ssize(c.hosts.all());
    if (c.nodes != 0 && c.nodes != named) {
      reader.mistake("hosts", fmt::format("names {}, and nodes is {}; expected one of the two, or the same number",
                                          named, c.nodes));
    } else if (named > most) {
      reader.mistake("hosts", fmt::format("names {}; expected at most {}", named, most));
    }
    c.nodes = named;
  }
  c.hosts_share_cores = reader.boolean("hosts_share_cores", c.hosts_share_cores);
  if (reader.has("inter")) {
    c.inter = read_link(reader.object("inter"), c.name + " inter", c.sources);
  } else if (c.nodes > 1 && c.inter.bandwidth.value == 0) {
    reader.mistake("inter", fmt::format("missing: what joins the {} hosts; expected an object such as "
                                        "{{\"bandwidth\": \"1 Gb/s\", \"latency\": \"50 us\"}}",
                                        c.nodes));
  }
  if (c.inter.bandwidth.value == 0) {
    c.inter = c.intra;  // one machine has no other side
  }
}

// Ranks are held back, and that is all that can be done to the machine itself.
void check_own_disturbance(ObjectReader& reader, const Cluster& c) {
  const Disturbance& d = c.disturbance;
  if (!d.nodes.empty() || d.needs_links() || d.jitter != 0) {
    reader.mistake("disturbance",
                   "this-machine is forecast as it was measured, but for slow \"devices\"; expected no nodes, links, "
                   "background or jitter, or another system");
  }
  for (const SpeedRange& r : d.devices) {
    if (r.speed > 1) {
      reader.mistake("disturbance",
                     fmt::format("devices {}-{}: a rank of this-machine can be held back, not sped up; expected a "
                                 "speed of at most 1, not {}",
                                 r.first, r.last, r.speed));
    }
  }
  if (c.is_gpu && !d.devices.empty()) {
    reader.mistake("disturbance", "ranks of a GPU are not held back; expected no devices");
  }
}

nlohmann::json link_to_json(const Link& link) {
  return {{"bandwidth", exact(link.bandwidth)}, {"latency", exact(link.latency)}};
}

}  // namespace

Cluster read_cluster(ObjectReader& reader) {
  Cluster c = read_part<Cluster>(reader, "system", kSystemFolder, "system", read_system);
  const std::int64_t most = c.is_gpu ? 1 : c.this_machine ? kMaxHosts : kMaxNodes;
  c.nodes = reader.integer("nodes", 0, reader.has("nodes") ? 1 : 0, most);
  c.devices_per_node = static_cast<int>(
      reader.integer("devices_per_node", c.devices_per_node, 1, c.is_gpu ? kMaxDevices : c.devices_per_node));
  if (reader.has("profile")) {
    c.profile_path = profile_path(reader, c);
  }
  if (c.this_machine) {
    read_hosts(reader, most, c);
  }
  if (reader.has("storage")) {
    c.storage = read_storage(reader.object("storage"), c.name + " storage", c.sources);
  }
  if (ObjectReader disturbance = reader.object("disturbance", false); disturbance.present()) {
    c.disturbance = read_disturbance(disturbance);
  }
  if (c.this_machine) {
    check_own_disturbance(reader, c);
  }
  return c;
}

Cluster load_system(const std::string& name_or_path) {
  const std::string path =
      is_catalogue_name(name_or_path) ? catalogue_path(kSystemFolder, "system", name_or_path) : name_or_path;
  const JsonDocument document = JsonDocument::from_file(path);
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  Cluster cluster = reader.present() ? read_system(reader) : Cluster{};
  mistakes.throw_if_any();
  cluster.inter = cluster.inter.bandwidth.value == 0 ? cluster.intra : cluster.inter;
  return cluster;
}

nlohmann::json to_json(const Cluster& c) {
  nlohmann::json peak = nlohmann::json::object();
  for (const auto& [dtype, rate] : c.device.peak) {
    peak[std::string(name(dtype))] = exact(rate);
  }
  // A fabric describes whole nodes, also where a run leaves devices of them idle.
  const int whole_node =
      c.fabric != nullptr ? c.fabric->node.devices / c.fabric->node.nodes_per_domain : c.devices_per_node;
  nlohmann::json system{{"name", c.name},
                        {"description", c.description},
                        {"device",
                         {{"name", c.device.name},
                          {"memory", exact(c.device.memory)},
                          {"memory_bandwidth", exact(c.device.memory_bandwidth)},
                          {"peak", peak},
                          {"multiprocessors", c.device.multiprocessors},
                          {"l2", exact(c.device.l2)},
                          {"tdp_watts", c.device.tdp_watts},
                          {"exclusive_streams", c.device.exclusive_streams}}},
                        {"devices_per_node", whole_node},
                        {"intra", link_to_json(c.intra)},
                        {"inter", link_to_json(c.inter)},
                        {"this_machine", c.this_machine},
                        {"gpu", c.is_gpu},
                        {"profile", c.profile_path},
                        {"sources", c.sources}};
  if (c.fabric != nullptr) {
    system["fabric"] = to_json(*c.fabric);
  }
  if (c.host.link.value > 0) {
    system["host"] = {{"link", exact(c.host.link)}, {"memory", exact(c.host.memory)}};
  }
  if (c.storage.bandwidth.value > 0) {
    system["storage"] = {{"bandwidth", exact(c.storage.bandwidth)},
                         {"latency", exact(c.storage.latency)},
                         {"shared", c.storage.is_shared}};
  }
  if (c.shared_memory.value > 0) {
    system["shared_memory"] = exact(c.shared_memory);
  }
  nlohmann::json cluster{{"system", system}, {"nodes", c.nodes}, {"devices_per_node", c.devices_per_node}};
  if (c.is_hosts()) {
    cluster["system"]["devices_per_node"] = cluster["devices_per_node"] = c.cores_per_host;
    cluster["hosts_share_cores"] = c.hosts_share_cores;
  }
  if (!c.hosts.empty()) {
    cluster["hosts"] = {{"worker", c.hosts.worker}, {"server", c.hosts.server}, {"loader", c.hosts.loader}};
  }
  if (!c.disturbance.empty()) {
    cluster["disturbance"] = to_json(c.disturbance);
  }
  return cluster;
}

}  // namespace foretrain::topologies
