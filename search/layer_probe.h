// What a microbatch takes at least on its way through layers, from a plan of one stage: for all plans that differ in
// how stages, replicas and time are arranged only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "plan/graph.h"
#include "plan/open_job.h"
#include "plan/schedule_times.h"
#include "search/plan_space.h"
#include "sim/least_time.h"
#include "sim/network.h"
#include "sim/role_model.h"

namespace foretrain::search {

class LayerProbe {
 public:
  // Of shapes like this one: tp, cp, ep, experts, micro_batch, sequence_parallel, recompute.
  LayerProbe(const plan::OpenJob& open, const Shape& shape);

  const std::string& why() const { return why_; }  // the job refuses such a plan; "": it does not
  std::int64_t layers() const { return layers_; }
  bool is_uniform() const { return uniform_; }  // all layers are alike

  // Bytes of all layers, on one rank, without zero.
  std::int64_t parameter_bytes = 0, gradient_bytes = 0, state_bytes = 0;
  std::int64_t kept_bytes = 0;     // of a microbatch, until its backward
  std::int64_t message_bytes = 0;  // between two stages

  // Picoseconds at a clock of `level` / kLevels (sim/power_limit.h). `hidden`: exchanges run behind another microbatch.
  static constexpr int kLevels = 64;
  // Through layers [first, end), and on to another stage. From any thread.
  plan::Durations pass(int level, std::int64_t first, std::int64_t end, bool hidden);
  // Computing, of a forward and a backward through all layers. From any thread.
  std::int64_t busy(int level);

 private:
  struct Priced {
    std::vector<sim::RoleModel> models;
    std::unique_ptr<sim::LeastTime> least;
    std::int64_t message = 0, busy = 0;
    // Shown, hidden; by layers.
    std::map<std::pair<std::int64_t, std::int64_t>, std::pair<plan::Durations, plan::Durations>> passes;
  };
  void look();
  Priced& priced(int level);
  bool is_uniform(const plan::Instance& instance) const;
  static std::int64_t busy(const sim::RoleModel& model, const plan::Instance& instance);
  std::pair<plan::Durations, plan::Durations> price(Priced& at, std::int64_t first, std::int64_t end);
  void walk(sim::LeastTime& least, const plan::Instance& instance, std::int64_t first, std::int64_t end);

  std::mutex mutex_;
  std::string why_;
  plan::Job job_;
  plan::PlanGraph graph_;
  std::unique_ptr<sim::NetworkModel> network_;
  std::map<int, Priced> priced_;
  const plan::Instance *forward_ = nullptr, *backward_ = nullptr;
  std::int64_t layers_ = 0;
  bool uniform_ = false;
};

}  // namespace foretrain::search
