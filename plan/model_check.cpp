// What a kind of model asks of a strategy.
#include "base/error.h"
#include "plan/job_check.h"

namespace foretrain::plan {

namespace {

// What a model with an encoder and a decoder is not built with.
void check_encoder_decoder(const Job& job, ObjectReader& strategy) {
  const workloads::Model& m = job.workload.model;
  const Strategy& s = job.strategy;
  if (!m.is_encoder_decoder()) {
    return;
  }
  const auto one = [&](const char* key, std::int64_t value, const char* why) {
    if (value > 1) {
      strategy.mistake(key, fmt::format("{} with an encoder_decoder is not built yet: {}; expected 1", value, why));
    }
  };
  one("pp", s.pp, "all of the decoder's stages read what the encoder makes");
  one("virtual_stages", s.virtual_stages, "all of the decoder's layers read what the encoder makes");
  one("cp", s.cp, "queries and keys of cross attention are of different sequences");
  if (m.kv_heads % s.tp != 0) {
    strategy.mistake("tp", fmt::format("{} does not divide the {} kv_heads of an encoder_decoder", s.tp, m.kv_heads));
  }
  if (s.sequence_parallel && job.workload.target_len % s.tp != 0) {
    strategy.mistake("tp", fmt::format("{} does not divide target_len {}", s.tp, job.workload.target_len));
  }
  if (!s.recompute_layers.empty()) {
    strategy.mistake("recompute_layers", "with an encoder_decoder is not built yet; leave the key out");
  }
  if (s.offload_activations) {
    strategy.mistake("offload", "\"activations\" with an encoder_decoder is not built yet; expected others");
  }
}

// Padded sequences, of which attention sees a part.
void check_classifier(const Job& job, ObjectReader& strategy) {
  const Strategy& s = job.strategy;
  if (!job.workload.model.is_classifier()) {
    return;
  }
  if (s.cp > 1) {
    strategy.mistake("cp",
                     fmt::format("{} cuts sequences in equal parts, and a classifier's have lengths of their own; "
                                 "expected 1",
                                 s.cp));
  }
  if (s.loss_chunks > 1) {
    strategy.mistake("loss_chunks",
                     fmt::format("{} with a classifier, which tells no tokens; expected 1", s.loss_chunks));
  }
}

void check_state_space(const Job& job, ObjectReader& strategy) {
  const workloads::Ssm& ssm = job.workload.model.ssm;
  const Strategy& s = job.strategy;
  if (ssm.heads == 0) {
    return;
  }
  if (s.cp > 1) {
    strategy.mistake("cp",
                     fmt::format("state-space layers have whole sequences on every rank; expected 1, not {}", s.cp));
  }
  if (ssm.groups % s.tp != 0) {
    strategy.mistake("tp", fmt::format("{} does not divide the {} groups of state-space layers", s.tp, ssm.groups));
  }
}

void check_experts(const Job& job, ObjectReader& strategy) {
  const workloads::Moe& moe = job.workload.model.moe;
  const Strategy& s = job.strategy;
  if (moe.experts == 0) {
    if (s.ep > 1) {
      strategy.mistake("ep", fmt::format("{} needs a model with moe; expected 1", s.ep));
    }
    if (s.overlap_ep) {
      strategy.mistake("overlap_ep", "needs a model with moe and ep > 1: without it no tokens are exchanged");
    }
    return;
  }
  const auto mistake = [&](const char* key, const std::string& what) { strategy.mistake(key, what); };
  if (s.shard != 0 && s.shard % s.ep_along_dp() != 0) {
    mistake("shard", fmt::format("{} is not a multiple of the {} ranks along dp that hold all experts: a group holds "
                                 "whole sets of them",
                                 s.shard, s.ep_along_dp()));
  }
  if (job.workload.model.parallel_residual) {
    mistake("", "experts beside attention (parallel_residual) are not built yet");
  }
  if (s.cp > 1 && moe.capacity_factor > 0) {
    mistake("cp", fmt::format("{} with a capacity_factor is not built: experts' places are counted by rank; expected 1",
                              s.cp));
  }
  if (s.overlap_ep && s.offload_activations) {
    mistake("overlap_ep", "with activations on the host is not built yet; expected false, or an offload without them");
  }
  if (s.overlap_ep && s.post_validation) {
    mistake("overlap_ep", "with optimizer_sync post_validation is not built yet; expected false, or global");
  }
  if (s.overlap_ep && s.ep == 1) {
    mistake("overlap_ep", "needs ep > 1: without it no tokens are exchanged");
  }
  if (s.expert_tp != 1 && s.expert_tp != s.tp) {
    mistake("expert_tp", fmt::format("{} is not allowed; expected 1 or tp {}", s.expert_tp, s.tp));
    return;
  }
  if (s.expert_tp < s.tp && !s.sequence_parallel) {
    mistake("expert_tp", fmt::format("1 with tp {} needs sequence_parallel: each rank routes tokens of its own", s.tp));
  }
  if (moe.experts % s.ep != 0) {
    mistake("ep", fmt::format("{} does not divide {} experts", s.ep, moe.experts));
  }
  const bool fits = s.expert_tp == s.tp
                        ? s.dp % s.ep == 0
                        : (s.ep <= s.tp ? s.tp % s.ep == 0 : s.ep % s.tp == 0 && s.dp % (s.ep / s.tp) == 0);
  if (!fits) {
    mistake("ep", s.expert_tp == s.tp
                      ? fmt::format("{} does not divide dp {}", s.ep, s.dp)
                      : fmt::format("{} neither divides tp {} nor is tp times a divisor of dp {}", s.ep, s.tp, s.dp));
  }
  if (moe.ffn_hidden % s.expert_tp != 0) {
    mistake("tp", fmt::format("{} does not divide the experts' ffn_hidden {}", s.tp, moe.ffn_hidden));
  }
  if (moe.shared_width() % s.tp != 0) {
    mistake("tp", fmt::format("{} does not divide the shared experts' width {}", s.tp, moe.shared_width()));
  }
}

void check_dense(const Job& job, ObjectReader& strategy) {
  const workloads::Model& m = job.workload.model;
  const Strategy& s = job.strategy;
  if (!m.is_dense()) {
    return;
  }
  const std::string model(name(m.architecture));
  const auto refuse = [&](const char* key, bool given, const char* expected) {
    if (given) {
      strategy.mistake(key, fmt::format("is not built for {} models; expected {}", model, expected));
    }
  };
  refuse("tp", s.tp > 1, "1");
  refuse("cp", s.cp > 1, "1");
  refuse("recompute", s.recompute != Recompute::none, "none");
  refuse("recompute_layers", !s.recompute_layers.empty(), "no such key");
  refuse("offload", s.offload_activations, "no activations in it");
  refuse("loss_chunks", s.loss_chunks > 1, "1");
  refuse("padded_vocab", s.padded_vocab != 0 && s.padded_vocab != m.vocab, "no such key");
  refuse("schedule",
         s.schedule != ScheduleKind::gpipe && s.schedule != ScheduleKind::one_f_one_b &&
             s.schedule != ScheduleKind::interleaved,
         "1f1b, gpipe or interleaved");
}

}  // namespace

void check_model(const Job& job, ObjectReader& strategy) {
  check_encoder_decoder(job, strategy);
  check_classifier(job, strategy);
  check_state_space(job, strategy);
  check_experts(job, strategy);
  check_dense(job, strategy);
}

}  // namespace foretrain::plan
