#include "search/training_strategy.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace foretrain::search {

namespace {

using nlohmann::json;

// Schedules as rows call them and as the job file does. 1F1B with chunks is interleaved there by itself.
struct ScheduleWord {
  const char *row, *job;
};
constexpr ScheduleWord kSchedules[] = {
    {"", ""},           {"1F1B", ""},       {"1F1B-I", ""},     {"Interleaved1F1B", ""},
    {"GPipe", "gpipe"}, {"ZB-1p", "zb_h1"}, {"ZB-2p", "zb_h2"}, {"DualPipe", "dualpipe"}};
const ScheduleWord* schedule_of(const std::string& word) {
  const auto* found =
      std::find_if(std::begin(kSchedules), std::end(kSchedules), [&](const ScheduleWord& s) { return s.row == word; });
  return found == std::end(kSchedules) ? nullptr : found;
}

// The word that mixed-precision recipes go by here; nothing where the row is silent or says what nobody knows.
std::optional<std::string> precision_word(const std::string& words) {
  for (const char* word : {"bf16", "fp8", "fp32", "tf32"}) {
    if (words.starts_with(word)) {
      return word;
    }
  }
  // "fp16/bf16 mixed": one or the other, of the same speed.
  return words.starts_with("fp16/bf16") ? std::optional<std::string>("bf16")
         : words.starts_with("fp16")    ? std::optional<std::string>("fp16")
                                        : std::nullopt;
}

std::optional<std::string> recompute_word(const std::string& words) {
  for (const char* word : {"none", "selective", "full"}) {
    if (words.starts_with(word)) {
      return word;
    }
  }
  return std::nullopt;
}

// Only a plain denial is a statement on data-parallel overlap; other remarks speak of other traffic.
std::optional<bool> overlap_stated(const std::string& words) {
  return words.find("NOT overlapped") != std::string::npos || words.find("overlap disabled") != std::string::npos
             ? std::optional<bool>(false)
             : std::nullopt;
}

std::optional<bool> tp_overlap_stated(const std::string& words) {
  return words.find("all TP/DP/PP overlap disabled") != std::string::npos ? std::optional<bool>(false) : std::nullopt;
}

std::optional<std::int64_t> zero_stated(const TrainingRow& row) {
  if (row.plan.zero_stage) {
    return row.plan.zero_stage;
  }
  if (row.plan.distributed_optimizer.value_or(false)) {
    return 1;
  }
  return row.plan.distributed_optimizer ? std::optional<std::int64_t>(0) : std::nullopt;
}

constexpr std::int64_t kMostStages = 4096;  // that a row may ask for

// "one layer per chunk": where two chunks are left over, they hold the embedding and the head and no layer.
void fill_chunks(const TrainingRow& row, Filler& f) {
  const std::int64_t layers = row.model.layers.value_or(1), pp = *row.plan.pp;
  const bool has_ends = (layers + 2) % pp == 0 && (layers + 2) / pp > 1;
  const std::int64_t chunks = std::max<std::int64_t>(1, (layers + (has_ends ? 2 : 0)) / pp);
  f.by_rule("strategy.virtual_stages", chunks, fmt::format("\"{}\"", row.plan.vpp_words));
  if (has_ends && layers < kMostStages) {
    std::vector<std::int64_t> split(static_cast<std::size_t>(layers + 2), 1);
    split.front() = split.back() = 0;
    f.by_rule("strategy.layers_per_stage", split,
              "the embedding and the head are chunks of their own: layers + 2 = pp x chunks");
  }
}

// Where a pipeline is cut: embedding, layers, final norm and head as items of one list, in parts of equal length of
// which the first ones are longer (uniform); or layers alone, where the last stages have one more (last_stages), or all
// stages are full but the last, which has what is left beside the head (last_has_rest).
void fill_partition(const TrainingRow& row, Filler& f) {
  const auto partition = row.plan.pp.value_or(1) > 1 ? f.word("pipeline_partition") : std::nullopt;
  const std::int64_t layers = row.model.layers.value_or(1),
                     virtual_stages = f.document()["strategy"].value("virtual_stages", std::int64_t{1});
  const std::int64_t stages = row.plan.pp.value_or(1) * virtual_stages;
  if (!partition || stages > layers || stages > kMostStages || (virtual_stages > 1 && *partition != "last_has_rest")) {
    return;
  }
  std::vector<std::int64_t> split;
  if (*partition == "last_has_rest") {
    const std::int64_t full = (layers + stages - 1) / stages;
    split.assign(static_cast<std::size_t>(stages), full);
    split.back() = layers - full * (stages - 1);
  } else {
    const bool of_items = *partition == "uniform";
    const std::int64_t items = layers + (of_items ? 3 : 0), rest = items % stages;
    split.assign(static_cast<std::size_t>(stages), items / stages);
    for (std::int64_t i = 0; i < rest; ++i) {
      ++split[static_cast<std::size_t>(of_items ? i : stages - 1 - i)];
    }
    if (of_items) {
      split.front() -= 1;
      split.back() -= 2;
    }
  }
  if (*std::min_element(split.begin(), split.end()) >= 0) {
    f.by_rule("strategy.layers_per_stage", split, "pipeline_partition");
  }
}

void fill_recompute_layers(const TrainingRow& row, Filler& f) {
  const std::int64_t pp = row.plan.pp.value_or(1);
  if (row.plan.recompute.starts_with("full (on every stage but the last") && pp <= kMostStages) {
    std::vector<std::int64_t> layers(static_cast<std::size_t>(pp), row.model.layers.value_or(1));
    layers.back() = 0;
    f.state("strategy.recompute_layers", layers);
  }
}

// A stated dp that contradicts devices, tp, pp and cp gives way to them.
std::optional<std::int64_t> data_parallel(const TrainingRow& row) {
  const auto& p = row.plan;
  const std::int64_t others = p.tp.value_or(1) * p.pp.value_or(1) * p.cp.value_or(1);
  const std::int64_t gpus = row.cluster.gpus.value_or(0);
  return p.dp && gpus % others == 0 && *p.dp * others != gpus ? std::nullopt : p.dp;
}

// Some frameworks split what a data-parallel rank has into as many microbatches as the pipeline has stages.
void fill_micro_batch(const TrainingRow& row, Filler& f) {
  const auto& p = row.plan;
  const bool splits =
      !p.micro_batch && p.pp.value_or(1) > 1 && p.dp && p.global_batch && f.word("pipeline_microbatches") == "stages";
  if (splits) {
    const std::int64_t stages = *p.pp * f.document()["strategy"].value("virtual_stages", std::int64_t{1});
    f.by_rule("strategy.micro_batch", std::max<std::int64_t>(1, *p.global_batch / *p.dp / stages),
              "pipeline_microbatches");
    return;
  }
  f.fill("strategy.micro_batch", "micro_batch", p.micro_batch);
}

// FSDP is ZeRO-3, unless a rule says that a framework has it keep more.
void fill_sharding(const TrainingRow& row, Filler& f) {
  const auto& p = row.plan;
  if (!row.is_fsdp()) {
    f.fill("strategy.zero", "zero", zero_stated(row));
  } else if (f.by_rule("strategy.zero", "fsdp_stage") == nullptr) {
    f.state("strategy.zero", 3);
  }
  if (f.document()["strategy"].value("zero", std::int64_t{0}) == 1) {
    f.by_rule("strategy.zero_kind", "zero_kind");
  }
  if (p.zero1_group && p.dp && *p.zero1_group < *p.dp) {
    f.state("strategy.shard", *p.zero1_group);
  }
}

}  // namespace

bool knows_schedule(const TrainingRow& row) {
  return schedule_of(row.plan.schedule) != nullptr;
}

bool runs_dualpipe(const TrainingRow& r) {
  return r.plan.overlap.find("DualPipe") != std::string::npos;
}

void fill_strategy(const TrainingRow& row, Filler& f) {
  const auto& p = row.plan;
  f.require("workload.global_batch", p.global_batch);
  f.fill("workload.precision", "precision", precision_word(p.precision));
  f.by_rule("workload.attention", "attention");
  f.by_rule("workload.optimizer", "optimizer");
  if (const auto dp = data_parallel(row)) {
    f.state("strategy.dp", *dp);
  }
  f.require("strategy.tp", p.tp);
  f.require("strategy.pp", p.pp);
  if (p.cp.value_or(1) > 1) {
    f.state("strategy.cp", *p.cp);
    if (p.cp_comm == "a2a") {
      f.state("strategy.cp_kind", "all_to_all");
    } else if (p.cp_comm.empty()) {
      f.by_rule("strategy.cp_kind", "cp_kind");
    }
  }
  const bool chunks = p.schedule == "1F1B-I" || p.schedule == "Interleaved1F1B" || p.schedule.empty();
  if (p.pp.value_or(1) > 1 && chunks) {
    if (!p.vpp_words.empty() && p.schedule == "1F1B-I") {
      fill_chunks(row, f);
    } else {
      f.fill("strategy.virtual_stages", "virtual_stages", p.vpp);
    }
  }
  fill_partition(row, f);
  fill_micro_batch(row, f);
  if (const ScheduleWord* schedule = schedule_of(p.schedule); schedule != nullptr && *schedule->job != '\0') {
    f.state("strategy.schedule", schedule->job);
  } else if (runs_dualpipe(row)) {  // whose exchanges run behind compute, which is built with DualPipeV
    f.by_rule("strategy.schedule", "dualpipe_v", "DeepSeek-V3 Technical Report (arXiv:2412.19437), section 3.2.1");
  }
  if (p.schedule.starts_with("ZB-")) {
    f.by_rule(
        "strategy.optimizer_sync", "post_validation",
        "arXiv:2401.10241, section 4 and appendix E: ZB-2p's optimizer does not wait for the norm over all stages; of "
        "ZB-1p it is not said, and taken alike");
  }
  fill_sharding(row, f);
  if (row.model.moe && p.tp.value_or(1) > 1 && !p.sequence_parallel) {
    f.by_rule(
        "strategy.sequence_parallel", true,
        "Megatron-core: experts with tensor parallelism need it (megatron/core/transformer/transformer_config.py)");
  } else {
    f.fill("strategy.sequence_parallel", "sequence_parallel", p.sequence_parallel);
  }
  f.fill("strategy.recompute", "recompute", recompute_word(p.recompute));
  fill_recompute_layers(row, f);
  if (f.document()["strategy"].value("recompute", "none") == "full" && !row.model.moe) {
    f.by_rule("strategy.recompute_early_stop", "recompute_early_stop");
  }
  f.fill("strategy.overlap_grad_reduce", "overlap_grad_reduce", overlap_stated(p.overlap));
  const std::int64_t zero = f.document()["strategy"].value("zero", std::int64_t{0});
  if (zero == 1 || zero == 2) {
    f.fill("strategy.overlap_param_gather", "overlap_param_gather", overlap_stated(p.overlap));
  }
  f.fill("strategy.overlap_tp", "overlap_tp", tp_overlap_stated(p.overlap));
  if (runs_dualpipe(row) || p.overlap.find("EP all-to-all overlap") != std::string::npos) {
    f.state("strategy.overlap_ep", true);
  }
  f.by_rule("strategy.scatter_gather", "scatter_gather");
  f.by_rule("strategy.fused_grad_accumulation", "fused_grad_accumulation");
  if (p.activation_cpu_offload.value_or(false)) {
    f.fill("strategy.offload", "offload", std::optional(json::array({"activations"})));
  }
  f.by_rule("strategy.bucket_bytes", "bucket_bytes");
}

}  // namespace foretrain::search
