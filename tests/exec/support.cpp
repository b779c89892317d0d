#include "tests/exec/support.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "exec/keywords.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "workloads/workload_file.h"

namespace foretrain::testing {

exec::Tolerance brief(const plan::Job& job) {
  exec::Tolerance tolerance = exec::tolerance_of(job);
  tolerance.steps = (tolerance.steps + 1) / 2;
  tolerance.gradient_steps = std::min(tolerance.gradient_steps, tolerance.steps);
  return tolerance;
}

const exec::Course& one_rank_course(const plan::Job& job, const exec::DataSource& data,
                                    const exec::VerifyOptions& options) {
  static std::map<std::string, exec::Course> known;
  const plan::Job one = plan::one_rank_job(job);
  const auto [found, is_new] =
      known.try_emplace(workloads::to_json(one.workload).dump() + plan::to_json(one.strategy).dump());
  if (is_new) {
    found->second = exec::train(plan::build(one), brief(one), data, options);
  }
  return found->second;
}

void expect_parity(const char* model, const std::vector<std::string>& overrides) {
  SCOPED_TRACE(::testing::PrintToString(overrides));
  const plan::Job job = tiny_job(model, overrides);
  const GrammarData tokens(job.workload.model.vocab);
  const std::optional<exec::Keywords> keywords =
      job.workload.model.is_classifier()
          ? std::optional<exec::Keywords>(std::in_place, job.workload, exec::Keywords::Part::training, 1)
          : std::nullopt;
  const exec::DataSource& data = keywords ? static_cast<const exec::DataSource&>(*keywords) : tokens;
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), std::vector<std::string>{});
  exec::VerifyOptions options;
  options.poison = true;
  options.timeout = std::chrono::seconds(20);
  const exec::Verification v = exec::verify(graph, one_rank_course(job, data, options), brief(job), data, options);
  EXPECT_TRUE(v.passed) << "loss " << v.max_rel_loss << " of " << v.tolerance.loss << ", gradients " << v.max_rel_grad
                        << " of " << v.tolerance.gradient << " in " << v.worst_tensor;
}

}  // namespace foretrain::testing
