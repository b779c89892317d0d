#include <algorithm>
#include <limits>

#include "plan/work.h"
#include "reports/estimate.h"

namespace foretrain::reports {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double peak_of(const topologies::Device& device, Dtype dtype) {
  const auto found = device.peak.find(dtype);
  return found == device.peak.end() ? kNone : found->second.value;
}

bool is_below_16_bit(Dtype d) {
  return d == Dtype::fp8 || d == Dtype::mxfp8 || d == Dtype::nvfp4;
}

}  // namespace

Efficiency efficiency(const plan::Job& job, const plan::PlanGraph& graph, double step_seconds) {
  const workloads::Workload& w = job.workload;
  const topologies::Cluster& cluster = job.cluster;
  Efficiency e;
  e.devices =
      cluster.this_machine ? std::min<std::int64_t>(graph.mesh.ranks(), cluster.cores()) : cluster.device_count();
  e.peak_flops = peak_of(cluster.device, w.precision.compute);
  e.model_flops = workloads::model_flops(w.model, w.global_batch, w.seq_len, false, w.target_len);
  e.model_flops_causal = workloads::model_flops(w.model, w.global_batch, w.seq_len, true, w.target_len);
  e.hardware_flops = plan::matmul_flops_per_step(graph);
  const double device_seconds = step_seconds * static_cast<double>(e.devices);
  e.mfu = e.model_flops / (device_seconds * e.peak_flops);
  e.mfu_causal = e.model_flops_causal / (device_seconds * e.peak_flops);
  e.hfu = e.hardware_flops / (device_seconds * e.peak_flops);
  e.mfu_bf16 = is_below_16_bit(w.precision.compute)
                   ? e.model_flops / (device_seconds * peak_of(cluster.device, Dtype::bf16))
                   : kNone;
  return e;
}

}  // namespace foretrain::reports
