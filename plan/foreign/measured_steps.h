// Steps of a real run as other tools print them: the logs of Megatron-LM, torchtitan and DeepSpeed, and the traces of
// PyTorch's profiler (Kineto). Read as a stream: neither logs nor traces are ever whole in memory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "plan/job.h"

namespace foretrain::plan {

// Kernels of one group of a trace, per step.
struct KernelTime {
  double seconds = 0, count = 0;
};

struct MeasuredSteps {
  std::string format;                         // "log of Megatron-LM"
  std::vector<double> seconds;                // by step, or by what the log takes the mean of
  std::size_t warm_up = 0;                    // the first ones, which do not count
  std::map<std::string, KernelTime> kernels;  // by kernel_group; of a trace only
  std::vector<std::string> warnings;
};

// The group that kernels are compared by: "matmul", "attention", "norm", "optimizer", "all_reduce", "reduce_scatter",
// "all_gather", "broadcast", "send_recv" (also all-to-all, which NCCL builds of sends) or "other", by the kernel's
// name.
std::string kernel_group(std::string_view kernel);
// The same of a kind of op (plan::kind_name).
std::string group_of_kind(std::string_view kind);

// A log line tells a step's time (Megatron-LM: "elapsed time per iteration (ms): …"), or the rate that the job's batch
// makes one of (torchtitan: "tps: …" of a device; DeepSpeed: "CurrSamplesPerSec=…"). Where the log names another batch
// than the job's, a warning. Of four and more the first does not count. Throws InputError where no line tells one.
MeasuredSteps read_log(std::string_view text, const std::string& origin, const Job& job);

// "traceEvents" with "ProfilerStep#…" annotations, of which the first does not count where there are three; without any
// the trace is one step, from the first kernel to the last. Throws InputError "origin: …", also where nothing is a
// kernel or a step.
MeasuredSteps read_kineto(std::string_view text, const std::string& origin);

// The same of what gzip made of it; a "*.json.gz" as the profiler writes it.
MeasuredSteps read_compressed_kineto(std::string_view bytes, const std::string& origin);

// A trace, if it begins like one or is compressed; else a log.
MeasuredSteps read_measured_steps(const std::string& path, const Job& job);

}  // namespace foretrain::plan
