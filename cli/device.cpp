#include "cli/device.h"

#include <fmt/format.h>

#include "base/error.h"
#include "exec/cuda.h"

namespace foretrain::cli {

void DeviceArguments::add_to(Options& options) {
  options.word("device", &word, {"cpu", "cuda"},
               "what ranks compute on: a core each; or an NVIDIA GPU, which those of one process share [cpu]");
}

void DeviceArguments::add_deterministic_to(Options& options) {
  options.flag(
      "deterministic", &deterministic,
      "the same bits in every run on a GPU too: without cuDNN's backward of attention, whose sums have no order");
}

plan::Job DeviceArguments::load(const JobArguments& arguments, int processes) const {
  plan::Job job = arguments.load();
  if (!is_gpu() || !job.cluster.this_machine) {
    return job;
  }
  if (job.cluster.is_hosts()) {
    throw InputError(fmt::format("{}: /cluster/nodes: GPUs of {} hosts are not forecast; expected 1 with --device cuda",
                                 job.origin, job.cluster.nodes));
  }
  std::vector<std::string> further;
  if (!job.cluster.is_gpu) {
    further.emplace_back("cluster.system=this-gpu");
  }
  if (processes > 1) {
    further.push_back(fmt::format("cluster.devices_per_node={}", processes));
  }
  return further.empty() ? job : arguments.load(further);
}

std::unique_ptr<exec::Gpu> DeviceArguments::open(const exec::Processes& processes) const {
  if (!is_gpu()) {
    return nullptr;
  }
  int before = 0;  // processes on this host
  for (int p = 0; p < processes.number(); ++p) {
    before += processes.same_host(p, processes.number()) ? 1 : 0;
  }
  return exec::open_cuda(before, deterministic);
}

}  // namespace foretrain::cli
