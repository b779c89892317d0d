#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plan/memory.h"
#include "reports/estimate.h"
#include "reports/figures.h"
#include "reports/staleness.h"
#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

constexpr std::size_t kLargestShown = 8;
constexpr std::size_t kStagesShown = 16;
constexpr int kBarWidth = 40;

std::string kind_title(plan::BufferKind kind) {
  std::string title(plan::name(kind));
  std::replace(title.begin(), title.end(), '_', ' ');
  return title;
}

const char* verdict_words(plan::Verdict v) {
  return v == plan::Verdict::fits    ? "fits"
         : v == plan::Verdict::tight ? "tight: fits where the allocator gives cached segments back"
                                     : "does not fit";
}

Table main_figures(const Estimate& e) {
  const workloads::Workload& w = e.job->workload;
  const double step = seconds(e.step_time);
  const Efficiency eff = efficiency(*e.job, *e.graph, step);
  const double tokens_per_second = static_cast<double>(w.global_batch * w.tokens_per_sequence()) / step;
  const double devices = static_cast<double>(eff.devices);
  const plan::MemoryFit& fit = e.fit;
  const plan::Role& fullest = e.graph->roles[fit.fullest];

  Table t;
  t.columns = {{""}, {""}, {""}};
  t.rows.push_back({"step time", {to_string(e.step_time), Tone::strong}});
  if (e.reading && e.graph->data.kept > 0) {
    const plan::EpochReads& epoch = e.reading->epoch;
    t.rows.push_back({"first epoch",
                      to_string(e.reading->first_step_time),
                      {fmt::format("a step; {} of storage. Later ones read {} of it: a node keeps {} in its memory",
                                   to_string(epoch.all), to_string(epoch.all - epoch.kept), to_string(epoch.cache)),
                       Tone::dim}});
  }
  const bool known = std::isfinite(e.error_band.low_seconds) && std::isfinite(e.error_band.high_seconds);
  t.rows.push_back(
      {"error band",
       known ? fmt::format("{} to {}", seconds_text(e.error_band.low_seconds), seconds_text(e.error_band.high_seconds))
             : "unknown",
       {e.error_band.basis, Tone::dim}});
  t.rows.push_back(
      {"throughput",
       fmt::format("{} {}/s", compact(tokens_per_second), w.model.counted_in()),
       {fmt::format("{} {}/s per device", compact(tokens_per_second / devices), w.model.counted_in()), Tone::dim}});
  t.rows.push_back({"model FLOPs",
                    compact(eff.model_flops) + "FLOP per step",
                    {to_string(FlopRate{eff.model_flops / step / devices}) + " per device", Tone::dim}});
  t.rows.push_back(
      {"MFU",
       {percent(eff.mfu), Tone::strong},
       {(w.model.is_encoder() || w.model.is_dense() ? ""
                                                    : percent(eff.mfu_causal) + " with causal attention halved; ") +
            "HFU " + percent(eff.hfu),
        Tone::dim}});
  const std::string where =
      fit.shared ? "all ranks together"
                 : fmt::format("rank {} ({})", plan::first_rank(e.graph->mesh, fullest.ranks), fullest.name);
  const Bytes shown = fit.shared ? fit.demand : fit.device().device_visible();
  t.rows.push_back({"memory",
                    {to_string(shown), fit.fits() ? Tone::good : Tone::bad},
                    {fmt::format("of {}, {}: {}", to_string(fit.capacity), where, verdict_words(fit.verdict)),
                     fit.fits() ? Tone::dim : Tone::bad}});
  t.rows.push_back(
      {"models",
       fmt::format("{}, {}", e.compute_model, e.network_model),
       {fmt::format("{} class{} of ranks simulated for {}", count(static_cast<std::int64_t>(e.classes.size())),
                    e.classes.size() == 1 ? "" : "es", count(e.graph->mesh.ranks())),
        Tone::dim}});
  return t;
}

// What the device's memory goes to, from tensors to what nvidia-smi shows.
std::string totals_text(const Estimate& e) {
  const plan::DeviceMemory& memory = e.fit.device();
  return fmt::format(
      "{}: {} allocated, {} reserved by the caching allocator, {} with the CUDA context ({}) and NCCL ({})",
      e.graph->roles[e.fit.fullest].name, to_string(memory.held.allocated), to_string(memory.held.reserved),
      to_string(memory.device_visible()), to_string(memory.runtime.context), to_string(memory.runtime.communicators));
}

// Offloaded state and activations. A node's ranks may be of several stages: at most so much.
std::string host_text(const Estimate& e, Bytes of_rank) {
  const std::int64_t ranks = std::min<std::int64_t>(e.job->cluster.devices_per_node, e.graph->mesh.ranks());
  return fmt::format("host memory: {} of a rank, at most {} of a node with {} ranks", to_string(of_rank),
                     to_string(Bytes{of_rank.value * ranks}), ranks);
}

std::string formula(const Estimate& e) {
  const Efficiency eff = efficiency(*e.job, *e.graph, seconds(e.step_time));
  return fmt::format(
      "MFU = model FLOPs / (step time x {} devices x {}, the dense {} peak); HFU: with recomputed matmuls",
      count(eff.devices), std::isfinite(eff.peak_flops) ? to_string(FlopRate{eff.peak_flops}) : "-",
      name(e.job->workload.precision.compute));
}

Table breakdown_table(const Estimate& e) {
  const plan::Breakdown mean = mean_over_ranks(*e.graph, e.by_role);
  const double total = seconds(mean.total());
  Table t;
  t.title = "Where the step goes, mean over ranks";
  t.columns = {{""}, {"", Align::right}, {"", Align::right}, {""}};
  for (const auto& [name, time] : breakdown_parts(mean)) {
    if (time.value == 0) {
      continue;
    }
    const double share = seconds(time) / total;
    t.rows.push_back({name, to_string(time), percent(share),
                      std::string(static_cast<std::size_t>(std::max(0.0, share * kBarWidth + 0.5)), '#')});
  }
  return t;
}

Table memory_table(const Estimate& e) {
  Table t;
  t.title = "Memory of one rank, by stage";
  t.columns = {{"stage"}, {"ranks", Align::right}, {"layers", Align::right}, {"peak", Align::right}};
  for (int k = 0; k < plan::kBufferKinds; ++k) {
    t.columns.push_back({kind_title(static_cast<plan::BufferKind>(k)), Align::right});
  }
  const std::size_t fullest = hungriest_role(*e.graph);
  for (std::size_t i = 0; i < e.graph->roles.size(); ++i) {
    if (i >= kStagesShown && i != fullest) {
      continue;
    }
    const plan::Role& role = e.graph->roles[i];
    std::vector<Cell> row{role.name,
                          count(plan::count(e.graph->mesh, role.ranks)),
                          fmt::format("{}", role.global_layer.size()),
                          {to_string(role.memory.arena), i == fullest ? Tone::strong : Tone::plain}};
    for (const Bytes bytes : role.memory.by_kind) {
      row.emplace_back(bytes.value == 0 ? "-" : to_string(bytes));
    }
    t.rows.push_back(std::move(row));
  }
  if (e.graph->roles.size() > t.rows.size()) {
    t.rows.push_back({{fmt::format("... and {} more, none larger", e.graph->roles.size() - t.rows.size()), Tone::dim}});
  }
  return t;
}

Table largest_table(const Estimate& e) {
  const plan::Role& role = e.graph->roles[hungriest_role(*e.graph)];
  Table t;
  t.title = fmt::format("Largest tensors of {}, all copies", role.name);
  t.columns = {{""}, {"", Align::right}, {""}};
  for (const plan::LargeBuffer& b : plan::largest_buffers(role, kLargestShown)) {
    t.rows.push_back({b.name, to_string(b.bytes), {kind_title(b.kind), Tone::dim}});
  }
  return t;
}

std::string fixes_text(const Estimate& e) {
  if (e.fixes.empty()) {
    return "no change of recompute, sequence_parallel, zero, micro_batch, tp and pp, alone or together, makes it fit";
  }
  std::vector<std::string> parts;
  for (const Fix& fix : e.fixes) {
    parts.push_back(fmt::format("{} ({}, {} per step)", fix.change, to_string(fix.demand), to_string(fix.step_time)));
  }
  return fmt::format("it fits with {}", fmt::join(parts, ", or "));
}

}  // namespace

std::string headline(const plan::Job& job) {
  const workloads::Workload& w = job.workload;
  const plan::Strategy& s = job.strategy;
  std::vector<std::string> words;
  for (const auto& [name, size] : {std::pair{"dp", s.dp}, {"tp", s.tp}, {"pp", s.pp}, {"cp", s.cp}, {"ep", s.ep}}) {
    if (size > 1) {
      words.push_back(fmt::format("{} {}", name, size));
    }
  }
  const auto add = [&](bool is_so, const std::string& word) {
    if (is_so) {
      words.push_back(word);
    }
  };
  add(s.pp > 1,
      std::string(name(s.schedule)) + (s.virtual_stages > 1 ? fmt::format(" x {} chunks", s.virtual_stages) : ""));
  add(s.data_parallel != plan::DataParallel::all_reduce,
      s.servers == 0 ? std::string(name(s.data_parallel))
                     : fmt::format("{} parameter server{}{}", s.servers, s.servers == 1 ? "" : "s",
                                   s.server_replicas == 0 ? ""
                                   : s.servers == 1       ? ", a replica"
                                                          : ", a replica of each"));
  add(s.loader_ranks > 0, fmt::format("{} loader{}", s.loader_ranks, s.loader_ranks == 1 ? "" : "s"));
  add(s.staleness.has_value(),
      s.staleness == plan::kUnbounded ? "asynchronous" : fmt::format("staleness {}", s.staleness.value_or(0)));
  add(s.zero > 0, fmt::format("zero {}", s.zero));
  add(s.sequence_parallel, "sequence parallel");
  std::string recomputed(s.recompute == plan::Recompute::listed ? "" : name(s.recompute));
  for (const plan::RecomputeModule m : s.recompute_modules) {
    recomputed += (recomputed.empty() ? "" : " and ") + std::string(name(m));
  }
  add(s.recompute != plan::Recompute::none, recomputed + " recompute");
  add(s.offload_optimizer, "optimizer on the host");
  add(s.offload_activations, "activations on the host");
  add(s.split_by_speed, "split by speed");
  add(words.empty(), "one rank");
  const bool packed = w.document_length > 0 && w.document_length < w.seq_len;
  return fmt::format("{}, seq {}{}{}, batch {} in {}{} microbatch{}, {}, on {}: {}",
                     w.model.name.empty() ? "model" : w.model.name, w.seq_len,
                     packed ? fmt::format(" in documents of {}", w.document_length) : "",
                     w.model.is_encoder_decoder() ? fmt::format(" to {}", w.target_len) : "", w.global_batch,
                     s.microbatches_of.empty()
                         ? ""
                         : fmt::format("{} to ", *std::min_element(s.microbatches_of.begin(), s.microbatches_of.end())),
                     job.microbatches(), job.microbatches() == 1 ? "" : "es", w.precision.word, job.cluster.name,
                     fmt::join(words, ", "));
}

std::string to_text(const Estimate& e, bool colour) {
  std::string out = toned(headline(*e.job), Tone::strong, colour) + "\n\n";
  out += to_text(main_figures(e), colour) + "\n";
  out += to_text(breakdown_table(e), colour) + "\n";
  out += to_text(memory_table(e), colour) + "\n";
  if (!e.fit.shared) {
    out += toned(totals_text(e), Tone::dim, colour) + "\n\n";
  }
  if (const Bytes host = most_on_host(*e.graph); host.value > 0) {
    out += host_text(e, host) + "\n\n";
  }
  out += to_text(largest_table(e), colour);
  out += "\n" + toned(formula(e), Tone::dim, colour) + "\n";
  if (!e.staleness.empty()) {
    out += fmt::format("staleness of updates: {}\n", staleness_text(e.staleness));
  }
  for (const std::string& note : e.notes) {
    out += note + "\n";
  }
  if (e.whole_run) {
    out += "\n" + to_text(*e.whole_run, colour);
  }
  return out;
}

std::string infeasible_message(const Estimate& e) {
  const plan::MemoryFit& fit = e.fit;
  const plan::Role& role = e.graph->roles[fit.fullest];
  const Bytes missing = fit.missing();
  const std::string who =
      fit.shared ? "its ranks together need"
                 : fmt::format("rank {} ({}) needs", plan::first_rank(e.graph->mesh, role.ranks), role.name);
  return fmt::format("the job does not fit: {} {}, {} has {}; {} ({} bytes) are missing; {}", who,
                     to_string(fit.demand), fit.shared ? "the machine" : "a device", to_string(fit.capacity),
                     to_string(missing), missing.value, fixes_text(e));
}

}  // namespace foretrain::reports
