#include "search/framework_traffic.h"

#include <algorithm>

#include "sim/network.h"
#include "topologies/profile.h"

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

double more_gradient_seconds(const Reading& reading, const plan::PlanGraph& graph) {
  const plan::Job& job = *reading.job;
  const topologies::Profile* profile = job.cluster.profile.get();
  if (!reading.checks_gradients || job.strategy.zero > 1 || profile == nullptr || !profile->has_roofline) {
    return 0;
  }
  std::int64_t bytes = 0;
  for (const plan::Role& role : graph.roles) {
    bytes = std::max(bytes, role.memory.by_kind[static_cast<std::size_t>(plan::BufferKind::gradient)].value);
  }
  const double passes = job.strategy.dp * job.strategy.cp > 1 ? 3 : 1;
  return passes * static_cast<double>(bytes) /
         (job.cluster.device.memory_bandwidth.value * profile->roofline.memory.value);
}

double more_sharding_seconds(const Reading& reading) {
  const plan::Job& job = *reading.job;
  const plan::Strategy& s = job.strategy;
  const topologies::Profile* profile = job.cluster.profile.get();
  if (reading.sharding == Sharding::other || s.zero != 3 || profile == nullptr || !profile->has_roofline ||
      job.workload.model.moe_layers() > 0) {
    return 0;
  }
  const auto parameter = static_cast<double>(size_bytes(job.workload.precision.parameter, 1));
  const auto gradient = static_cast<double>(size_bytes(job.workload.precision.gradient, 1));
  const double cast = gradient == parameter ? 0 : parameter + gradient;  // reads one, writes the other
  // fsdp1: autograd puts the gradients of a unit's views together; a cast; a division before the reduction.
  // fsdp2: both gathers are copied into the parameters, the gradients into what is reduced, cast on the way.
  const double bytes = reading.sharding == Sharding::fsdp1 ? 2 * parameter + cast + 2 * gradient
                                                           : 2 * (2 * parameter) + parameter + gradient;
  const auto parameters =
      static_cast<double>(workloads::total_parameters(job.workload.model)) / static_cast<double>(s.tp * s.pp);
  return bytes * parameters * static_cast<double>(job.microbatches()) /
         (job.cluster.device.memory_bandwidth.value * profile->roofline.memory.value);
}

}  // namespace foretrain::search
