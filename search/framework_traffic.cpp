#include "search/framework_traffic.h"

#include <algorithm>

#include "sim/network.h"

namespace foretrain::search {

double more_tp_seconds(const Reading& reading) {
  const plan::Job& job = *reading.job;
  const plan::Strategy& s = job.strategy;
  if (s.tp == 1) {
    return 0;
  }
  const auto network = sim::make_network_model("auto", job.cluster);
  const int tp = static_cast<int>(s.tp), per_node = std::min(tp, job.cluster.devices_per_node);
  const sim::GroupPlacement group{tp, (tp + per_node - 1) / per_node, per_node};
  const double rows = static_cast<double>(s.micro_batch * job.workload.seq_len);
  const double microbatches = static_cast<double>(job.microbatches());
  const Dtype activation = job.workload.precision.parameter;  // in 16 bits with fp8 too
  const auto seconds_of = [&](plan::CollectiveKind kind, std::int64_t width) {
    const double bytes = rows * static_cast<double>(size_bytes(activation, width));
    return network->collective(kind, Bytes{static_cast<std::int64_t>(bytes)}, group);
  };
  double more = 0;
  if (reading.reduces_gate_apart && !s.sequence_parallel && workloads::is_gated(job.workload.model.activation)) {
    const double layers = static_cast<double>(job.workload.model.layers) / static_cast<double>(s.pp);
    const double passes = microbatches + static_cast<double>(s.pp - 1);  // with those that fill and drain the pipeline
    more += layers * passes * seconds_of(plan::CollectiveKind::all_reduce, job.workload.model.hidden);
  }
  if (reading.logits_gathered) {
    more += microbatches * seconds_of(plan::CollectiveKind::all_gather, plan::padded_vocab(job));
  }
  return more;
}

double more_dp_seconds(const Reading& reading) {
  const plan::Job& job = *reading.job;
  const plan::Strategy& s = job.strategy;
  if (s.dp == 1 || s.zero != 1 || !reading.all_reduces_gradients) {
    return 0;
  }
  const auto network = sim::make_network_model("auto", job.cluster);
  const int ranks = static_cast<int>(s.dp);
  const int per_node = std::max(1, std::min(ranks, job.cluster.devices_per_node / static_cast<int>(s.tp)));
  const sim::GroupPlacement group{ranks, (ranks + per_node - 1) / per_node, per_node};
  const std::int64_t elements = workloads::total_parameters(job.workload.model) / (s.tp * s.pp);
  const Bytes bytes{size_bytes(job.workload.precision.gradient, elements)};
  return std::max(0.0, network->collective(plan::CollectiveKind::all_reduce, bytes, group) -
                           network->collective(plan::CollectiveKind::reduce_scatter, bytes, group));
}

}  // namespace foretrain::search
