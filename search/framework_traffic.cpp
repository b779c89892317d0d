#include "search/framework_traffic.h"

#include <algorithm>

#include "sim/network.h"

namespace foretrain::search {

namespace {

double elements_of_rank(const plan::Job& job) {
  const plan::Strategy& s = job.strategy;
  return static_cast<double>(workloads::total_parameters(job.workload.model)) / static_cast<double>(s.tp * s.pp);
}

// Tensors of the parameters that the first rank holds.
std::size_t tensors_of(const plan::PlanGraph& graph) {
  std::size_t tensors = 0;
  for (const plan::ParameterFamily& f : graph.roles.front().parameter_families) {
    tensors += f.parameters.size() * static_cast<std::size_t>(std::max(1, f.layers));
  }
  return tensors;
}

}  // namespace

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

double more_dp_seconds(const Reading& reading, const plan::PlanGraph& graph) {
  const plan::Job& job = *reading.job;
  const plan::Strategy& s = job.strategy;
  if (s.dp == 1 || s.zero != 1) {
    return 0;
  }
  const auto network = sim::make_network_model("auto", job.cluster);
  const int ranks = static_cast<int>(s.dp);
  const int per_node = std::max(1, std::min(ranks, job.cluster.devices_per_node / static_cast<int>(s.tp)));
  const sim::GroupPlacement group{ranks, (ranks + per_node - 1) / per_node, per_node};
  const auto seconds_of = [&](plan::CollectiveKind kind, Dtype type, double share) {
    const double bytes = elements_of_rank(job) * static_cast<double>(size_bytes(type, 1)) * share;
    return network->collective(kind, Bytes{static_cast<std::int64_t>(bytes)}, group);
  };
  const workloads::Precision& precision = job.workload.precision;
  double more = 0;
  if (reading.all_reduces_gradients) {
    more += seconds_of(plan::CollectiveKind::all_reduce, precision.gradient, 1) -
            seconds_of(plan::CollectiveKind::reduce_scatter, precision.gradient, 1);
  }
  if (reading.broadcasts_parameters && s.shards() == s.dp) {
    const auto owners = static_cast<double>(std::min<std::size_t>(tensors_of(graph), static_cast<std::size_t>(s.dp)));
    more += owners * seconds_of(plan::CollectiveKind::broadcast, precision.parameter, 1 / owners) -
            seconds_of(plan::CollectiveKind::all_gather, precision.parameter, 1);
  }
  return std::max(0.0, more);
}

}  // namespace foretrain::search
