#include "tests/exec/strategies.h"

#include <string>

namespace foretrain::testing {

bool is_refused(const Overrides& o) {
  const auto word = [&](const char* key) { return o.contains(key) ? o.at(key) : std::string(); };
  const auto cut = [&](const char* key) { return !word(key).empty() && word(key) != "1"; };
  const std::string by = word("data_parallel");
  if (!by.empty() && (!word("zero").empty() || !word("compression").empty() || (by != "all_gather" && cut("cp")) ||
                      (by == "parameter_server" && (cut("tp") || cut("pp"))) ||
                      (by != "all_gather" && word("workload.optimizer").find("lamb") != std::string::npos))) {
    return true;
  }
  if (cut("loader_ranks") && !by.empty() && by != "all_gather") {
    return true;
  }
  return (word("zero") >= "2" && (word("schedule").starts_with("zb_") || word("schedule") == "dualpipe_v")) ||
         (word("zero") >= "2" && cut("loss_chunks") && word("schedule") == "gpipe") ||
         (word("recompute").find("attention_core") != std::string::npos && !word("cp").empty() && word("cp") != "1" &&
          word("cp_kind") != "all_to_all") ||
         ((!word("workload.model.attention_window").empty() || !word("document_length").empty()) &&
          !word("cp").empty() && word("cp") != "1" && (word("cp_kind").empty() || word("cp_kind") == "ring")) ||
         (word("workload.model.attention_sinks") == "true" &&
          (word("attention") == "unfused" || word("attention") == "fused_softmax")) ||
         (!word("compression").empty() && (!word("zero").empty() || !word("tp").empty() || !word("pp").empty())) ||
         (word("zero_kind") == "owners" && (word("zero") != "1" || word("overlap_param_gather") == "true"));
}

const std::vector<Strategy>& strategies() {
  static const std::vector<Strategy> all = {
      {"dp", {{"dp", "2"}}},
      {"dp_overlap", {{"dp", "2"}, {"overlap_grad_reduce", "true"}, {"bucket_bytes", "1 kB"}}},
      {"all_coded",
       {{"dp", "2"}, {"compression", "topk:1"}, {"overlap_grad_reduce", "true"}, {"bucket_bytes", "1 kB"}}},
      {"gather", {{"dp", "2"}, {"data_parallel", "gather"}, {"bucket_bytes", "1 kB"}}},
      {"all_gather", {{"dp", "2"}, {"data_parallel", "all_gather"}, {"bucket_bytes", "1 kB"}}},
      {"servers", {{"dp", "2"}, {"data_parallel", "parameter_server"}, {"servers", "2"}}},
      {"loaders", {{"dp", "2"}, {"loader_ranks", "2"}}},
      {"replicated_servers",
       {{"dp", "2"}, {"data_parallel", "parameter_server"}, {"servers", "2"}, {"server_replicas", "1"}}},
      {"zero1", {{"dp", "2"}, {"zero", "1"}}},
      {"zero1_overlap",
       {{"dp", "2"},
        {"zero", "1"},
        {"overlap_grad_reduce", "true"},
        {"overlap_param_gather", "true"},
        {"bucket_bytes", "1 kB"}}},
      {"zero1_owners", {{"dp", "2"}, {"zero", "1"}, {"zero_kind", "owners"}, {"bucket_bytes", "1 kB"}}},
      {"zero2", {{"dp", "2"}, {"zero", "2"}}},
      {"zero3", {{"dp", "2"}, {"zero", "3"}}},
      {"zero3_stays_gathered", {{"dp", "2"}, {"zero", "3"}, {"reshard", "false"}}},
      {"zero1_in_groups",
       {{"dp", "4"}, {"global_batch", "24"}, {"zero", "1"}, {"shard", "2"}, {"overlap_grad_reduce", "true"}}},
      {"zero3_in_groups",
       {{"dp", "4"}, {"global_batch", "24"}, {"zero", "3"}, {"shard", "2"}, {"strategy.prefetch", "2"}}},
      {"tp", {{"tp", "2"}}},
      {"tp_sp", {{"tp", "2"}, {"sequence_parallel", "true"}}},
      {"tp_waits", {{"tp", "2"}, {"overlap_tp", "false"}}},
      {"scatter_gather", {{"tp", "2"}, {"pp", "2"}, {"scatter_gather", "true"}}},
      {"recompute_early_stop",
       {{"tp", "2"}, {"sequence_parallel", "true"}, {"recompute", "full"}, {"recompute_early_stop", "true"}}},
      {"unfused_accumulation", {{"fused_grad_accumulation", "false"}}},
      {"fused_activation", {{"tp", "2"}, {"fused_activation", "true"}}},
      {"loss_chunks", {{"loss_chunks", "3"}}},
      {"gpipe", {{"pp", "2"}, {"schedule", "gpipe"}}},
      {"one_f_one_b", {{"pp", "2"}, {"schedule", "1f1b"}}},
      {"interleaved", {{"pp", "2"}, {"schedule", "interleaved"}, {"virtual_stages", "2"}}},
      {"zb_h1", {{"pp", "2"}, {"schedule", "zb_h1"}}},
      {"zb_h2", {{"pp", "3"}, {"schedule", "zb_h2"}}},
      {"zb_v", {{"pp", "2"}, {"schedule", "zb_v"}}},
      {"dualpipe_v", {{"pp", "2"}, {"schedule", "dualpipe_v"}}},
      {"uneven", {{"pp", "2"}, {"schedule", "1f1b"}, {"layers_per_stage", "[3,1]"}}},
      {"ends_alone", {{"pp", "3"}, {"layers_per_stage", "[0,4,0]"}}},
      {"uneven_interleaved",
       {{"pp", "2"},
        {"schedule", "interleaved"},
        {"virtual_stages", "2"},
        {"workload.model.layers", "5"},
        {"layers_per_stage", "[1,2,1,1]"}}},
      {"recompute_selective", {{"recompute", "selective"}}},
      {"recompute_full", {{"recompute", "full"}}},
      {"recompute_parts", {{"recompute", R"(["attention_core","norm","activation"])"}}},
      {"recompute_mlp", {{"recompute", R"(["norm","mlp"])"}}},
      {"micro_batch", {{"micro_batch", "3"}}},
      {"unfused", {{"attention", "unfused"}}},
      {"fused_softmax", {{"attention", "fused_softmax"}}},
      {"cp_ring", {{"cp", "2"}, {"attention", "flash"}}},
      {"cp_all_to_all", {{"cp", "2"}, {"cp_kind", "all_to_all"}, {"workload.model.kv_heads", "4"}}},
      {"cp_all_gather", {{"cp", "2"}, {"cp_kind", "all_gather"}, {"attention", "flash"}}},
      {"rank_order", {{"rank_order", "tp,cp,dp,pp"}}},
      {"momentum", {{"workload.optimizer", R"({"name":"momentum","learning_rate":0.05})"}}},
      {"rmsprop", {{"workload.optimizer", R"({"name":"rmsprop","learning_rate":0.002})"}}},
      {"lamb", {{"workload.optimizer", R"({"name":"lamb","learning_rate":0.01})"}}},
      {"parallel_residual", {{"workload.model.parallel_residual", "true"}, {"workload.model.rotary_dim", "4"}}},
      {"qk_norm", {{"workload.model.qk_norm", "true"}, {"workload.model.activation", "gelu_erf"}}},
      {"windows", {{"workload.model.attention_window", "5"}, {"workload.model.full_attention_every", "2"}}},
      {"documents", {{"document_length", "5"}}},
      {"sinks", {{"workload.model.attention_sinks", "true"}, {"workload.model.activation", "swiglu_clamped"}}},
      {"one_norm", {{"workload.model.parallel_residual", "true"}, {"workload.model.shared_norm", "true"}}},
  };
  return all;
}

}  // namespace foretrain::testing
