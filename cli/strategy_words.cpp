#include "cli/strategy_words.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/json.h"

namespace foretrain::cli {

namespace {

std::vector<StrategyWord> words() {
  return {
      {"dp",
       "data parallel: every rank has the whole model and a share of the batch; gradients are all-reduced",
       {},
       {}},
      {"gradient accumulation", "several microbatches per step: global_batch > dp x micro_batch", {}, {}, {}},
      {"overlap_grad_reduce", "gradient buckets are reduced behind the last backward", {}, {}, {}},
      {"data_parallel=gather",
       "one rank along dp gathers gradients, sums, updates and broadcasts the parameters",
       {},
       {},
       {}},
      {"data_parallel=all_gather", "gradients of all are gathered, and summed, on every rank", {}, {}, {}},
      {"data_parallel=parameter_server",
       "servers, ranks of their own, hold parameters and state: gradients go there, parameters come back",
       {},
       {},
       {}},
      {"loader_ranks", "ranks of their own read what the others train on, and send it", {}, {}, {}},
      {"server_sharding=hash", "with servers: layers dealt by their names, not by size", {}, {}, {}},
      {"server_replicas=1",
       "a replica of each server makes the same updates: losing a server loses no update that workers have",
       {},
       {},
       {}},
      {"staleness=1",
       "stale synchronous: servers update by each worker's gradients; none is more than a step ahead of the slowest",
       {},
       {},
       {}},
      {"staleness=unbounded", "asynchronous: every worker goes on at its own pace", {}, {}, {}},
      {"server_order=random", "with staleness: one worker per update, in a random order of each step", {}, {}, {}},
      {"compression=fp16", "gradients are rounded to fp16 and summed in it on their way over dp", {}, {}, {}},
      {"compression=bf16", "gradients are rounded to bf16 and summed in it on their way over dp", {}, {}, {}},
      {"compression=int8",
       "gradients go over dp as 8-bit multiples of a scale per 256; what is rounded off is added to the next step's",
       {},
       {},
       {}},
      {"compression=topk:SHARE",
       "only the gradients of largest magnitude go over dp; the others are added to the next step's",
       {},
       {},
       {}},
      {"data_parallel=local_sgd",
       "replicas take average_every steps of their own, then average their parameters; local_group: neighbours that "
       "sum gradients",
       {},
       {},
       {}},
      {"outer_optimizer",
       "with data_parallel=local_sgd: an outer sgd or nesterov step along the averaged change (DiLoCo)",
       {},
       {},
       {}},
      {"zero=1", "optimizer state sharded over dp: reduce-scatter, update of the own shard, all-gather", {}, {}, {}},
      {"zero_kind=owners", "with zero=1: gradients all-reduced, every owner broadcasts what it updated", {}, {}, {}},
      {"zero=2", "gradients sharded too: reduce-scattered layer by layer after every microbatch", {}, {}, {}},
      {"zero=3", "parameters sharded too (FSDP): gathered layer by layer ahead of forward and backward", {}, {}, {}},
      {"reshard=false",
       "with zero=3: parameters stay gathered from the first forward to the last backward",
       {},
       {},
       {}},
      {"shard", "state (and what else zero says) sharded in groups of ranks, each a replica (HSDP)", {}, {}, {}},
      {"overlap_param_gather",
       "with zero=1 or 2: parameters are gathered behind the optimizer of later buckets",
       {},
       {},
       {}},
      {"tp", "tensor parallel: heads, MLP columns and vocabulary split over ranks", {}, {}, {}},
      {"sequence_parallel", "with tp: norms and residuals split along the sequence", {}, {}, {}},
      {"cp_kind=ring",
       "context parallel: sequences cut over ranks; keys and values go round while attention runs",
       {},
       {},
       {}},
      {"cp_kind=all_to_all",
       "context parallel: sequences cut over ranks; attention has whole ones, of a share of the heads",
       {},
       {},
       {}},
      {"cp_kind=all_gather",
       "context parallel: sequences cut over ranks; keys and values of all are gathered before attention",
       {},
       {},
       {}},
      {"overlap_tp=false",
       "with tp: weight gradients wait for the sum of the input gradient instead of running beside it",
       {},
       {},
       {}},
      {"recompute_early_stop",
       "with recompute=full: a layer runs again up to what its backward reads last, not to its end",
       {},
       {},
       {}},
      {"fused_grad_accumulation=false",
       "weight gradients are added up in a pass of their own, as eager PyTorch does, not inside their matmul",
       {},
       {},
       {}},
      {"fused_activation",
       "gelu and its backward inside the MLP's matmuls, as cuBLASLt can; no other activation",
       {},
       {},
       {}},
      {"loss_chunks",
       "output layer and loss on a part of a microbatch's tokens after the other, gradients at once: one part's logits "
       "exist",
       {},
       {},
       {}},
      {"pp", "pipeline parallel: consecutive layers on different ranks", {}, {}, {}},
      {"scatter_gather",
       "with tp and pp: each rank sends its part of what all of the tp group hold, the receivers gather it",
       {},
       {},
       {}},
      {"schedule=gpipe", "all forwards, then all backwards", {}, {}, {}},
      {"schedule=1f1b", "one forward, one backward: few microbatches in flight", {}, {}, {}},
      {"schedule=interleaved", "1F1B over several chunks of layers per rank (virtual_stages)", {}, {}, {}},
      {"schedule=zb_h1",
       "zero bubble H1: weight gradients put off into the pipeline's bubble, activations as 1F1B",
       {},
       {},
       {}},
      {"schedule=zb_h2", "zero bubble H2: twice the activations, idle only where a step begins and ends", {}, {}, {}},
      {"schedule=zb_v", "zero bubble V: two chunks per rank, the model turns round on the last one", {}, {}, {}},
      {"schedule=dualpipe_v",
       "DualPipe in the same V: a backward beside every forward, most of them whole",
       {},
       {},
       {}},
      {"schedule=dualpipe",
       "two copies of the model, half of the microbatches from either end of the pipeline",
       {},
       {},
       {}},
      {"schedule=text", "a schedule written down: one row of F and B, or I and W, per rank", {}, {}, {}},
      {"layers_per_stage", "uneven stages", {}, {}, {}},
      {"split_by_speed",
       "with unequal devices: slower ranks along dp get fewer microbatches, slower stages fewer layers",
       {},
       {}},
      {"tied embeddings", "first and last stage share the embedding's gradient", {}, {}, {}},
      {"ep", "expert parallel: ranks along dp hold different experts and exchange tokens", {}, {}, {}},
      {"expert_tp=1", "with tp: each tp rank routes the tokens of its shard to whole experts", {}, {}, {}},
      {"overlap_ep",
       "with ep: forwards and backwards in pairs, the tokens' exchanges of either behind the other's compute",
       {},
       {},
       {}},
      {"offload=[\"optimizer\"]", "optimizer state and the update on the host", {}, {}, {}},
      {"offload=[\"activations\"]",
       "what layers keep for their backward waits on the host: copied there behind the forward, and back ahead of it",
       {},
       {},
       {}},
      {"optimizer_sync=post_validation",
       "with pp: no stage's optimizer waits for the norm of later stages; it comes back in the next step",
       {},
       {},
       {}},
      {"recompute=selective", "attention's inner products are computed again in the backward", {}, {}, {}},
      {"recompute=[\"norm\", \"activation\", ...]",
       "modules of a layer are computed again in the backward: attention_core, norm, activation, mlp",
       {},
       {},
       {}},
      {"recompute=full", "whole layers are computed again in the backward", {}, {}, {}},
      {"recompute_layers", "only the first layers of a stage are; the others keep everything", {}, {}, {}},
  };
}

std::optional<bool> claim(ObjectReader& entry, const std::string& key) {
  return entry.has(key) ? std::optional(entry.boolean(key, false)) : std::nullopt;
}

}  // namespace

std::vector<StrategyWord> strategy_words() {
  std::vector<StrategyWord> all = words();
  const std::string path = catalogue_home() + "/reports/strategies.json";
  if (!std::filesystem::exists(path)) {
    return all;
  }
  const JsonDocument document = JsonDocument::from_file(path);
  Mistakes mistakes;
  ObjectReader root(document, mistakes);
  root.word("schema", std::nullopt, {"foretrain.strategies/1"});
  ObjectReader results = root.object("words");
  for (StrategyWord& word : all) {
    ObjectReader entry = results.object(word.name, false);
    if (entry.present()) {
      word.simulated = claim(entry, "simulated");
      word.executed = claim(entry, "executed");
      word.compared = claim(entry, "compared");
      entry.finish();
    }
  }
  results.finish();
  root.finish();
  mistakes.throw_if_any();
  return all;
}

}  // namespace foretrain::cli
