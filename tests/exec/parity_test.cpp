// Any plan trains like one rank: every strategy, every pair of strategies and random products, in fp64 to 1e-12; fp32
// and bf16 to their own tolerances. All with poisoned memory: what is dead must not be read.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "exec/verify.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "tests/exec/overrides.h"
#include "tests/exec/strategies.h"
#include "tests/exec/support.h"
#include "tests/support/random_schedule.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using testing::is_refused;
using testing::joined;
using testing::kBase;
using testing::kModels;
using testing::Overrides;
using testing::strategies;
using testing::Strategy;
using testing::words;

void expect_parity(const char* model, const Overrides& overrides) {
  testing::expect_parity(model, words(overrides));
}

bool contradict(const Overrides& a, const Overrides& b) {
  for (const auto& [key, value] : a) {
    const auto other = b.find(key);
    if (other != b.end() && other->second != value) {
      return true;
    }
  }
  return is_refused(joined(a, b));
}

// Latent attention: 8 heads of 4 + 2 columns and values of 6.
const Overrides kLatent = {
    {"workload.model.mla", R"({"q_rank": 12, "kv_rank": 10, "nope_dim": 4, "rope_dim": 2, "v_dim": 8})"},
    {"workload.model.kv_heads", "8"}};

TEST(Parity, EveryStrategy) {
  for (const char* const model : kModels) {
    for (const Strategy& s : strategies()) {
      expect_parity(model, joined(kBase, s.overrides));
    }
  }
}

int ranks(const Overrides& overrides) {
  int product = 1;
  for (const char* const axis : {"dp", "tp", "pp", "cp"}) {
    product *= overrides.contains(axis) ? std::stoi(overrides.at(axis)) : 1;
  }
  return product;
}

// Products of strategies of up to eight ranks, so that each pair that does not contradict itself is in one: the first
// pair that is in none yet, and of the strategies behind it those that bring more such pairs.
std::vector<Overrides> products_of_every_pair() {
  const std::size_t n = strategies().size();
  std::vector<std::vector<bool>> is_in(n, std::vector<bool>(n));
  std::vector<Overrides> products;
  for (std::size_t first = 0; first < n; ++first) {
    for (std::size_t second = first + 1; second < n; ++second) {
      if (is_in[first][second] || contradict(strategies()[first].overrides, strategies()[second].overrides)) {
        continue;
      }
      std::vector<std::size_t> members = {first};
      Overrides product = strategies()[first].overrides;
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t next = (second + i) % n;
        const Overrides& more = strategies()[next].overrides;
        const auto is_new = [&](std::size_t m) { return !is_in[std::min(m, next)][std::max(m, next)]; };
        if (next != first && std::any_of(members.begin(), members.end(), is_new) && !contradict(product, more) &&
            (i == 0 || ranks(joined(product, more)) <= 8)) {
          members.push_back(next);
          product = joined(product, more);
        }
      }
      for (const std::size_t a : members) {
        for (const std::size_t b : members) {
          is_in[a][b] = true;
        }
      }
      products.push_back(product);
    }
  }
  return products;
}

// Many short cases instead of one long one. Models take turns.
constexpr std::size_t kParts = 8;
class ParityOfPairs : public ::testing::TestWithParam<std::size_t> {};

TEST_P(ParityOfPairs, InSomeProduct) {
  const std::vector<Overrides> products = products_of_every_pair();
  for (std::size_t i = GetParam(); i < products.size(); i += kParts) {
    expect_parity(kModels[i / kParts % 2], joined(kBase, products[i]));
  }
}

INSTANTIATE_TEST_SUITE_P(Parity, ParityOfPairs, ::testing::Range(std::size_t{0}, kParts));

TEST(Parity, OneTwoThreeFourAndEightRanks) {
  const Overrides tp3 = joined(kBase, {{"tp", "3"},
                                       {"workload.model.heads", "6"},
                                       {"workload.model.kv_heads", "3"},
                                       {"workload.model.ffn_hidden", "57"}});
  const Overrides eight_layers = joined(kBase, {{"workload.model.layers", "8"}});
  const std::vector<Overrides> cases = {
      kBase,
      joined(kBase, {{"dp", "3"}}),
      joined(kBase, {{"dp", "3"}, {"zero", "1"}}),
      tp3,
      joined(tp3, {{"sequence_parallel", "true"}}),
      joined(kBase, {{"pp", "3"}}),
      joined(kBase, {{"dp", "4"}}),
      joined(kBase, {{"tp", "4"}, {"sequence_parallel", "true"}}),
      joined(kBase, {{"pp", "4"}, {"schedule", "gpipe"}}),
      joined(kBase, {{"dp", "8"}, {"zero", "1"}, {"global_batch", "16"}}),
      joined(kBase, {{"tp", "8"}, {"sequence_parallel", "true"}, {"seq_len", "16"}}),
      joined(eight_layers, {{"pp", "8"}}),
      joined(eight_layers, {{"pp", "4"}, {"virtual_stages", "2"}, {"dp", "2"}, {"global_batch", "16"}}),
      joined(kBase, {{"dp", "2"}, {"tp", "2"}, {"pp", "2"}, {"zero", "1"}, {"sequence_parallel", "true"}}),
      joined(kBase, {{"tp", "4"}, {"pp", "2"}}),
      joined(kBase, {{"dp", "4"}, {"tp", "2"}, {"overlap_grad_reduce", "true"}}),
      joined(kBase, {{"cp", "3"}}),
      joined(kBase, {{"cp", "4"}, {"seq_len", "16"}, {"recompute", "full"}, {"micro_batch", "2"}}),
      joined(kBase, {{"cp", "4"}, {"seq_len", "16"}, {"pp", "2"}, {"schedule", "zb_h1"}, {"zero", "1"}}),
      joined(kBase, {{"cp", "8"}, {"seq_len", "16"}}),
      joined(kBase, {{"cp", "8"},
                     {"seq_len", "16"},
                     {"cp_kind", "all_to_all"},
                     {"workload.model.kv_heads", "8"},
                     {"recompute", "full"}}),
      joined(kBase, {{"cp", "2"}, {"dp", "2"}, {"tp", "2"}, {"zero", "1"}, {"sequence_parallel", "true"}}),
      joined(kBase, {{"dp", "3"}, {"zero", "2"}, {"overlap_param_gather", "true"}}),
      joined(kBase, {{"dp", "3"}, {"zero", "3"}, {"strategy.prefetch", "0"}, {"overlap_grad_reduce", "false"}}),
      joined(kBase, {{"dp", "12"}, {"zero", "3"}, {"strategy.prefetch", "9"}}),
      joined(kBase, {{"dp", "6"}, {"zero", "2"}, {"shard", "3"}}),
      joined(kBase,
             {{"dp", "6"}, {"zero", "1"}, {"zero_kind", "owners"}, {"shard", "3"}, {"overlap_grad_reduce", "true"}}),
      joined(kBase, {{"dp", "2"}, {"tp", "2"}, {"pp", "2"}, {"zero", "3"}, {"sequence_parallel", "true"}}),
      joined(kBase, {{"cp", "2"}, {"dp", "4"}, {"zero", "3"}, {"shard", "2"}}),
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    expect_parity(kModels[i % 2], cases[i]);
  }
}

// With every strategy; and q straight from the input.
TEST(Parity, LatentAttention) {
  for (const Strategy& s : strategies()) {
    if (s.overrides.count("workload.model.parallel_residual") == 0 &&
        s.overrides.count("workload.model.qk_norm") == 0 && s.overrides.count("cp") == 0 &&
        s.overrides.count("workload.model.attention_sinks") == 0) {
      expect_parity(testing::kTinyLlama, joined(kBase, joined(kLatent, s.overrides)));
    }
  }
  const Overrides direct =
      joined(kLatent, {{"workload.model.mla", R"({"kv_rank": 10, "nope_dim": 4, "rope_dim": 2, "v_dim": 4})"}});
  const Overrides sp = {{"tp", "2"}, {"sequence_parallel", "true"}};
  for (const Overrides& latent : {kLatent, direct}) {
    expect_parity(testing::kTinyLlama, joined(kBase, latent));
    expect_parity(testing::kTinyLlama, joined(kBase, joined(latent, {{"tp", "4"}})));
    expect_parity(testing::kTinyLlama, joined(kBase, joined(latent, sp)));
    for (const char* const recompute : {"full", R"(["mla_up"])", R"(["mla_up", "norm", "attention_core", "mlp"])"}) {
      expect_parity(testing::kTinyLlama, joined(kBase, joined(latent, joined(sp, {{"recompute", recompute}}))));
    }
    expect_parity(
        testing::kTinyLlama,
        joined(kBase, joined(latent, joined(sp, {{"pp", "2"}, {"schedule", "zb_h1"}, {"dp", "2"}, {"zero", "1"}}))));
    expect_parity(testing::kTinyLlama, joined(kBase, joined(latent, joined(sp, {{"attention", "unfused"}}))));
    for (const char* const precision : {"fp32", "bf16"}) {
      expect_parity(testing::kTinyLlama, joined(kBase, joined(latent, joined(sp, {{"precision", precision}}))));
    }
  }
}

// One layer of two recomputes, or two of three; and what makes copies, gathers and chunks of them.
TEST(Parity, RecomputeOfSomeLayers) {
  const Overrides some = {{"recompute", "full"}, {"recompute_layers", "1"}};
  const std::vector<Overrides> cases = {
      {},
      {{"recompute_layers", "3"}, {"attention", "unfused"}},
      {{"pp", "2"}, {"tp", "2"}, {"sequence_parallel", "true"}},
      {{"pp", "2"}, {"recompute_layers", "[2,1]"}, {"layers_per_stage", "[3,1]"}, {"overlap_grad_reduce", "true"}},
      {{"pp", "2"}, {"virtual_stages", "2"}, {"workload.model.layers", "7"}, {"dp", "2"}, {"zero", "1"}},
      {{"pp", "2"}, {"schedule", "zb_h1"}, {"dp", "2"}},
      {{"pp", "2"}, {"schedule", "zb_v"}, {"workload.model.layers", "8"}, {"tp", "2"}, {"sequence_parallel", "true"}},
      {{"dp", "2"}, {"zero", "3"}, {"recompute_layers", "2"}},
      {{"cp", "2"}, {"recompute_layers", "2"}},
      {{"workload.model.parallel_residual", "true"}, {"workload.model.rotary_dim", "4"}},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    expect_parity(kModels[i % 2], joined(kBase, joined(some, cases[i])));
  }
  expect_parity(testing::kTinyLlama, joined(kBase, joined(kLatent, some)));
}

// Adam on the host: whole, in parts of every kind, with gathers behind it, and without master weights (fp64).
TEST(Parity, OptimizerOnTheHost) {
  const Overrides offload = {{"offload", R"(["optimizer"])"}};
  const std::vector<Overrides> cases = {
      {},
      {{"dp", "2"}, {"zero", "1"}, {"overlap_param_gather", "true"}, {"bucket_bytes", "1 kB"}},
      {{"dp", "2"}, {"zero", "2"}, {"precision", "bf16"}},
      {{"dp", "2"}, {"zero", "1"}, {"zero_kind", "owners"}},
      {{"pp", "2"}, {"tp", "2"}, {"schedule", "zb_h1"}, {"workload.model.tied_embeddings", "true"}},
      {{"dp", "4"}, {"global_batch", "24"}, {"zero", "1"}, {"shard", "2"}, {"precision", "fp32"}},
      {{"workload.optimizer", R"({"name":"momentum","learning_rate":0.05})"}},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    expect_parity(kModels[i % 2], joined(kBase, joined(offload, cases[i])));
  }
}

// What layers keep passes through the host: one layer, some, all; of chunks, in groups, with what else keeps less.
TEST(Parity, ActivationsOnTheHost) {
  const Overrides offload = {{"offload", R"(["activations"])"}};
  const std::vector<Overrides> cases = {
      {},
      {{"offload_layers", "3"}, {"attention", "unfused"}, {"offload", R"(["optimizer","activations"])"}},
      {{"offload_layers", "1"}, {"tp", "2"}, {"sequence_parallel", "true"}},
      {{"pp", "2"}, {"virtual_stages", "2"}, {"workload.model.layers", "7"}, {"dp", "2"}, {"zero", "1"}},
      {{"pp", "3"}, {"layers_per_stage", "[0,3,1]"}, {"overlap_grad_reduce", "true"}},
      {{"pp", "2"}, {"schedule", "gpipe"}, {"offload_layers", "2"}, {"layers_per_stage", "[3,1]"}, {"tp", "2"}},
      {{"recompute", "full"}, {"workload.model.layers", "6"}},
      {{"recompute", R"(["attention_core","norm"])"}, {"pp", "2"}, {"workload.model.layers", "6"}},
      {{"dp", "2"}, {"zero", "3"}, {"offload_layers", "3"}},
      {{"cp", "2"}, {"micro_batch", "2"}},
      {{"workload.model.parallel_residual", "true"}, {"precision", "bf16"}},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    expect_parity(kModels[i % 2], joined(kBase, joined(offload, cases[i])));
  }
  expect_parity(testing::kTinyLlama, joined(kBase, joined(kLatent, offload)));
}

// Documents of few tokens, of which the last is shorter; in cut sequences, unfused kernels, latent attention.
TEST(Parity, Documents) {
  for (const Overrides& o : std::vector<Overrides>{
           {{"document_length", "5"}, {"cp", "2"}, {"cp_kind", "all_gather"}},
           {{"document_length", "5"}, {"cp", "2"}, {"cp_kind", "all_to_all"}, {"workload.model.kv_heads", "4"}},
           {{"document_length", "4"}, {"attention", "unfused"}, {"recompute", "selective"}, {"tp", "2"}},
           {{"document_length", "7"}, {"workload.model.attention_window", "3"}, {"pp", "2"}, {"precision", "bf16"}},
           {{"document_length", "1"}, {"attention", "fused_softmax"}}}) {
    expect_parity(testing::kTinyLlama, joined(kBase, o));
  }
  expect_parity(testing::kTinyLlama, joined(kBase, joined(kLatent, {{"document_length", "5"}, {"dp", "2"}})));
}

// The norm goes from stage to stage, and back in the next step; nothing is clipped.
TEST(Parity, PostValidation) {
  const Overrides post = {
      {"optimizer_sync", "post_validation"}, {"pp", "2"}, {"workload.optimizer", R"({"name":"adamw","clip":0})"}};
  const std::vector<Overrides> cases = {
      {{"pp", "4"}, {"schedule", "zb_h2"}},
      {{"pp", "3"}, {"schedule", "zb_h1"}, {"tp", "2"}, {"sequence_parallel", "true"}},
      {{"dp", "2"}, {"zero", "1"}, {"overlap_grad_reduce", "true"}},
      {{"schedule", "zb_v"}, {"workload.model.tied_embeddings", "true"}},
      {{"global_batch", "1"}, {"schedule", "gpipe"}, {"precision", "bf16"}},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    expect_parity(kModels[i % 2], joined(kBase, joined(post, cases[i])));
  }
}

// Two copies of the model, half of the microbatches from either end; gradients summed over both copies.
TEST(Parity, DualPipe) {
  const Overrides dualpipe = {{"schedule", "dualpipe"}, {"pp", "2"}};
  const std::vector<Overrides> cases = {
      {},
      {{"pp", "4"}, {"workload.model.layers", "7"}},
      {{"pp", "4"}, {"zero", "1"}, {"overlap_grad_reduce", "true"}, {"bucket_bytes", "1 kB"}},
      {{"dp", "2"}, {"tp", "2"}, {"sequence_parallel", "true"}, {"overlap_grad_reduce", "true"}},
      {{"dp", "2"}, {"zero", "1"}, {"overlap_param_gather", "true"}, {"workload.model.tied_embeddings", "true"}},
      {{"pp", "4"}, {"layers_per_stage", "[0,3,1,0]"}, {"recompute", "full"}, {"precision", "bf16"}},
      {{"cp", "2"}, {"scatter_gather", "true"}, {"tp", "2"}, {"recompute", "full"}, {"recompute_layers", "[1,0]"}},
      {{"dp", "3"}, {"micro_batch", "2"}, {"zero", "1"}, {"zero_kind", "owners"}},
      {{"pp", "6"}, {"workload.model.layers", "6"}, {"offload", R"(["optimizer"])"}},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    expect_parity(kModels[i % 2], joined(kBase, joined(dualpipe, cases[i])));
  }
}

// Windows of one token and up, in the first layers or in all; with sinks in the ring and where heads are dealt out.
TEST(Parity, WindowsAndSinks) {
  const Overrides sinks = {
      {"workload.model.attention_sinks", "true"}, {"tp", "2"}, {"cp", "2"}, {"workload.model.kv_heads", "4"}};
  expect_parity(testing::kTinyLlama, joined(kBase, joined(sinks, {{"attention", "flash"}})));
  expect_parity(testing::kTinyLlama,
                joined(kBase, joined(sinks, {{"cp_kind", "all_to_all"}, {"workload.model.attention_window", "5"}})));
  for (const auto& [precision, kind] :
       {std::pair{"fp32", "all_to_all"}, {"fp32", "all_gather"}, {"bf16", "all_gather"}}) {
    expect_parity(testing::kTinyLlama, joined(kBase, joined(sinks, {{"precision", precision},
                                                                    {"cp_kind", kind},
                                                                    {"workload.model.attention_window", "3"},
                                                                    {"workload.model.activation", "swiglu_clamped"}})));
  }
  expect_parity(testing::kTinyLlama, joined(kBase, {{"cp", "3"},
                                                    {"cp_kind", "all_gather"},
                                                    {"global_batch", "4"},
                                                    {"micro_batch", "2"},
                                                    {"workload.model.attention_window", "3"},
                                                    {"workload.model.full_attention_every", "3"}}));
  expect_parity(testing::kTinyGpt, joined(kBase, {{"pp", "2"},
                                                  {"workload.model.attention_window", "1"},
                                                  {"workload.model.full_attention_first", "1"},
                                                  {"recompute", "selective"},
                                                  {"attention", "fused_softmax"}}));
  expect_parity(
      testing::kTinyLlama,
      joined(kBase,
             joined(kLatent, {{"workload.model.attention_window", "4"}, {"sequence_parallel", "true"}, {"tp", "2"}})));
}

// kv heads held by several tp ranks.
TEST(Parity, ReplicatedKeyValueHeads) {
  for (const char* const kv_heads : {"1", "2"}) {
    for (const char* const sequence_parallel : {"false", "true"}) {
      expect_parity(testing::kTinyLlama, joined(kBase, {{"tp", "4"},
                                                        {"workload.model.kv_heads", kv_heads},
                                                        {"sequence_parallel", sequence_parallel},
                                                        {"dp", "2"},
                                                        {"zero", "1"}}));
    }
  }
}

TEST(Parity, FortyRandomProducts) {
  std::mt19937 random(20240501);
  const auto any = [&](std::vector<std::string> words) { return words[random() % words.size()]; };
  for (int product = 0; product < 40;) {
    Overrides o = kBase;
    const int dp = std::stoi(any({"1", "2", "3", "4"})), tp = std::stoi(any({"1", "2", "4"})),
              pp = std::stoi(any({"1", "2", "3", "4"}));
    const int cp = std::stoi(any({"1", "1", "2", "4"}));
    if (dp * tp * pp * cp > 8) {
      continue;
    }
    o["cp"] = std::to_string(cp);
    o["cp_kind"] = any({"ring", "all_to_all", "all_gather"});
    o["dp"] = std::to_string(dp);
    o["tp"] = std::to_string(tp);
    o["pp"] = std::to_string(pp);
    o["workload.model.layers"] = any({"4", "5", "7"});
    o["workload.model.hidden"] = any({"32", "40", "56"});
    o["workload.model.ffn_hidden"] = any({"64", "88"});
    o["workload.model.activation"] = any({"gelu", "relu", "swiglu", "geglu"});
    o["workload.model.tied_embeddings"] = any({"true", "false"});
    o["workload.model.kv_heads"] = any({"2", "4", "8"});
    o["workload.model.vocab"] = any({"61", "129"});
    o.erase("padded_vocab");
    o["seq_len"] = any({"8", "12", "16"});
    o["micro_batch"] = any({"1", "2"});
    o["attention"] = any({"flash", "unfused", "fused_softmax"});
    o["recompute"] =
        any({"none", "selective", "full", R"(["norm"])", R"(["mlp"])", R"(["attention_core","activation"])"});
    if (o["recompute"] == "full" && product % 2 == 0) {
      o["recompute_layers"] = any({"0", "1", "2"});
    }
    o["recompute_early_stop"] = o["recompute"] == "full" ? any({"true", "false"}) : "false";
    if (cp > 1 && o["cp_kind"] != "all_to_all") {
      o["attention"] = "flash";
    }
    o["sequence_parallel"] = tp > 1 ? any({"true", "false"}) : "false";
    o["zero"] = any({"0", "1", "2", "3"});
    o["overlap_grad_reduce"] = any({"true", "false"});
    o["overlap_param_gather"] = o["zero"] == "1" || o["zero"] == "2" ? any({"true", "false"}) : "false";
    if (o["zero"] == "3") {
      o["reshard"] = any({"true", "false"});
      o["strategy.prefetch"] = any({"0", "1", "2"});
    }
    if (o["zero"] != "0" && dp == 4) {
      o["shard"] = any({"2", "4"});
    }
    if (o["zero"] != "3" && product % 4 == 1) {
      o["offload"] = R"(["optimizer"])";
    }
    const bool whole = product % 2 != 0 && product % 3 != 0;
    if (whole && !o.contains("recompute_layers")) {
      o["offload"] = o.contains("offload") ? R"(["optimizer","activations"])" : R"(["activations"])";
    }
    o["bucket_bytes"] = any({"1 kB", "200 kB", "100 MB"});
    o["overlap_tp"] = any({"true", "false"});
    o["scatter_gather"] = any({"true", "false"});
    o["fused_grad_accumulation"] = any({"true", "false"});
    o["schedule"] = whole ? any({"gpipe", "1f1b"}) : any({"gpipe", "1f1b", "zb_h1", "zb_h2"});
    const bool even = pp % 2 == 0 && 12 / dp / std::stoi(o["micro_batch"]) % 2 == 0;
    if (even && product % 3 == 0 && o["zero"] < "2" && !o.contains("shard")) {
      o["schedule"] = "dualpipe";
    }
    o["workload.optimizer"] = any({R"("adamw")", R"("adam")", R"({"name":"sgd","learning_rate":0.1,"clip":0})",
                                   R"({"name":"momentum","learning_rate":0.05})"});
    if (pp > 1 && o["schedule"] != "dualpipe" && o["workload.optimizer"].find("clip") != std::string::npos) {
      o["optimizer_sync"] = any({"global", "post_validation"});
    }
    const int seq = std::stoi(o["seq_len"]), kv_heads = std::stoi(o["workload.model.kv_heads"]);
    const bool cuts = cp == 1 || (seq % (2 * cp) == 0 && (o["sequence_parallel"] == "false" || seq / cp % tp == 0));
    const bool deals_out = cp == 1 || o["cp_kind"] != "all_to_all" || kv_heads % (tp * cp) == 0;
    if (12 % (dp * std::stoi(o["micro_batch"])) != 0 || !cuts || !deals_out || is_refused(o)) {
      continue;
    }
    expect_parity(kModels[product % 2], o);
    ++product;
  }
}

// Any placement and any order, backwards whole and in halves.
TEST(Parity, TenRandomSchedules) {
  const test::TemporaryFolder folder;
  std::mt19937 random(20261121);
  for (int trial = 0; trial < 10; ++trial) {
    const int pp = 2 + static_cast<int>(random() % 3), v = 1 + static_cast<int>(random() % 2);
    folder.write("schedule.txt", to_text(testing::random_schedule(random, pp, v, 4)));
    expect_parity(kModels[trial % 2], joined(kBase, {{"schedule", folder.path("schedule.txt")},
                                                     {"pp", std::to_string(pp)},
                                                     {"virtual_stages", std::to_string(v)},
                                                     {"global_batch", "4"},
                                                     {"workload.model.layers", "8"},
                                                     {"recompute", random() % 2 == 0 ? "full" : "none"}}));
  }
}

// One model in the one, the other in the other; in the next strategy the other way round.
TEST(Parity, InFp32AndBf16) {
  std::size_t turn = 0;
  for (const Strategy& s : strategies()) {
    expect_parity(kModels[turn % 2], joined(kBase, joined(s.overrides, {{"precision", "fp32"}})));
    expect_parity(kModels[++turn % 2], joined(kBase, joined(s.overrides, {{"precision", "bf16"}})));
  }
}

}  // namespace
}  // namespace foretrain::exec
