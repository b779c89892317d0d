// Of plans at random, written for torchtitan and read again: the same plan comes back, or the export has named every
// word that is another.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "base/error.h"
#include "plan/foreign/foreign.h"

namespace foretrain::plan {
namespace {

using nlohmann::json;

class Dice {
 public:
  template <class T>
  T of(std::initializer_list<T> choices) {
    return choices.begin()[generator_() % choices.size()];
  }

 private:
  std::mt19937_64 generator_{7};
};

json random_strategy(Dice& dice) {
  json s{{"dp", dice.of({1, 2, 8})},
         {"tp", dice.of({1, 1, 2})},
         {"pp", dice.of({1, 2, 4})},
         {"cp", dice.of({1, 1, 2})},
         {"micro_batch", dice.of({1, 2})},
         {"zero", dice.of({0, 1, 2, 3})},
         {"cp_kind", dice.of({"ring", "all_gather", "all_to_all"})},
         {"sequence_parallel", dice.of({true, true, false})},
         {"overlap_grad_reduce", dice.of({true, true, false})}};
  const auto sometimes = [&](const char* key, std::initializer_list<json> values) {
    if (dice.of({0, 1, 2, 3, 4}) == 0) {
      s[key] = dice.of(values);
    }
  };
  sometimes("virtual_stages", {2, 3, 4});
  sometimes("schedule", {"gpipe", "interleaved", "zb_h1", "zb_v", "dualpipe", "dualpipe_v"});
  sometimes("overlap_param_gather", {true, false});
  sometimes("reshard", {false});
  sometimes("shard", {2, 8});
  sometimes("ep", {2, 4});
  sometimes("expert_tp", {1});
  sometimes("recompute", {"full", "selective", json::array({"norm", "activation"}), json::array({"mlp"})});
  sometimes("recompute_layers", {0, 1, 2});
  sometimes("layers_per_stage", {json::array({20, 12}), json::array({20, 16}), json::array({7, 9, 9, 11})});
  sometimes("offload", {json::array({"activations"})});
  return s;
}

// nullopt: not a job.
std::optional<Job> random_job(Dice& dice) {
  const json strategy = random_strategy(dice);
  const std::int64_t devices =
      strategy["dp"].get<int>() * strategy["tp"].get<int>() * strategy["pp"].get<int>() * strategy["cp"].get<int>();
  const json document{{"version", 1},
                      {"workload",
                       {{"model", dice.of({"llama3-8b", "llama3.1-8b", "qwen3-8b", "deepseek-v2-lite"})},
                        {"seq_len", 4096},
                        {"global_batch", 64}}},
                      {"cluster",
                       {{"system", "dgx-h100"},
                        {"nodes", std::max<std::int64_t>(1, devices / 8)},
                        {"devices_per_node", std::min<std::int64_t>(8, devices)}}},
                      {"strategy", strategy}};
  try {
    return job_from_text(document.dump(), "job", {});
  } catch (const InputError&) {
    return std::nullopt;
  }
}

// But for words without effect in this job.
json words_of(const Job& job) {
  json all = resolved(job);
  all["workload"]["model"].erase("name");
  all["workload"]["optimizer"].erase("decay");  // of a constant rate
  json& s = all["strategy"];
  const Strategy& strategy = job.strategy;
  if (job.workload.model.moe.experts == 0) {
    s.erase("expert_tp");
  }
  if (strategy.cp == 1) {
    s.erase("cp_kind");
  }
  if (strategy.dp * strategy.cp == 1) {
    s.erase("overlap_grad_reduce");
  }
  if (strategy.shard == strategy.dp) {
    s.erase("shard");
  }
  if (s["recompute"] == "selective") {
    s["recompute"] = "none";  // flash attention keeps nothing to recompute
  }
  return all;
}

TEST(TorchtitanRoundTrip, NamesWhatDoesNotComeBack) {
  Dice dice;
  int jobs = 0, same = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::optional<Job> job = random_job(dice);
    if (!job) {
      continue;
    }
    ++jobs;
    const ExportedJob exported = export_torchtitan(*job);
    const std::string& text = exported.files.front().text;
    const std::vector<std::string> devices{"system=dgx-h100", "nodes=" + std::to_string(job->cluster.nodes),
                                           "devices_per_node=" + std::to_string(job->cluster.devices_per_node)};
    json after;
    try {
      after = words_of(job_from_text(import_torchtitan(text, "file", {devices, {}}).document, "imported", {}));
    } catch (const InputError& e) {
      FAIL() << resolved(*job)["strategy"].dump() << "\n" << text << "\n" << e.what();
    }
    const json lost = json::diff(words_of(*job), after);
    same += lost.empty() ? 1 : 0;
    const auto named = [&](const std::string& path) {
      return std::any_of(exported.warnings.begin(), exported.warnings.end(),
                         [&](const std::string& warning) { return warning.starts_with(path + " "); });
    };
    for (const json& change : lost) {
      std::string path = change["path"].get<std::string>().substr(1);
      std::replace(path.begin(), path.end(), '/', '.');
      const bool of_zero = path == "strategy.reshard" || path == "strategy.prefetch" || path == "strategy.zero_kind";
      EXPECT_TRUE(named(path) || (of_zero && named("strategy.zero")))
          << change.dump() << " of " << resolved(*job)["strategy"].dump() << "\n"
          << text;
    }
  }
  EXPECT_GT(jobs, 500);
  EXPECT_GT(same, 50);
}

}  // namespace
}  // namespace foretrain::plan
