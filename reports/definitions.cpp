#include "reports/definitions.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace foretrain::reports {

namespace {

constexpr Defines kFigure = Defines::figure, kStatus = Defines::status;

constexpr Definition kFigures[] = {
    {kFigure, "schema", "the document's format and its version; keys may be added, none changes its meaning"},
    {kFigure, "fits", "whether every device's demand goes into its memory; false exactly where memory.verdict is OOM"},
    {kFigure, "step_time_s", "seconds from the end of one training step to the end of the next, once steps are alike"},
    {kFigure, "tokens_per_s",
     "tokens that all devices together train on per second: global_batch x seq_len / step_time_s"},
    {kFigure, "tokens_per_s_per_device", "tokens_per_s / devices"},
    {kFigure, "model_flops_per_step",
     "floating-point operations of the model's forward and backward as Megatron counts them: attention whole (no "
     "causal "
     "halving), nothing recomputed"},
    {kFigure, "model_tflops_per_device", "model_flops_per_step / step_time_s / devices / 1e12"},
    {kFigure, "mfu",
     "model FLOPs utilisation: model_flops_per_step / (step_time_s x devices x the dense peak of the compute dtype)"},
    {kFigure, "hfu", "hardware FLOPs utilisation: as mfu, of all matmuls that really run, recomputed ones too"},
    {kFigure, "mfu_causal_halved",
     "mfu with the half of causal attention that is masked left out of the model's FLOPs"},
    {kFigure, "mfu_bf16", "mfu against the bf16 peak, for fp8 and below; null for others"},
    {kFigure, "mfu_basis.formula", "how mfu comes from the other figures"},
    {kFigure, "mfu_basis.peak_flops_per_device", "FLOP/s of one device that mfu is of"},
    {kFigure, "mfu_basis.peak", "which peak that is: dense, of the compute dtype, as the datasheet has it"},
    {kFigure, "mfu_basis.dtype", "the compute dtype"},
    {kFigure, "mfu_basis.devices", "devices that figures per device divide by"},
    {kFigure, "mfu_basis.hardware_flops_per_step", "FLOPs of all matmuls of a step, recomputed ones too"},
    {kFigure, "breakdown_s.compute",
     "part of the step in which the compute stream runs ops of forward and backward, mean over ranks"},
    {kFigure, "breakdown_s.recompute", "part in which the compute stream runs forward ops again for the backward"},
    {kFigure, "breakdown_s.exposed_tp", "part in which compute waits for tensor-parallel communication"},
    {kFigure, "breakdown_s.exposed_dp",
     "part in which compute waits for data-parallel communication: gradients, shards, parameters"},
    {kFigure, "breakdown_s.exposed_pp",
     "part in which compute waits for a message between pipeline stages that is on its way"},
    {kFigure, "breakdown_s.exposed_cp", "part in which compute waits for context-parallel communication"},
    {kFigure, "breakdown_s.exposed_ep", "part in which compute waits for tokens' exchanges between experts"},
    {kFigure, "breakdown_s.bubble", "part in which a rank has nothing to do until other ranks get there"},
    {kFigure, "breakdown_s.optimizer", "part in which the compute stream runs the optimizer"},
    {kFigure, "breakdown_s.host", "part in which compute waits for its host: copies, batches, submitting ops"},
    {kFigure, "role", "ranks that run the same program: a pipeline stage, a server, a loader"},
    {kFigure, "first_rank", "the lowest rank of them"},
    {kFigure, "ranks", "how many they are"},
    {kFigure, "layers", "layers that each rank of the role has"},
    {kFigure, "staleness.*", "of asynchronous updates: how many steps older than the parameters gradients were"},
    {kFigure, "reading.*",
     "bytes that all ranks read of storage and cache, of first and later epochs, and their step times"},
    {kFigure, "links.*", "bytes that hosts send each other in a step, by pair"},
    {kFigure, "peak_bytes", "the largest arena that the memory plan gives a rank; run allocates exactly that"},
    {kFigure, "verdict", "FITS; TIGHT: fits once the caching allocator gives segments back; OOM: does not fit"},
    {kFigure, "capacity_bytes", "what a program can allocate on the device"},
    {kFigure, "demand_bytes", "what has to go into capacity_bytes, on the device that needs most"},
    {kFigure, "missing_bytes", "what demand_bytes is above capacity_bytes; 0 where it fits"},
    {kFigure, "shared_by_all_ranks", "whether all ranks' arenas share one memory, as on this machine's cores"},
    {kFigure, "fullest_role", "the role whose devices need most"},
    {kFigure, "context_bytes", "what CUDA's context takes of the device"},
    {kFigure, "communicator_bytes", "what NCCL's communicators take of the device"},
    {kFigure, "host_bytes", "what a rank keeps in its host's memory"},
    {kFigure, "peak_rank", "the first rank with the largest arena"},
    {kFigure, "by_kind_bytes.*", "of that arena, by what buffers hold"},
    {kFigure, "allocated_bytes", "tensors of the fullest device at its peak"},
    {kFigure, "reserved_bytes", "allocated_bytes and what the caching allocator holds beyond them"},
    {kFigure, "device_visible_bytes", "reserved_bytes, context and communicators: what nvidia-smi would show"},
    {kFigure, "allocated_by_kind_bytes.*", "of allocated_bytes, by what tensors hold"},
    {kFigure, "largest[].name", "one of the ten largest tensors, all copies of it"},
    {kFigure, "largest[].kind", "what it holds"},
    {kFigure, "largest[].bytes", "what all its copies take"},
    {kFigure, "fixes", "where it does not fit, at most three changes of the job that would"},
    {kFigure, "fixes[].change", "overrides that make it fit"},
    {kFigure, "fixes[].demand_bytes", "demand_bytes with them"},
    {kFigure, "fixes[].step_time_s", "step_time_s with them, by closed forms of communication"},
    {kFigure, "error_band.low_s", "step time below which few runs stay, from published runs beside their forecasts"},
    {kFigure, "error_band.high_s", "step time above which few runs stay"},
    {kFigure, "error_band.basis", "what the band rests on"},
    {kFigure, "models.compute", "how times of ops were found: roofline, or measured tables of a profile"},
    {kFigure, "models.network", "how times of communication were found: alpha_beta, fair_share or measured"},
    {kFigure, "notes", "remarks that a reader needs beside the figures"},
    {kFigure, "resolved", "the whole job with every default filled in; a job file again"},
};

constexpr Definition kStatuses[] = {
    {kStatus, "exit-0", "ok"},
    {kStatus, "exit-1", "internal error: a mistake of foretrain"},
    {kStatus, "exit-2", "bad usage or input: an option, a field, an impossible plan; the message says what is allowed"},
    {kStatus, "exit-3",
     "valid but infeasible: it does not fit, or there is no plan; the document is printed all the same"},
    {kStatus, "exit-4", "a threshold was breached: compare --max-error, run --verify"},
    {kStatus, "exit-5", "the environment failed: a lost rank, MPI, a GPU, a file system"},
    {kStatus, "exit-130", "interrupted"},
};

bool ends_path(std::string_view path, std::string_view name) {
  return path == name ||
         (path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

// Whether a name, perhaps with a "*" for its last key, is the end of a path.
bool matches(std::string_view path, std::string_view name) {
  if (!name.ends_with(".*")) {
    return ends_path(path, name);
  }
  const std::string_view parent = name.substr(0, name.size() - 2);
  for (std::size_t dot = path.rfind('.'); dot != std::string_view::npos && dot > 0; dot = path.rfind('.', dot - 1)) {
    std::string_view above = path.substr(0, dot);
    if (above.ends_with("[]")) {
      above.remove_suffix(2);
    }
    if (ends_path(above, parent)) {
      return true;
    }
  }
  return false;
}

template <class Visit>
void for_each(const Visit& visit) {
  for (const auto table : {figure_definitions(), field_definitions(), status_definitions()}) {
    for (const Definition& d : table) {
      visit(d);
    }
  }
}

}  // namespace

std::span<const Definition> figure_definitions() {
  return kFigures;
}

std::span<const Definition> status_definitions() {
  return kStatuses;
}

const Definition* definition_of_path(std::string_view path) {
  const Definition* best = nullptr;
  for (const Definition& d : kFigures) {
    if (matches(path, d.name) && (best == nullptr || d.name.size() > best->name.size())) {
      best = &d;
    }
  }
  return best;
}

std::vector<Definition> definitions_of(std::string_view word) {
  std::vector<Definition> exact, ends;
  for_each([&](const Definition& d) {
    const std::string_view plain = d.name.ends_with(".*") ? d.name.substr(0, d.name.size() - 2) : d.name;
    if (plain == word || (word == "exit-codes" && d.what == Defines::status)) {
      exact.push_back(d);
    } else if (ends_path(plain, word)) {
      ends.push_back(d);
    }
  });
  if (exact.empty() && ends.empty()) {
    if (const Definition* d = definition_of_path(word)) {
      exact.push_back(*d);
    }
  }
  return exact.empty() ? ends : exact;
}

std::string nearest_defined(const std::string& word) {
  std::vector<std::string> known{"exit-codes"};
  for_each([&](const Definition& d) {
    known.emplace_back(d.name);
    known.emplace_back(d.name.substr(d.name.rfind('.') + 1));
  });
  return nearest_word(word, known);
}

std::string to_text(const std::vector<Definition>& definitions) {
  std::size_t width = 0;
  for (const Definition& d : definitions) {
    width = std::max(width, d.name.size());
  }
  std::string out;
  for (const Definition& d : definitions) {
    out += fmt::format("{:<{}}  {}\n", d.name, width, d.text);
  }
  return out;
}

}  // namespace foretrain::reports
