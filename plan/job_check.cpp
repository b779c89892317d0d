#include "plan/job_check.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "plan/split_by_speed.h"

namespace foretrain::plan {

namespace {

constexpr double kMaxRanks = 1e8;
constexpr double kMaxActions = 2e7;    // of a schedule: it is held in memory
constexpr double kMaxElements = 1e15;  // of one tensor: products of its shape stay far inside an int64

std::string axes_of(const Strategy& s) {
  return fmt::format(
      "dp {} x tp {} x pp {} x cp {}{}{}", s.dp, s.tp, s.pp, s.cp,
      s.servers == 0 ? ""
                     : fmt::format(" + {} servers{}", s.servers, s.server_replicas > 0 ? " and as many replicas" : ""),
      s.loader_ranks > 0 ? fmt::format(" + {} loaders", s.loader_ranks) : "");
}

void check_disturbance(const topologies::Cluster& c, std::int64_t devices, ObjectReader& cluster) {
  const auto check = [&](const char* what, const std::vector<topologies::SpeedRange>& ranges, std::int64_t count) {
    for (const topologies::SpeedRange& r : ranges) {
      if (r.last >= count) {
        cluster.mistake("disturbance",
                        fmt::format("{} {}-{}: there are {}, numbered from 0", what, r.first, r.last, count));
      }
    }
  };
  check("devices", c.disturbance.devices, devices);
  check("nodes", c.disturbance.nodes, c.nodes);
  const auto check_ends = [&](const char* what, const auto& all) {
    for (const auto& x : all) {
      const std::int64_t last = std::max(x.from, x.to);
      if (last >= devices) {
        cluster.mistake("disturbance",
                        fmt::format("{}: device {}: there are {}, numbered from 0", what, last, devices));
      }
    }
  };
  check_ends("links", c.disturbance.links);
  check_ends("background", c.disturbance.background);
}

// Absent dp: what the devices leave. Absent nodes: what the ranks need.
void complete_ranks(Job& job, const JobParts& parts) {
  Strategy& s = job.strategy;
  topologies::Cluster& c = job.cluster;
  const bool dp_follows = s.dp == 0;
  const std::int64_t model_parallel = s.tp * s.pp * s.cp;
  if (dp_follows) {
    const bool fills = !c.this_machine && c.nodes != 0;
    s.dp = fills ? std::max<std::int64_t>(1, (c.device_count() - s.beside()) / model_parallel) : 1;
  }
  if (static_cast<double>(s.dp) * static_cast<double>(model_parallel) > kMaxRanks) {
    parts.strategy.mistake("", fmt::format("{} are more than {:.0e} ranks", axes_of(s), kMaxRanks));
    return;
  }
  if (c.this_machine) {
    c.nodes = std::max<std::int64_t>(1, c.nodes);
    if (!c.hosts.empty()) {
      check_roles(job, parts.cluster);
    } else if (s.ranks() % c.nodes != 0) {
      parts.strategy.mistake("", fmt::format("{} = {} ranks do not spread evenly over {} hosts (cluster.nodes)",
                                             axes_of(s), s.ranks(), c.nodes));
    } else if (c.is_gpu && c.devices_per_node > 1 && s.ranks() != c.devices_per_node) {
      parts.strategy.mistake("",
                             fmt::format("{} = {} ranks on {} GPUs (cluster.devices_per_node); each has its own, or "
                                         "all share one: expected {} or 1",
                                         axes_of(s), s.ranks(), c.devices_per_node, s.ranks()));
    }
    if (c.is_hosts()) {
      c.devices_per_node = static_cast<int>(std::max<std::int64_t>(1, s.ranks() / c.nodes));
    }
    check_disturbance(c, s.ranks(), parts.cluster);
    return;
  }
  if (c.nodes == 0) {
    c.nodes = std::max<std::int64_t>(1, s.ranks() / c.devices_per_node);
  }
  if (s.ranks() != c.device_count()) {
    parts.strategy.mistake(
        "", fmt::format("{} = {} ranks, but the cluster has {} devices ({} nodes x {}); they must be equal{}",
                        axes_of(s), s.ranks(), c.device_count(), c.nodes, c.devices_per_node,
                        s.ranks() < c.devices_per_node
                            ? fmt::format("; cluster.devices_per_node={} uses a part of a node", s.ranks())
                            : ""));
  }
  check_disturbance(c, c.device_count(), parts.cluster);
}

void check_batch(const Job& job, ObjectReader& workload, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  const std::int64_t share = (s.split_by_speed ? 1 : s.dp) * s.micro_batch;
  if (s.split_by_speed && job.workload.global_batch % share != 0) {
    workload.mistake("global_batch",
                     fmt::format("{} is not a multiple of micro_batch {}", job.workload.global_batch, s.micro_batch));
    return;
  }
  if (job.workload.global_batch % share != 0) {
    workload.mistake("global_batch", fmt::format("{} is not a multiple of dp {} x micro_batch {} = {}",
                                                 job.workload.global_batch, s.dp, s.micro_batch, share));
    return;
  }
  if (s.schedule == ScheduleKind::interleaved && job.microbatches() % s.pp != 0) {
    strategy.mistake("schedule", fmt::format("interleaved needs microbatches in multiples of pp: {} of them, pp {}",
                                             job.microbatches(), s.pp));
  }
  if (job.microbatches() % s.ways() != 0) {
    strategy.mistake("schedule", fmt::format("{} takes half of the microbatches from either end: {} are not even",
                                             name(s.schedule), job.microbatches()));
  }
  if (static_cast<double>(job.microbatches()) * static_cast<double>(s.stages()) > kMaxActions) {
    workload.mistake("global_batch", fmt::format("{} microbatches through {} stages; expected at most {:.0e} in all",
                                                 job.microbatches(), s.stages(), kMaxActions));
  }
}

void check_sharding(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  if (s.shard != 0 && s.dp % s.shard != 0) {
    strategy.mistake("shard", fmt::format("{} does not divide dp {}", s.shard, s.dp));
  }
}

void check_tensor_parallel(const Job& job, ObjectReader& strategy) {
  const workloads::Model& m = job.workload.model;
  const Strategy& s = job.strategy;
  const auto divides = [&](const char* what, std::int64_t size) {
    if (size % s.tp != 0) {
      strategy.mistake("tp", fmt::format("{} does not divide {} {}", s.tp, what, size));
    }
  };
  divides("heads", m.heads);
  if (m.dense_layers() > 0) {
    divides("ffn_hidden", m.ffn_hidden);
  }
  if (m.kv_heads % s.tp != 0 && s.tp % m.kv_heads != 0) {
    strategy.mistake("tp", fmt::format("{} and kv_heads {}: one must be a multiple of the other", s.tp, m.kv_heads));
  }
  if (s.sequence_parallel) {
    divides("seq_len", job.workload.seq_len);
  }
  if (s.scatter_gather) {
    divides("hidden", m.hidden);
  }
  if (s.padded_vocab != 0 && (s.padded_vocab < m.vocab || s.padded_vocab % s.tp != 0)) {
    strategy.mistake("padded_vocab", fmt::format("{} is not allowed; expected a multiple of tp {} that is at least the "
                                                 "vocabulary of {}",
                                                 s.padded_vocab, s.tp, m.vocab));
  }
}

void check_recompute(const Job& job, ObjectReader& strategy) {
  if (job.strategy.recomputes(RecomputeModule::mla_up) && !job.workload.model.has_mla()) {
    strategy.mistake("recompute", "\"mla_up\" needs a model with latent attention (mla)");
  }
  // Of layers with experts "mlp" says nothing (plan/build_layer.cpp).
  if (job.strategy.recomputes(RecomputeModule::mlp) && job.strategy.recomputes(RecomputeModule::activation) &&
      job.workload.model.moe_layers() == 0) {
    strategy.mistake("recompute", "\"activation\" is a part of \"mlp\"; expected one of them");
  }
  if (job.workload.model.norms_behind() && job.strategy.recomputes(RecomputeModule::norm)) {
    strategy.mistake("recompute",
                     "\"norm\" of a model with norms behind (norm_position post) is what the next half of a "
                     "layer reads; expected full, or other modules");
  }
  if (job.strategy.recompute_early_stop && job.workload.model.moe_layers() > 0) {
    strategy.mistake("recompute_early_stop",
                     "models with experts weigh the experts' outputs in the backward, so that whole layers run again; "
                     "expected false");
  }
}

void check_recompute_layers(const Job& job, ObjectReader& strategy) {
  if (!job.strategy.recompute_layers.empty() && job.workload.model.moe.experts > 0) {
    strategy.mistake("recompute_layers", "with experts is not built yet; leave the key out");
  }
}

void check_offload(const Job& job, ObjectReader& strategy) {
  const topologies::Cluster& c = job.cluster;
  if (job.strategy.offloads() && !c.this_machine && c.host.link.value <= 0) {
    strategy.mistake("offload", fmt::format("nothing is known of the hosts of {}; expected a system with \"host\": "
                                            "{{\"link\": …, \"memory\": …}}, or an empty list",
                                            c.name));
  }
}

// A run would have to undo a step whose norm turns out too large.
void check_post_validation(const Job& job, ObjectReader& strategy) {
  if (job.strategy.post_validation && job.cluster.this_machine && job.workload.optimizer.clip != 0) {
    strategy.mistake("optimizer_sync",
                     fmt::format("post_validation takes back a step whose gradients were to be clipped, which is "
                                 "forecast as if it never happened, and not run; on this machine it needs an "
                                 "optimizer with clip 0, not {}",
                                 job.workload.optimizer.clip));
  }
}

void check_context_parallel(const Job& job, ObjectReader& strategy) {
  const workloads::Model& m = job.workload.model;
  const Strategy& s = job.strategy;
  if (s.cp == 1) {
    return;
  }
  if (job.workload.seq_len % (2 * s.cp) != 0) {
    strategy.mistake("cp", fmt::format("seq_len {} is not a multiple of 2 x cp {}: every rank holds two pieces of each "
                                       "sequence, an early and a late one",
                                       job.workload.seq_len, s.cp));
  } else if (s.sequence_parallel && job.workload.seq_len / s.cp % s.tp != 0) {
    strategy.mistake("cp", fmt::format("tp {} does not divide seq_len {} / cp {}", s.tp, job.workload.seq_len, s.cp));
  }
  const char* const kind = s.cp_kind == CpKind::ring ? "a ring" : "all_gather";
  if (s.cp_kind != CpKind::all_to_all && s.recomputes(RecomputeModule::attention_core)) {
    strategy.mistake("recompute",
                     fmt::format("\"attention_core\" of {} is not computed again by itself; expected full, "
                                 "or other modules",
                                 kind));
  }
  if (s.cp_kind != CpKind::all_to_all && !is_flash(job.workload.attention)) {
    strategy.mistake("cp_kind",
                     fmt::format("{} needs attention that takes parts of the queries and keys: flash, flash3 or cudnn, "
                                 "not {}; cp_kind all_to_all has whole sequences",
                                 kind, workloads::name(job.workload.attention)));
  }
  if (s.cp_kind == CpKind::ring && m.attention_window != 0 && m.attention_window < job.workload.seq_len) {
    strategy.mistake("cp_kind",
                     fmt::format("a ring takes all keys round: attention_window {} of seq_len {} is not built "
                                 "with it; expected all_gather or all_to_all",
                                 m.attention_window, job.workload.seq_len));
  }
  if (s.cp_kind == CpKind::ring && job.workload.document_length > 0) {
    strategy.mistake("cp_kind",
                     fmt::format("a ring takes all keys round: document_length {} is not built with it; expected "
                                 "all_gather or all_to_all",
                                 job.workload.document_length));
  }
  if (s.cp_kind == CpKind::all_to_all) {
    for (const auto& [what, heads] : {std::pair{"heads", m.heads}, std::pair{"kv_heads", m.kv_heads}}) {
      if (heads % (s.tp * s.cp) != 0) {
        strategy.mistake("cp_kind",
                         fmt::format("all_to_all deals out heads: {} {} are not a multiple of tp {} x cp {}; "
                                     "expected ring, or a smaller cp",
                                     what, heads, s.tp, s.cp));
      }
    }
  }
}

// Chunks are equal, and of each but the last the logits are gone.
void check_loss_chunks(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  const workloads::Workload& w = job.workload;
  if (s.loss_chunks == 1 || w.model.is_dense()) {
    return;
  }
  const std::int64_t told = w.model.is_encoder_decoder() ? w.target_len : w.seq_len;
  const std::int64_t rows = s.micro_batch * told / s.cp;
  if (rows % s.loss_chunks != 0) {
    strategy.mistake("loss_chunks",
                     fmt::format("{} does not divide the {} tokens of a microbatch on a rank", s.loss_chunks, rows));
  }
  if (w.data.synthetic == workloads::Synthetic::reverse) {
    strategy.mistake("loss_chunks",
                     fmt::format("{} with workload.data.synthetic reverse is not built: a run tells how many sequences "
                                 "are answered rightly by the logits of all tokens; expected 1",
                                 s.loss_chunks));
  }
}

void check_optimizer(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  const bool lamb = job.workload.optimizer.kind == workloads::OptimizerKind::lamb;
  if (lamb && s.offload_optimizer) {
    strategy.mistake("offload", "\"optimizer\" is not built with lamb, whose norms are taken on the device");
  }
  if (lamb && s.post_validation) {
    strategy.mistake("optimizer_sync", "post_validation is not built with lamb; expected global");
  }
  if (lamb && job.workload.model.moe.experts > 0) {
    strategy.mistake("", "lamb is not built for models with experts; expected another optimizer");
  }
  if (job.workload.loss_scaling.is_on() && s.post_validation) {
    strategy.mistake("optimizer_sync", "post_validation is not built with loss_scaling; expected global");
  }
}

// Models of features are small: what cuts or computes their layers again is not built.
void check_stages(const Job& job, ObjectReader& strategy) {
  const std::int64_t layers = job.workload.model.repeated_layers();
  const Strategy& s = job.strategy;
  const std::vector<std::int64_t>& split = s.layers_per_stage;
  if (split.empty()) {
    if (layers < s.model_stages() && !(job.workload.model.is_dense() && s.model_stages() == 1)) {
      strategy.mistake("pp", fmt::format("{} layers are fewer than pp {} x virtual_stages {} = {} stages", layers, s.pp,
                                         s.virtual_stages / s.ways(), s.model_stages()));
    }
    return;
  }
  if (std::ssize(split) != s.model_stages()) {
    strategy.mistake("layers_per_stage",
                     fmt::format("{} numbers, but pp {} x virtual_stages {} = {} stages", split.size(), s.pp,
                                 s.virtual_stages / s.ways(), s.model_stages()));
  }
  const bool sum_fits = std::all_of(split.begin(), split.end(), [&](std::int64_t n) { return n <= layers; });
  if (!sum_fits || std::accumulate(split.begin(), split.end(), std::int64_t{0}) != layers) {
    strategy.mistake("layers_per_stage", fmt::format("do not sum to the model's {} layers", layers));
  }
}

void check_sizes(const Job& job, ObjectReader& strategy) {
  const workloads::Model& m = job.workload.model;
  const double tp = static_cast<double>(job.strategy.tp);
  const double rows = static_cast<double>(job.strategy.micro_batch) *
                      static_cast<double>(std::max(job.workload.seq_len, job.workload.target_len));
  const double scores = is_flash(job.workload.attention)
                            ? 1.0
                            : static_cast<double>(m.heads) / tp * static_cast<double>(job.workload.seq_len);
  const double width =
      std::max({static_cast<double>(m.vocab) / tp / static_cast<double>(job.strategy.loss_chunks),
                2 * static_cast<double>(m.ffn_hidden) / tp, static_cast<double>(m.hidden),
                (2 * static_cast<double>(m.q_size()) + static_cast<double>(m.context_size())) / tp, scores});
  if (rows * width > kMaxElements) {
    strategy.mistake("micro_batch",
                     fmt::format("one microbatch needs a tensor of {:.1g} elements; expected at most {:.0g}",
                                 rows * width, kMaxElements));
  }
}

void check_precision(const Job& job, ObjectReader& workload) {
  const auto& peak = job.cluster.device.peak;
  if (peak.contains(job.workload.precision.compute)) {
    return;
  }
  std::string known;
  for (const auto& [dtype, rate] : peak) {
    known += (known.empty() ? "" : ", ") + std::string(foretrain::name(dtype));
  }
  workload.mistake("precision", fmt::format("\"{}\" has no peak rate on {}; expected one of: {}",
                                            job.workload.precision.word, job.cluster.device.name, known));
}

}  // namespace

void complete_and_check(Job& job, const JobParts& parts) {
  if (parts.strategy_ok && parts.cluster_ok) {
    complete_ranks(job, parts);
  }
  job.strategy.dp = std::max<std::int64_t>(1, job.strategy.dp);
  if (parts.strategy_ok && parts.workload_ok) {
    if (parts.cluster_ok && job.strategy.split_by_speed) {
      split_by_speed(job, parts.strategy);
    }
    check_batch(job, parts.workload, parts.strategy);
    check_sharding(job, parts.strategy);
    check_data_parallel(job, parts.strategy);
    if (!job.workload.model.is_dense()) {
      check_tensor_parallel(job, parts.strategy);
    }
    check_recompute(job, parts.strategy);
    check_recompute_layers(job, parts.strategy);
    check_context_parallel(job, parts.strategy);
    check_post_validation(job, parts.strategy);
    check_loss_chunks(job, parts.strategy);
    check_model(job, parts.strategy);
    check_optimizer(job, parts.strategy);
    check_stages(job, parts.strategy);
    check_sizes(job, parts.strategy);
  }
  if (parts.strategy_ok && parts.cluster_ok) {
    check_offload(job, parts.strategy);
  }
  if (parts.workload_ok && parts.cluster_ok) {
    check_precision(job, parts.workload);
  }
}

}  // namespace foretrain::plan
