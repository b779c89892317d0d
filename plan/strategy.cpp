#include "plan/strategy.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/mesh.h"
#include "plan/strategy_exchange.h"

namespace foretrain::plan {

std::string_view name(ScheduleKind k) {
  constexpr std::array<std::string_view, 9> kNames{"gpipe", "1f1b",       "interleaved", "zb_h1", "zb_h2",
                                                   "zb_v",  "dualpipe_v", "dualpipe",    "text"};
  return kNames[static_cast<std::size_t>(k)];
}

std::string_view name(Recompute r) {
  constexpr std::array<std::string_view, 4> kNames{"none", "selective", "full", "listed"};
  return kNames[static_cast<std::size_t>(r)];
}

std::string_view name(ZeroKind k) {
  return k == ZeroKind::owners ? "owners" : "shards";
}

std::string_view name(CpKind k) {
  return k == CpKind::ring ? "ring" : k == CpKind::all_to_all ? "all_to_all" : "all_gather";
}

namespace {

constexpr std::array<std::string_view, 5> kModules{"attention_core", "norm", "activation", "mlp", "mla_up"};

}  // namespace

std::string_view name(RecomputeModule m) {
  return kModules[static_cast<std::size_t>(m)];
}

bool Strategy::recomputes(RecomputeModule m) const {
  return std::find(recompute_modules.begin(), recompute_modules.end(), m) != recompute_modules.end();
}

namespace {

constexpr std::int64_t kMaxAxis = 1'000'000;
constexpr std::int64_t kMaxChunks = 256;  // each is ops of its own

// The text at a key; "" where there is none.
std::string word_at(ObjectReader& reader, const std::string& key) {
  const nlohmann::json* value = reader.raw(key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

void read_schedule(ObjectReader& reader, Strategy& s) {
  const std::string text = word_at(reader, "schedule");
  if (text.find_first_of("/.") != std::string::npos) {  // no schedule's name has either: a file
    s.schedule = ScheduleKind::text;
    s.schedule_path = reader.file_path("schedule", text);
    std::error_code error;
    if (!std::filesystem::is_regular_file(s.schedule_path, error)) {
      reader.mistake("schedule", fmt::format("{}: no such file", s.schedule_path));
    }
    return;
  }
  const std::string word = reader.word(
      "schedule", "1f1b", {"gpipe", "1f1b", "interleaved", "zb_h1", "zb_h2", "zb_v", "dualpipe_v", "dualpipe"});
  for (const ScheduleKind k :
       {ScheduleKind::gpipe, ScheduleKind::one_f_one_b, ScheduleKind::interleaved, ScheduleKind::zb_h1,
        ScheduleKind::zb_h2, ScheduleKind::zb_v, ScheduleKind::dualpipe_v, ScheduleKind::dualpipe}) {
    s.schedule = word == name(k) ? k : s.schedule;
  }
  if (s.schedule == ScheduleKind::dualpipe && s.pp % 2 != 0) {
    reader.mistake("schedule", fmt::format("dualpipe needs an even pp, not {}: its ranks are pairs", s.pp));
    return;
  }
  if (s.schedule == ScheduleKind::zb_v || s.schedule == ScheduleKind::dualpipe_v ||
      s.schedule == ScheduleKind::dualpipe) {
    if (!reader.has("virtual_stages")) {
      s.virtual_stages = 2;
    }
    if (s.virtual_stages != 2 || s.pp == 1) {
      reader.mistake("schedule",
                     fmt::format("{} needs virtual_stages 2 and pp > 1, not {} and {}", word, s.virtual_stages, s.pp));
    }
    return;
  }
  if (s.schedule == ScheduleKind::one_f_one_b && s.virtual_stages > 1) {
    s.schedule = ScheduleKind::interleaved;
  }
  if (s.virtual_stages > 1 && s.schedule != ScheduleKind::interleaved) {
    reader.mistake("schedule", fmt::format("{} has no virtual stages; expected 1f1b or interleaved with "
                                           "virtual_stages > 1",
                                           word));
  }
  if (word == "interleaved" && s.virtual_stages == 1) {
    reader.mistake("schedule", "interleaved needs virtual_stages > 1");
  }
  if (s.virtual_stages > 1 && s.pp == 1) {
    reader.mistake("virtual_stages", fmt::format("{} virtual stages need pp > 1", s.virtual_stages));
  }
}

// A word, or a list of modules; an empty list is `none`.
void read_recompute(ObjectReader& reader, Strategy& s) {
  const nlohmann::json* value = reader.raw("recompute");
  if (value == nullptr || !value->is_array()) {
    const std::string word = reader.word("recompute", "none", {"none", "selective", "full"});
    s.recompute = word == "full" ? Recompute::full : word == "selective" ? Recompute::selective : Recompute::none;
    return;
  }
  for (const std::string& word : reader.words("recompute", {kModules.begin(), kModules.end()})) {
    const auto module =
        static_cast<RecomputeModule>(std::find(kModules.begin(), kModules.end(), word) - kModules.begin());
    if (s.recomputes(module)) {
      reader.mistake("recompute", fmt::format("\"{}\" stands twice", word));
    }
    s.recompute_modules.push_back(module);
  }
  std::sort(s.recompute_modules.begin(), s.recompute_modules.end());
  s.recompute = s.recompute_modules.empty() ? Recompute::none : Recompute::listed;
}

// One number for all stages, or one for each.
void read_recompute_layers(ObjectReader& reader, Strategy& s) {
  const nlohmann::json* value = reader.raw("recompute_layers");
  if (value == nullptr) {
    return;
  }
  if (s.recompute != Recompute::full) {
    reader.mistake("recompute_layers", fmt::format("needs recompute full, not {}", name(s.recompute)));
  }
  constexpr std::int64_t kMostStages = 1'000'000;
  if (value->is_array()) {
    s.recompute_layers = reader.integers("recompute_layers", 0);
    if (std::ssize(s.recompute_layers) != s.model_stages()) {
      reader.mistake("recompute_layers",
                     fmt::format("{} numbers, but pp {} x virtual_stages {} = {} stages", s.recompute_layers.size(),
                                 s.pp, s.virtual_stages / s.ways(), s.model_stages()));
    }
    return;
  }
  const std::int64_t layers = reader.integer("recompute_layers", 0, 0, kMostStages);
  if (s.pp <= kMostStages && s.virtual_stages <= kMostStages / s.pp) {
    s.recompute_layers.assign(static_cast<std::size_t>(s.model_stages()), layers);
  }
}

nlohmann::json recompute_json(const Strategy& s) {
  if (s.recompute != Recompute::listed) {
    return name(s.recompute);
  }
  nlohmann::json list = nlohmann::json::array();
  for (const RecomputeModule m : s.recompute_modules) {
    list.push_back(name(m));
  }
  return list;
}

// By the schedule's name; a text may as well.
bool splits_backwards(const Strategy& s) {
  return s.schedule == ScheduleKind::zb_h1 || s.schedule == ScheduleKind::zb_h2 || s.schedule == ScheduleKind::zb_v ||
         s.schedule == ScheduleKind::dualpipe_v || s.schedule == ScheduleKind::dualpipe;
}

void read_sharding(ObjectReader& reader, Strategy& s) {
  if (s.zero >= 2 && splits_backwards(s)) {
    reader.mistake("zero",
                   fmt::format("{} cannot go with {}: its weight gradients come long after the input gradients, "
                               "and would be whole until then; expected 0 or 1, or another schedule",
                               s.zero, name(s.schedule)));
  }
  s.zero_kind =
      reader.word("zero_kind", "shards", {"shards", "owners"}) == "owners" ? ZeroKind::owners : ZeroKind::shards;
  if (s.zero_kind == ZeroKind::owners && s.zero != 1) {
    reader.mistake("zero_kind", fmt::format("owners broadcast what they updated: expected zero 1, not {}", s.zero));
  }
  s.shard = reader.integer("shard", 0, reader.has("shard") ? 2 : 0, kMaxAxis);
  if (s.shard != 0 && s.zero == 0) {
    reader.mistake("shard", "needs zero 1, 2 or 3: without it nothing is sharded");
  }
  if (s.shard != 0 && s.ways() > 1) {
    reader.mistake("shard", fmt::format("in groups with {} is not built yet; leave the key out", name(s.schedule)));
  }
  s.reshard = reader.boolean("reshard", true);
  s.prefetch = reader.integer("prefetch", 1, 0, kMaxAxis);
  for (const char* key : {"reshard", "prefetch"}) {
    if (s.zero != 3 && reader.has(key)) {
      reader.mistake(key, "needs zero 3: without it no parameters are gathered layer by layer");
    }
  }
}

// A forward and a backward of two microbatches run in turn: schedules that have such pairs, and nothing in a layer's
// backward that runs its exchanges again.
void check_overlap_ep(ObjectReader& reader, const Strategy& s) {
  if (s.schedule != ScheduleKind::one_f_one_b && s.schedule != ScheduleKind::interleaved &&
      s.schedule != ScheduleKind::dualpipe_v) {
    reader.mistake("overlap_ep", fmt::format("needs forwards and backwards in turn: schedule 1f1b, interleaved or "
                                             "dualpipe_v, not {}",
                                             name(s.schedule)));
  }
  if (s.recompute == Recompute::full) {
    reader.mistake("overlap_ep",
                   "does not go with recompute full, which exchanges tokens again at once; expected none, selective "
                   "or a list of modules");
  }
  for (const RecomputeModule m : {RecomputeModule::norm, RecomputeModule::activation}) {
    if (s.recomputes(m)) {
      reader.mistake(
          "overlap_ep",
          fmt::format("with recompute of \"{}\" is not built yet: between a layer's parts another microbatch "
                      "would write what is computed again; expected other modules",
                      name(m)));
    }
  }
  if (s.zero >= 2) {
    reader.mistake("overlap_ep", fmt::format("with zero {} is not built yet; expected zero 0 or 1", s.zero));
  }
}

void read_offload(ObjectReader& reader, Strategy& s) {
  for (const std::string& word : reader.words("offload", {"optimizer", "activations"})) {
    s.offload_optimizer |= word == "optimizer";
    s.offload_activations |= word == "activations";
  }
  if (s.offload_optimizer && s.zero == 3) {
    reader.mistake("offload",
                   "\"optimizer\" with zero 3 is not built yet: parameters would be gathered from the host; "
                   "expected zero 0, 1 or 2");
  }
  s.offload_layers = reader.integer("offload_layers", -1, reader.has("offload_layers") ? 1 : -1, kMaxAxis);
  if (reader.has("offload_layers") && !s.offload_activations) {
    reader.mistake("offload_layers", "needs offload [\"activations\"]: nothing else is offloaded by layers");
  }
  if (s.offload_activations && splits_backwards(s)) {
    reader.mistake("offload", fmt::format("\"activations\" cannot go with {}: its weight gradients would need them a "
                                          "second time; expected a schedule with whole backwards",
                                          name(s.schedule)));
  }
  if (s.offload_activations && !s.recompute_layers.empty()) {
    reader.mistake("offload",
                   "\"activations\" with recompute_layers is not built yet; expected recompute of all layers or none");
  }
}

// A stage alone has nothing to wait for: the same plan.
void read_optimizer_sync(ObjectReader& reader, Strategy& s) {
  s.post_validation =
      reader.word("optimizer_sync", "global", {"global", "post_validation"}) == "post_validation" && s.pp > 1;
  if (s.post_validation && s.ways() > 1) {
    reader.mistake("optimizer_sync", fmt::format("post_validation with {} is not built yet: its stages have no one "
                                                 "order; expected global",
                                                 name(s.schedule)));
  }
}

// Words of which not all values are built.
void read_unbuilt(ObjectReader& reader, Strategy& s) {
  s.split_by_speed = reader.boolean("split_by_speed", false);
  read_offload(reader, s);
  read_optimizer_sync(reader, s);
}

}  // namespace

Strategy read_strategy(ObjectReader& reader) {
  Strategy s;
  s.dp = reader.integer("dp", 0, reader.has("dp") ? 1 : 0, kMaxAxis);
  s.tp = reader.integer("tp", 1, 1, kMaxAxis);
  s.pp = reader.integer("pp", 1, 1, kMaxAxis);
  s.cp = reader.integer("cp", 1, 1, kMaxAxis);
  const std::string cp_kind = reader.word("cp_kind", "ring", {"ring", "all_to_all", "all_gather"});
  s.cp_kind = cp_kind == "ring" ? CpKind::ring : cp_kind == "all_to_all" ? CpKind::all_to_all : CpKind::all_gather;
  s.ep = reader.integer("ep", 1, 1, kMaxAxis);
  s.expert_tp = reader.integer("expert_tp", s.tp, 1, kMaxAxis);
  s.micro_batch = reader.integer("micro_batch", 1, 1, kMaxAxis);
  s.virtual_stages = reader.integer("virtual_stages", 1, 1, kMaxAxis);
  read_schedule(reader, s);
  s.zero = static_cast<int>(reader.integer("zero", 0, 0, 3));
  read_sharding(reader, s);
  // Without tensor parallelism there is nothing to shard the sequence over: the same plan.
  s.sequence_parallel = reader.boolean("sequence_parallel", false) && s.tp > 1;
  read_recompute(reader, s);
  read_recompute_layers(reader, s);
  s.recompute_early_stop = reader.boolean("recompute_early_stop", false);
  if (s.recompute_early_stop && s.recompute != Recompute::full) {
    reader.mistake("recompute_early_stop", "needs recompute full: nothing else runs whole layers again");
  }
  s.overlap_grad_reduce = reader.boolean("overlap_grad_reduce", s.zero >= 2);
  s.overlap_param_gather = reader.boolean("overlap_param_gather", false);
  if (s.overlap_param_gather && s.zero_kind == ZeroKind::owners) {
    reader.mistake("overlap_param_gather", "needs zero_kind shards: owners broadcast after the whole update");
  }
  if (s.overlap_param_gather && s.zero != 1 && s.zero != 2) {
    reader.mistake("overlap_param_gather", "needs zero 1 or 2: only there parameters are gathered after the optimizer");
  }
  s.overlap_tp = reader.boolean("overlap_tp", true);
  s.overlap_ep = reader.boolean("overlap_ep", false);
  if (s.overlap_ep) {
    check_overlap_ep(reader, s);
  }
  // Rows that sequence parallelism has shared out are parts already.
  s.scatter_gather = reader.boolean("scatter_gather", false) && s.tp > 1 && s.pp > 1 && !s.sequence_parallel;
  s.fused_grad_accumulation = reader.boolean("fused_grad_accumulation", true);
  s.fused_activation = reader.boolean("fused_activation", false);
  s.loss_chunks = reader.integer("loss_chunks", 1, 1, kMaxChunks);
  s.bucket_bytes = reader.bytes("bucket_bytes", Bytes{}).value;
  s.layers_per_stage = reader.integers("layers_per_stage", 0);
  s.rank_order = reader.text("rank_order", s.rank_order);
  try {
    parse_rank_order(s.rank_order);
  } catch (const InputError& e) {
    reader.mistake("rank_order", e.what());
  }
  s.padded_vocab = reader.integer("padded_vocab", 0, 0, 1'000'000'000);
  s.compression = read_compression(reader, s);
  read_unbuilt(reader, s);
  read_data_parallel(reader, s);
  return s;
}

nlohmann::json to_json(const Strategy& s) {
  nlohmann::json all{{"dp", s.dp},
                     {"tp", s.tp},
                     {"pp", s.pp},
                     {"cp", s.cp},
                     {"cp_kind", name(s.cp_kind)},
                     {"ep", s.ep},
                     {"expert_tp", s.expert_tp},
                     {"micro_batch", s.micro_batch},
                     {"virtual_stages", s.virtual_stages},
                     {"schedule", s.schedule == ScheduleKind::text ? s.schedule_path : std::string(name(s.schedule))},
                     {"zero", s.zero},
                     {"sequence_parallel", s.sequence_parallel},
                     {"recompute", recompute_json(s)},
                     {"recompute_early_stop", s.recompute_early_stop},
                     {"overlap_grad_reduce", s.overlap_grad_reduce},
                     {"overlap_param_gather", s.overlap_param_gather},
                     {"overlap_tp", s.overlap_tp},
                     {"overlap_ep", s.overlap_ep},
                     {"scatter_gather", s.scatter_gather},
                     {"fused_grad_accumulation", s.fused_grad_accumulation},
                     {"fused_activation", s.fused_activation},
                     {"bucket_bytes", fmt::format("{} B", s.bucket_bytes)},
                     {"layers_per_stage", s.layers_per_stage},
                     {"rank_order", s.rank_order},
                     {"padded_vocab", s.padded_vocab},
                     {"compression", name(s.compression)}};
  write_data_parallel(s, all);
  if (s.offloads()) {
    all["offload"] = nlohmann::json::array();
    for (const auto& [is_offloaded, word] :
         {std::pair{s.offload_optimizer, "optimizer"}, {s.offload_activations, "activations"}}) {
      if (is_offloaded) {
        all["offload"].push_back(word);
      }
    }
  }
  if (s.post_validation) {
    all["optimizer_sync"] = "post_validation";
  }
  if (s.loss_chunks > 1) {
    all["loss_chunks"] = s.loss_chunks;
  }
  if (s.offload_layers >= 0) {
    all["offload_layers"] = s.offload_layers;
  }
  if (!s.recompute_layers.empty()) {
    const std::vector<std::int64_t>& layers = s.recompute_layers;
    const bool equal = std::all_of(layers.begin(), layers.end(), [&](std::int64_t n) { return n == layers.front(); });
    all["recompute_layers"] = equal ? nlohmann::json(layers.front()) : nlohmann::json(layers);
  }
  if (s.split_by_speed) {
    all["split_by_speed"] = true;
  }
  if (s.zero == 1) {
    all["zero_kind"] = name(s.zero_kind);
  }
  if (s.shard != 0) {
    all["shard"] = s.shard;
  }
  if (s.zero == 3) {
    all["reshard"] = s.reshard;
    all["prefetch"] = s.prefetch;
  }
  return all;
}

}  // namespace foretrain::plan
