#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "topologies/profile.h"

namespace foretrain::topologies {
namespace {

using nlohmann::ordered_json;

ordered_json json_of(const Figure& f) {
  return {{"value", f.value}, {"source", f.source}};
}

ordered_json json_of(const std::map<std::string, Figure>& figures) {
  ordered_json object = ordered_json::object();
  for (const auto& [key, figure] : figures) {
    object[key] = json_of(figure);
  }
  return object;
}

ordered_json json_of(const std::map<Dtype, Figure>& figures) {
  ordered_json object = ordered_json::object();
  for (const auto& [dtype, figure] : figures) {
    object[std::string(name(dtype))] = json_of(figure);
  }
  return object;
}

ordered_json json_of(const Roofline& r) {
  return {{"matmul", json_of(r.matmul)},
          {"matmul_limit", json_of(r.matmul_limit)},
          {"k_half", json_of(r.k_half)},
          {"tile_halving", json_of(r.tile_halving)},
          {"partial_wave", json_of(r.partial_wave)},
          {"matmul_tn", json_of(r.matmul_tn)},
          {"matmul_nn", json_of(r.matmul_nn)},
          {"matmul_nt", json_of(r.matmul_nt)},
          {"sustained_clock", json_of(r.sustained_clock)},
          {"matmul_spread", json_of(r.matmul_spread)},
          {"matmul_fixed", json_of(r.matmul_fixed)},
          {"unaligned", json_of(r.unaligned)},
          {"memory", json_of(r.memory)},
          {"memory_by_kind", json_of(r.memory_by_kind)},
          {"attention_forward", json_of(r.attention_forward)},
          {"attention_backward", json_of(r.attention_backward)},
          {"attention_keys_half", json_of(r.attention_keys_half)},
          {"attention_head_half", json_of(r.attention_head_half)},
          {"attention_tail", json_of(r.attention_tail)},
          {"attention_unequal", json_of(r.attention_unequal)},
          {"launch", json_of(r.launch)}};
}

ordered_json json_of(const NetworkFigures& n) {
  return {{"environments_prevail", n.environments_prevail},
          {"node_busbw", json_of(n.node_busbw)},
          {"fabric_fraction", json_of(n.fabric_fraction)},
          {"ll_limit", json_of(n.ll_limit)},
          {"node_message", json_of(n.node_message)},
          {"fabric_message", json_of(n.fabric_message)},
          {"node_message_latency", json_of(n.node_message_latency)},
          {"fabric_message_latency", json_of(n.fabric_message_latency)},
          {"kappa_node", json_of(n.kappa_node)},
          {"kappa_fabric", json_of(n.kappa_fabric)},
          {"node_extra", json_of(n.node_extra)},
          {"fabric_extra", json_of(n.fabric_extra)}};
}

ordered_json json_of(const SharingFigures& s) {
  return {{"node_blocks", json_of(s.node_blocks)},
          {"fabric_blocks", json_of(s.fabric_blocks)},
          {"memory_traffic", json_of(s.memory_traffic)},
          {"compute_clock", json_of(s.compute_clock)},
          {"communication_speed", json_of(s.communication_speed)},
          {"submit", json_of(s.submit)}};
}

ordered_json json_of(const MatmulSample& s) {
  return {{"in", name(s.in)},
          {"out", name(s.out)},
          {"trans_a", s.trans_a},
          {"trans_b", s.trans_b},
          {"m", s.m},
          {"n", s.n},
          {"k", s.k},
          {"seconds", s.seconds},
          {"cached_seconds", s.cached_seconds}};
}

ordered_json json_of(const AttentionSample& s) {
  return {{"step", s.step},         {"dtype", name(s.dtype)},
          {"batch", s.batch},       {"seq", s.seq},
          {"heads", s.heads},       {"kv_heads", s.kv_heads},
          {"head_dim", s.head_dim}, {"causal", s.causal},
          {"seconds", s.seconds},   {"cached_seconds", s.cached_seconds}};
}

ordered_json json_of(const MemorySample& s) {
  return {{"kind", s.kind},
          {"dtype", name(s.dtype)},
          {"bytes", s.bytes},
          {"seconds", s.seconds},
          {"cached_seconds", s.cached_seconds}};
}

ordered_json json_of(const CollectiveSample& s) {
  return {{"kind", s.kind},
          {"ranks", s.ranks},
          {"bytes", s.bytes},
          {"seconds", s.seconds},
          {"has_gpu_each", s.has_gpu_each},
          {"crowded", s.crowded}};
}

ordered_json json_of(const ExchangeSample& s) {
  return {{"bytes", s.bytes}, {"seconds", s.seconds}, {"has_gpu_each", s.has_gpu_each}, {"crowded", s.crowded}};
}

ordered_json json_of(const OverlapSample& s) {
  return {{"kind", s.kind}, {"compute", s.compute}, {"communication", s.communication}};
}

ordered_json json_of(const SharingSample& s) {
  return {{"active", s.active}, {"kind", s.kind}, {"bytes", s.bytes}, {"slowdown", s.slowdown}};
}

// One sample per line: a profile is read and compared by people too.
template <class Sample>
std::string lines(const std::vector<Sample>& samples) {
  std::string text = "[";
  for (std::size_t i = 0; i < samples.size(); ++i) {
    text += (i == 0 ? "\n      " : ",\n      ") + json_of(samples[i]).dump();
  }
  return text + "]";
}

std::string text_of(const Measured& m) {
  const auto line = [](const char* key, const ordered_json& value) {
    return "    " + ordered_json(key).dump() + ": " + value.dump() + ",\n";
  };
  const auto table = [](const char* key, const std::string& value) {
    return std::string("    \"") + key + "\": " + value;
  };
  return "{\n" + line("machine", m.machine) + line("cores", m.cores) + line("date", m.date) + line("commit", m.commit) +
         line("command", m.command) + line("core_cache_bytes", m.core_cache.value) +
         line("shared_cache_bytes", m.shared_cache.value) + line("dispatch_seconds", m.dispatch_seconds) +
         line("submit_seconds", m.submit_seconds) + line("event_seconds", m.event_seconds) +
         line("device_memory_bytes", m.device_memory.value) + table("matmul", lines(m.matmul)) + ",\n" +
         table("attention", lines(m.attention)) + ",\n" + table("memory", lines(m.memory)) + ",\n" +
         table("collectives", lines(m.collectives)) + ",\n" + table("exchanges", lines(m.exchanges)) + ",\n" +
         table("sharing", lines(m.sharing)) + ",\n" + table("overlap", lines(m.overlap)) + "\n  }";
}

// A part of the document, indented as one.
std::string indented(const ordered_json& value) {
  std::string text;
  for (const char c : value.dump(2)) {
    text += c;
    if (c == '\n') {
      text += "  ";
    }
  }
  return text;
}

}  // namespace

std::string to_json(const Profile& p) {
  std::string text = "{\n  \"schema\": \"foretrain.profile/1\",\n  \"name\": " + ordered_json(p.name).dump();
  if (!p.description.empty()) {
    text += ",\n  \"description\": " + ordered_json(p.description).dump();
  }
  if (p.has_roofline) {
    text += ",\n  \"roofline\": " + indented(json_of(p.roofline));
  }
  if (p.has_network) {
    text += ",\n  \"network\": " + indented(json_of(p.network));
  }
  if (p.has_sharing) {
    text += ",\n  \"sharing\": " + indented(json_of(p.sharing));
  }
  if (p.measured.cores > 0) {
    text += ",\n  \"measured\": " + text_of(p.measured);
  }
  return text + "\n}\n";
}

void save_profile(const Profile& profile, const std::string& path) {
  write_file(path, to_json(profile));
}

}  // namespace foretrain::topologies
