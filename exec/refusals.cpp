#include "exec/refusals.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace foretrain::exec {

namespace {

bool attends_to_padded(const plan::PlanGraph& graph) {
  const auto is_padded = [](const plan::Op& op) {
    const auto* const attention = std::get_if<plan::Attention>(&op.work);
    return attention != nullptr && attention->padded;
  };
  return std::any_of(graph.roles.begin(), graph.roles.end(), [&](const plan::Role& role) {
    return std::any_of(role.blocks.begin(), role.blocks.end(), [&](const plan::Block& block) {
      return std::any_of(block.ops.begin(), block.ops.end(), is_padded);
    });
  });
}

bool computes_in_fp16(const plan::PlanGraph& graph) {
  const auto is_weight = [](const plan::Buffer& buffer) {
    return buffer.dtype == Dtype::fp16 && buffer.kind == plan::BufferKind::parameter;
  };
  return std::any_of(graph.roles.begin(), graph.roles.end(), [&](const plan::Role& role) {
    return std::any_of(role.buffers.begin(), role.buffers.end(), is_weight);
  });
}

}  // namespace

void refuse_graph(const plan::PlanGraph& graph, bool on_gpu, bool on_one_host) {
  // What is sent to train on lies on the host.
  if (graph.loader_ranks > 0 && on_gpu) {
    throw InputError("strategy.loader_ranks: runs on cores so far, not on GPUs");
  }
  // Whose turn it is at a server is known where all ranks meet in one memory.
  if (graph.asynchronous && (on_gpu || !on_one_host)) {
    throw InputError(
        fmt::format("strategy.staleness: servers that wait for nobody run on the cores of one host so far, "
                    "not on {}",
                    on_gpu ? "GPUs" : "several hosts"));
  }
  // A GPU's kernels would have to be told each sequence's length.
  if (on_gpu && attends_to_padded(graph)) {
    throw InputError(
        "model: attention to padded sequences (head classifier) runs on cores so far, not on GPUs; expected "
        "--device cpu");
  }
  // A GPU's kernels only cast fp16, and sum it on its way between ranks.
  if (on_gpu && computes_in_fp16(graph)) {
    throw InputError("precision: fp16 runs on cores so far, not on GPUs; expected bf16, or --device cpu");
  }
}

void refuse_pace_on_gpu(const plan::PlanGraph& graph, const RunOptions& options) {
  const bool reads_ahead = std::any_of(graph.roles.begin(), graph.roles.end(), [](const plan::Role& role) {
    const plan::Host* const op = plan::reading_op(role);
    return op != nullptr && op->prefetch > 0;
  });
  const char* const word = !options.speeds.empty()        ? "cluster.disturbance"
                           : reads_ahead                  ? "workload.data.prefetch"
                           : graph.data.kept > 0          ? "workload.data.cache"
                           : options.storage.is_limited() ? "cluster.storage"
                                                          : nullptr;
  if (word != nullptr) {
    throw InputError(fmt::format("{}: runs on cores so far, not on GPUs", word));
  }
}

}  // namespace foretrain::exec
