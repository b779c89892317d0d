#include <numeric>
#include <tuple>

#include "base/error.h"
#include "plan/job_check.h"

namespace foretrain::plan {

namespace {

// Each layer is one part, and so are the embedding and the head.
void check_servers(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  if (s.data_parallel != DataParallel::parameter_server) {
    return;
  }
  const workloads::Model& m = job.workload.model;
  const std::int64_t parts = m.is_dense() && m.layers == 0 ? 1 : m.repeated_layers() + 2;
  if (s.servers > parts) {
    strategy.mistake("servers", fmt::format("{} servers for {} parts of the parameters (each layer, the embedding, the "
                                            "head); expected at most as many",
                                            s.servers, parts));
  }
  if (m.moe.experts > 0 || m.is_encoder_decoder()) {
    strategy.mistake(
        "data_parallel",
        "parameter_server with experts, or an encoder and a decoder, is not built yet; expected another word");
  }
}

void check_loaders(const Job& job, ObjectReader& strategy) {
  constexpr std::int64_t kMostSends = 64;  // of one loader, each of which has a stream
  const Strategy& s = job.strategy;
  const auto refuse = [&](const std::string& why) { strategy.mistake("loader_ranks", why); };
  if (s.loader_ranks == 0) {
    return;
  }
  // The model's beginning and its end; those of padded sequences are told their lengths everywhere.
  const std::int64_t stages =
      job.workload.model.is_classifier() ? s.stages() : s.ways() * std::min<std::int64_t>(s.model_stages(), 2);
  const std::int64_t sends = (s.dp + s.loader_ranks - 1) / s.loader_ranks * s.cp * stages;
  if (s.data_parallel == DataParallel::gather || s.data_parallel == DataParallel::parameter_server) {
    refuse(fmt::format("with data_parallel {} is not built; expected all_reduce, all_gather, local_sgd, or 0",
                       name(s.data_parallel)));
  } else if (s.split_by_speed) {
    refuse("with split_by_speed is not built; expected false, or 0");
  } else if (s.loader_ranks > s.dp) {
    refuse(fmt::format("{} loaders for {} ranks along dp; expected at most as many", s.loader_ranks, s.dp));
  } else if (sends > kMostSends) {
    refuse(
        fmt::format("{} for {} ranks along dp: one sends to {} ranks; expected at least {}, so that none sends to "
                    "more than {}",
                    s.loader_ranks, s.dp, sends, (s.dp * s.cp * stages + kMostSends - 1) / kMostSends, kMostSends));
  }
}

void check_local_sgd(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  if (s.data_parallel != DataParallel::local_sgd) {
    return;
  }
  if (s.dp % s.local_group != 0) {
    strategy.mistake("local_group", fmt::format("{} does not divide dp {}", s.local_group, s.dp));
  }
  if (job.workload.model.moe.experts > 0) {
    strategy.mistake("data_parallel", "local_sgd of a model with experts is not built yet; expected all_reduce");
  }
}

// Ranks that hold copies of a tensor lose the same in its code only if all that stands in the bucket is the same.
void check_compression(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  const Compression& c = s.compression;
  if (c.is_coded() && s.pp > 1 && job.workload.model.tied_embeddings) {
    strategy.mistake("compression",
                     fmt::format("{} with pp {} and tied embeddings is not built: the two stages that hold the table "
                                 "would code it beside different weights, and drift apart; expected pp 1, untied "
                                 "embeddings, or fp16 or bf16",
                                 name(c), s.pp));
  }
}

// An average of weights has no masters to be rounded from; an asynchronous server's updates of one step would all draw
// the same bits.
void check_rounding(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  if (job.workload.precision.rounding == workloads::Rounding::nearest) {
    return;
  }
  if (s.data_parallel == DataParallel::local_sgd) {
    strategy.mistake("data_parallel",
                     "local_sgd with stochastic rounding is not built: weights without masters would be averaged in "
                     "bf16; expected another word, or rounding nearest");
  }
  if (s.staleness) {
    strategy.mistake("staleness",
                     "with stochastic rounding is not built: a step's updates would be rounded by the same bits; "
                     "expected no staleness, or rounding nearest");
  }
}

void check_optimizer(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  const bool lamb = job.workload.optimizer.kind == workloads::OptimizerKind::lamb;
  if (job.workload.loss_scaling.is_on() && s.data_parallel == DataParallel::local_sgd) {
    strategy.mistake("data_parallel",
                     "local_sgd is not built with loss_scaling: replicas would skip different steps; "
                     "expected all_reduce or all_gather");
  }
  if (job.workload.loss_scaling.is_on() && s.compression.kind != CompressionKind::none) {
    strategy.mistake("compression",
                     fmt::format("{} is not built with loss_scaling; expected none", name(s.compression)));
  }
  if ((lamb || job.workload.loss_scaling.is_on()) &&
      (s.data_parallel == DataParallel::gather || s.data_parallel == DataParallel::parameter_server)) {
    strategy.mistake("data_parallel", fmt::format("{} is not built with {}; expected all_reduce or all_gather",
                                                  name(s.data_parallel), lamb ? "lamb" : "loss_scaling"));
  }
}

std::string counted(std::int64_t n, const char* what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

}  // namespace

void check_data_parallel(const Job& job, ObjectReader& strategy) {
  check_servers(job, strategy);
  check_loaders(job, strategy);
  check_local_sgd(job, strategy);
  check_compression(job, strategy);
  check_optimizer(job, strategy);
  check_rounding(job, strategy);
}

void check_roles(const Job& job, ObjectReader& cluster) {
  const Strategy& s = job.strategy;
  const topologies::NamedHosts& hosts = job.cluster.hosts;
  const std::int64_t each = s.ranks() / std::ssize(hosts.all());
  std::string spread, even;
  bool is_even = each > 0;
  const std::int64_t common = std::gcd(std::gcd(s.workers(), s.serving()), s.loader_ranks);
  for (const auto& [role, ranks, names] : {std::tuple{"worker", s.workers(), &hosts.worker},
                                           {"server", s.serving(), &hosts.server},
                                           {"loader", s.loader_ranks, &hosts.loader}}) {
    if (ranks == 0 && !names->empty()) {
      cluster.mistake("hosts", fmt::format("\"{}\" has the role {}, and the strategy has no {}s; expected no {}",
                                           names->front(), role, role, role));
      return;
    }
    if (ranks > 0 && names->empty()) {
      cluster.mistake("hosts",
                      fmt::format("names no {}; expected \"{}\": [...] for {}", role, role, counted(ranks, role)));
      return;
    }
    if (ranks > 0) {
      spread += fmt::format("{}{} on {}", spread.empty() ? "" : ", ", counted(ranks, role),
                            counted(std::ssize(*names), "host"));
      even += fmt::format("{}{} of {}s", even.empty() ? "" : " to ", ranks / common, role);
      is_even = is_even && ranks == each * std::ssize(*names);
    }
  }
  if (!is_even) {
    cluster.mistake("hosts", fmt::format("{}; every host has as many ranks as the others: expected {}", spread,
                                         s.beside() == 0 ? "a number of hosts that divides them"
                                                         : "hosts in proportion to ranks, " + even));
  }
}

}  // namespace foretrain::plan
