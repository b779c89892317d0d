// Launch scripts. Of a job on this machine they start `foretrain run`, else Megatron-LM, whose arguments stand in the
// script, so that `foretrain import` reads the job back from it.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "plan/foreign/foreign.h"

namespace foretrain::plan {

namespace {

constexpr int kPort = 29500;  // torchrun's own

std::string job_name(const Job& job) {
  std::string name = job.name.empty() ? job.workload.model.name : job.name;
  for (char& c : name) {
    c = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_' ? c : '-';
  }
  return name;
}

// Names may hold anything; what ends a line would end the comment.
std::string comment(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return std::iscntrl(c) != 0; }, ' ');
  return "# " + text + "\n";
}

// What follows the launcher, and the array that it uses.
struct Program {
  std::string setup;  // lines before
  std::string words;
  std::vector<std::string> warnings;
  bool is_python = false;
};

Program program(const Job& job) {
  if (job.cluster.this_machine) {
    return {"JOB=\"${JOB:-job.json}\"  # a job file of foretrain\n", "foretrain run \"$JOB\"", {}, false};
  }
  const ExportedJob megatron = export_megatron(job);
  std::string lines;
  for (std::size_t begin = 0; begin < megatron.files.front().text.size();) {
    const std::string& text = megatron.files.front().text;
    const std::size_t end = text.find('\n', begin);
    std::string line = text.substr(begin, end - begin);
    // A value of special characters is quoted.
    const std::size_t blank = line.find(' ');
    if (blank != std::string::npos && line.find_first_of("()[]*,", blank) != std::string::npos &&
        line[blank + 1] != '"') {
      line = fmt::format("{} \"{}\"", line.substr(0, blank), line.substr(blank + 1));
    }
    lines += fmt::format("  {}\n", line);
    begin = end + 1;
  }
  return {fmt::format("MEGATRON=\"${{MEGATRON:-.}}\"  # the folder of Megatron-LM\n"
                      "export CUDA_DEVICE_MAX_CONNECTIONS=1\n"
                      "ARGS=(\n{})\n",
                      lines),
          "\"$MEGATRON/pretrain_gpt.py\" \"${ARGS[@]}\"", megatron.warnings, true};
}

std::string head(const Job& job, const std::string& directives) {
  const std::string what = fmt::format("{}: {} on {} x {} devices of {}", job_name(job), job.workload.model.name,
                                       job.cluster.nodes, job.cluster.devices_per_node, job.cluster.name);
  return fmt::format("#!/bin/bash\n{}{}set -euo pipefail\n\n", directives, comment(what));
}

}  // namespace

ExportedJob export_slurm(const Job& job) {
  const Program p = program(job);
  const std::int64_t nodes = job.cluster.nodes, devices = job.cluster.devices_per_node;
  std::string text;
  if (p.is_python) {
    text = head(job, fmt::format("#SBATCH --job-name={}\n#SBATCH --nodes={}\n#SBATCH --ntasks-per-node=1\n"
                                 "#SBATCH --gpus-per-node={}\n#SBATCH --exclusive\n",
                                 job_name(job), nodes, devices)) +
           p.setup +
           fmt::format(
               "\nMASTER_ADDR=\"$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)\"\n"
               "srun torchrun --nnodes {} --nproc-per-node {} --rdzv-backend c10d "
               "--rdzv-id \"$SLURM_JOB_ID\" \\\n  --rdzv-endpoint \"$MASTER_ADDR:{}\" {}\n",
               nodes, devices, kPort, p.words);
  } else {
    const std::int64_t per_node = job.strategy.ranks() / std::max<std::int64_t>(1, nodes);
    text = head(job, fmt::format("#SBATCH --job-name={}\n#SBATCH --nodes={}\n#SBATCH --ntasks-per-node={}\n",
                                 job_name(job), nodes, per_node)) +
           p.setup + fmt::format("\nsrun --ntasks {} {}\n", job.strategy.ranks(), p.words);
  }
  return {{{"job.sbatch", text}}, p.warnings};
}

ExportedJob export_torchrun(const Job& job) {
  const Program p = program(job);
  std::string text = head(job, "") + p.setup;
  if (p.is_python) {
    text += fmt::format(
        "\n# On every node: NODE_RANK is its number, MASTER_ADDR the host of number 0.\n"
        "torchrun --nnodes {} --nproc-per-node {} --node-rank \"${{NODE_RANK:-0}}\" \\\n"
        "  --master-addr \"${{MASTER_ADDR:-localhost}}\" --master-port \"${{MASTER_PORT:-{}}}\" {}\n",
        job.cluster.nodes, job.cluster.devices_per_node, kPort, p.words);
  } else {
    text += fmt::format("\ntorchrun --no-python --nproc-per-node {} {}\n", job.strategy.ranks(), p.words);
  }
  return {{{"torchrun.sh", text}}, p.warnings};
}

ExportedJob export_mpirun(const Job& job) {
  const Program p = program(job);
  std::string text = head(job, "") + p.setup;
  if (p.is_python) {
    text += fmt::format(
        "export MASTER_ADDR=\"${{MASTER_ADDR:-$(hostname)}}\" MASTER_PORT=\"${{MASTER_PORT:-{}}}\"\n\n"
        "# Each process turns Open MPI's variables into PyTorch's.\n"
        "# shellcheck disable=SC2016\n"
        "mpirun -np {} --map-by ppr:{}:node -x MASTER_ADDR -x MASTER_PORT -x CUDA_DEVICE_MAX_CONNECTIONS bash -c \\\n"
        "  'RANK=$OMPI_COMM_WORLD_RANK LOCAL_RANK=$OMPI_COMM_WORLD_LOCAL_RANK WORLD_SIZE=$OMPI_COMM_WORLD_SIZE "
        "exec python3 \"$@\"' \\\n  rank {}\n",
        kPort, job.cluster.device_count(), job.cluster.devices_per_node, p.words);
  } else {
    text += fmt::format("\nmpirun -np {} {}\n", job.strategy.ranks(), p.words);
  }
  return {{{"mpirun.sh", text}}, p.warnings};
}

}  // namespace foretrain::plan
