#include "topologies/profile.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/kept_files.h"
#include "topologies/cluster.h"

namespace foretrain::topologies {
namespace {

constexpr const char* kSchema = "foretrain.profile/1";
constexpr double kMost = 1e18;
constexpr std::array kDtypes{Dtype::fp64,  Dtype::fp32,  Dtype::tf32, Dtype::fp16, Dtype::bf16, Dtype::fp8,
                             Dtype::mxfp8, Dtype::nvfp4, Dtype::i32,  Dtype::i64,  Dtype::u8};

const std::vector<std::string>& dtype_words() {
  static const std::vector<std::string> words = [] {
    std::vector<std::string> all;
    for (const Dtype d : kDtypes) {
      all.emplace_back(name(d));
    }
    return all;
  }();
  return words;
}

Dtype dtype(ObjectReader& reader, const std::string& key) {
  const std::string word = reader.word(key, std::nullopt, dtype_words());
  for (const Dtype d : kDtypes) {
    if (name(d) == word) {
      return d;
    }
  }
  return Dtype::fp32;
}

double seconds(ObjectReader& reader) {
  return reader.number("seconds", std::nullopt, 1e-12, 1e6);
}

Figure figure(ObjectReader reader, double low = 0, double high = kMost) {
  Figure f{reader.number("value", std::nullopt, low, high), reader.text("source", std::nullopt)};
  reader.finish();
  return f;
}

// Keys of an object that holds one figure each; the object is read key by key as the document has them.
std::vector<std::string> keys(ObjectReader& parent, const std::string& key) {
  std::vector<std::string> result;
  const nlohmann::json* object = parent.raw(key);
  if (object != nullptr && object->is_object()) {
    for (const auto& item : object->items()) {
      result.push_back(item.key());
    }
  }
  return result;
}

std::map<std::string, Figure> figures(ObjectReader& parent, const std::string& key, double high = kMost) {
  std::map<std::string, Figure> result;
  const std::vector<std::string> names = keys(parent, key);
  ObjectReader reader = parent.object(key);
  for (const std::string& k : names) {
    result[k] = figure(reader.object(k), 0, high);
  }
  reader.finish();
  return result;
}

// What leaves less than this of a device's speed is a mistake in the file.
constexpr double kLeastSpeed = 0.1;

std::map<Dtype, Figure> figures_by_dtype(ObjectReader& parent, const std::string& key, double low = 0) {
  std::map<Dtype, Figure> result;
  ObjectReader reader = parent.object(key);
  for (const Dtype d : kDtypes) {
    const std::string word(name(d));
    if (reader.has(word)) {
      result[d] = figure(reader.object(word), low);
    }
  }
  reader.finish();
  return result;
}

std::map<std::string, Figure> optional_figures(ObjectReader& parent, const std::string& key) {
  return parent.has(key) ? figures(parent, key) : std::map<std::string, Figure>{};
}

Roofline read_roofline(ObjectReader reader) {
  Roofline r;
  r.matmul = figures_by_dtype(reader, "matmul");
  if (reader.has("matmul_limit")) {
    r.matmul_limit = figures_by_dtype(reader, "matmul_limit", kLeastSpeed);
  }
  r.k_half = figure(reader.object("k_half"));
  r.tile_halving = figure(reader.object("tile_halving"));
  if (reader.has("partial_wave")) {
    r.partial_wave = figure(reader.object("partial_wave"), 0, 1);
  }
  r.matmul_tn = figure(reader.object("matmul_tn"));
  r.matmul_nn = figure(reader.object("matmul_nn"));
  r.matmul_nt = figure(reader.object("matmul_nt"));
  if (reader.has("sustained_clock")) {
    r.sustained_clock = figure(reader.object("sustained_clock"), kLeastSpeed, 1);
  }
  if (reader.has("matmul_spread")) {
    r.matmul_spread = figure(reader.object("matmul_spread"), 0, 0.1);
  }
  if (reader.has("matmul_fixed")) {
    r.matmul_fixed = figure(reader.object("matmul_fixed"), 0, 1e-3);
  }
  if (reader.has("unaligned")) {
    r.unaligned = figure(reader.object("unaligned"), kLeastSpeed, 1);
  }
  r.memory = figure(reader.object("memory"));
  r.memory_by_kind = figures(reader, "memory_by_kind");
  r.attention_forward = figures(reader, "attention_forward");
  r.attention_backward = figures(reader, "attention_backward");
  r.attention_keys_half = optional_figures(reader, "attention_keys_half");
  r.attention_head_half = optional_figures(reader, "attention_head_half");
  r.attention_tail = optional_figures(reader, "attention_tail");
  r.attention_unequal = optional_figures(reader, "attention_unequal");
  r.launch = figure(reader.object("launch"));
  reader.finish();
  return r;
}

NetworkFigures read_network(ObjectReader reader) {
  NetworkFigures n;
  n.environments_prevail = reader.boolean("environments_prevail", false);
  n.node_busbw = figures(reader, "node_busbw");
  n.fabric_fraction = figures(reader, "fabric_fraction");
  n.ll_limit = figures(reader, "ll_limit");
  n.node_message = figure(reader.object("node_message"));
  n.fabric_message = figure(reader.object("fabric_message"));
  n.node_message_latency = figure(reader.object("node_message_latency"));
  n.fabric_message_latency = figure(reader.object("fabric_message_latency"));
  n.kappa_node = figure(reader.object("kappa_node"));
  n.kappa_fabric = figure(reader.object("kappa_fabric"));
  n.node_extra = figure(reader.object("node_extra"));
  n.fabric_extra = figure(reader.object("fabric_extra"));
  reader.finish();
  return n;
}

SharingFigures read_sharing_figures(ObjectReader reader) {
  SharingFigures s;
  s.node_blocks = figures(reader, "node_blocks", 1024);
  s.fabric_blocks = figures(reader, "fabric_blocks", 1024);
  s.memory_traffic = figures(reader, "memory_traffic", 16);
  s.compute_clock = figure(reader.object("compute_clock"), kLeastSpeed, 1);
  s.communication_speed = figure(reader.object("communication_speed"), kLeastSpeed, 1);
  s.submit = figure(reader.object("submit"), 0, 1e-3);
  reader.finish();
  return s;
}

constexpr std::int64_t kLargest = std::int64_t{1} << 40;
constexpr double kMostSlowdown = 1e6;

MatmulSample read_matmul(ObjectReader& r) {
  MatmulSample s;
  s.in = dtype(r, "in");
  s.out = dtype(r, "out");
  s.trans_a = r.boolean("trans_a", std::nullopt);
  s.trans_b = r.boolean("trans_b", std::nullopt);
  s.m = r.integer("m", std::nullopt, 1, kLargest);
  s.n = r.integer("n", std::nullopt, 1, kLargest);
  s.k = r.integer("k", std::nullopt, 1, kLargest);
  s.seconds = seconds(r);
  s.cached_seconds = r.number("cached_seconds", 0.0, 0, 1e6);
  return s;
}

AttentionSample read_attention(ObjectReader& r) {
  AttentionSample s;
  s.step = r.text("step", std::nullopt);
  s.dtype = dtype(r, "dtype");
  s.batch = r.integer("batch", std::nullopt, 1, kLargest);
  s.seq = r.integer("seq", std::nullopt, 1, kLargest);
  s.heads = r.integer("heads", std::nullopt, 1, kLargest);
  s.kv_heads = r.integer("kv_heads", std::nullopt, 1, kLargest);
  s.head_dim = r.integer("head_dim", std::nullopt, 1, kLargest);
  s.causal = r.boolean("causal", std::nullopt);
  s.seconds = seconds(r);
  s.cached_seconds = r.number("cached_seconds", 0.0, 0, 1e6);
  return s;
}

MemorySample read_memory(ObjectReader& r) {
  MemorySample s;
  s.kind = r.text("kind", std::nullopt);
  s.dtype = dtype(r, "dtype");
  s.bytes = r.integer("bytes", std::nullopt, 1);
  s.seconds = seconds(r);
  s.cached_seconds = r.number("cached_seconds", 0.0, 0, 1e6);
  return s;
}

CollectiveSample read_collective(ObjectReader& r) {
  CollectiveSample s;
  s.kind = r.text("kind", std::nullopt);
  s.ranks = static_cast<int>(r.integer("ranks", std::nullopt, 2, 1 << 20));
  s.bytes = r.integer("bytes", std::nullopt, 1);
  s.seconds = seconds(r);
  s.has_gpu_each = r.boolean("has_gpu_each", false);
  s.crowded = r.boolean("crowded", false);
  return s;
}

ExchangeSample read_exchange(ObjectReader& r) {
  ExchangeSample s;
  s.bytes = r.integer("bytes", std::nullopt, 1);
  s.seconds = seconds(r);
  s.has_gpu_each = r.boolean("has_gpu_each", false);
  s.crowded = r.boolean("crowded", false);
  return s;
}

OverlapSample read_overlap(ObjectReader& r) {
  OverlapSample s;
  s.kind = r.word("kind", std::nullopt, {"matmul", "memory"});
  s.compute = r.number("compute", std::nullopt, 1, kMostSlowdown);
  s.communication = r.number("communication", std::nullopt, 1, kMostSlowdown);
  return s;
}

SharingSample read_sharing(ObjectReader& r) {
  SharingSample s;
  s.active = static_cast<int>(r.integer("active", std::nullopt, 1, 1 << 20));
  s.kind = r.word("kind", std::nullopt, {"matmul", "memory"});
  s.bytes = r.integer("bytes", std::nullopt, 1);
  s.slowdown = r.number("slowdown", std::nullopt, 0.01, kMostSlowdown);
  return s;
}

template <class Sample>
std::vector<Sample> samples(ObjectReader& parent, const std::string& key, Sample (*read)(ObjectReader&)) {
  std::vector<Sample> result;
  for (ObjectReader& reader : parent.objects(key)) {
    result.push_back(read(reader));
    reader.finish();
  }
  return result;
}

Measured read_measured(ObjectReader reader) {
  Measured m;
  m.machine = reader.text("machine", std::nullopt);
  m.cores = static_cast<int>(reader.integer("cores", std::nullopt, 1, 1 << 20));
  m.date = reader.text("date", std::nullopt);
  m.commit = reader.text("commit", std::nullopt);
  m.command = reader.text("command", std::nullopt);
  m.core_cache = {reader.integer("core_cache_bytes", 0, 0)};
  m.shared_cache = {reader.integer("shared_cache_bytes", 0, 0)};
  m.dispatch_seconds = reader.number("dispatch_seconds", std::nullopt, 0, 1);
  m.submit_seconds = reader.number("submit_seconds", 0.0, 0, 1);
  m.event_seconds = reader.number("event_seconds", 0.0, 0, 1);
  m.device_memory = {reader.integer("device_memory_bytes", 0, 0)};
  m.matmul = samples(reader, "matmul", read_matmul);
  m.attention = samples(reader, "attention", read_attention);
  m.memory = samples(reader, "memory", read_memory);
  m.collectives = samples(reader, "collectives", read_collective);
  m.exchanges = samples(reader, "exchanges", read_exchange);
  m.sharing = samples(reader, "sharing", read_sharing);
  if (reader.has("overlap")) {
    m.overlap = samples(reader, "overlap", read_overlap);
  }
  reader.finish();
  return m;
}

Profile read(const JsonDocument& document) {
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  Profile p;
  reader.word("schema", std::nullopt, {kSchema});
  p.name = reader.text("name", std::nullopt);
  p.description = reader.text("description", "");
  p.has_roofline = reader.has("roofline");
  if (p.has_roofline) {
    p.roofline = read_roofline(reader.object("roofline"));
  }
  p.has_network = reader.has("network");
  if (p.has_network) {
    p.network = read_network(reader.object("network"));
  }
  p.has_sharing = reader.has("sharing");
  if (p.has_sharing) {
    p.sharing = read_sharing_figures(reader.object("sharing"));
  }
  if (reader.has("measured")) {
    p.measured = read_measured(reader.object("measured"));
  }
  reader.finish();
  mistakes.throw_if_any();
  return p;
}

}  // namespace

Profile load_profile(const std::string& path) {
  return read(JsonDocument::from_file(path));
}

Profile profile_from_text(const std::string& text, const std::string& origin) {
  return read(JsonDocument::from_text(text, origin));
}

std::map<Dtype, FlopRate> best_matmul_rates(const Measured& measured) {
  std::map<Dtype, FlopRate> best;
  for (const MatmulSample& s : measured.matmul) {
    const double flops = 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    const double seconds = s.cached_seconds > 0 ? std::min(s.seconds, s.cached_seconds) : s.seconds;
    best[s.in] = std::max(best[s.in], FlopRate{flops / seconds});
  }
  return best;
}

void load_profile_of(Cluster& cluster) {
  if (cluster.profile != nullptr || cluster.profile_path.empty()) {
    return;
  }
  static KeptFiles<Profile> profiles;
  cluster.profile = profiles.get(cluster.profile_path, load_profile);
  if (cluster.this_machine) {
    for (const auto& [dtype, rate] : best_matmul_rates(cluster.profile->measured)) {
      cluster.device.peak[dtype] = rate;
    }
    if (const Bytes memory = cluster.profile->measured.device_memory; cluster.is_gpu && memory.value > 0) {
      cluster.device.memory = memory;
    }
  }
}

}  // namespace foretrain::topologies
