#include "search/graph_bound.h"

#include <algorithm>
#include <map>
#include <vector>

#include "plan/cursor.h"
#include "sim/compute_model.h"
#include "sim/least_time.h"
#include "sim/network.h"
#include "sim/role_model.h"

namespace foretrain::search {

namespace {

constexpr plan::Durations kNone{INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, 0};

std::int64_t& of(plan::Durations& d, plan::ActionKind kind) {
  return kind == plan::ActionKind::forward          ? d.forward
         : kind == plan::ActionKind::backward       ? d.backward
         : kind == plan::ActionKind::backward_input ? d.backward_input
                                                    : d.backward_weight;
}

// One role's step.
class RoleLeast {
 public:
  RoleLeast(const plan::Role& role, const sim::RoleModel& model)
      : role_(role), model_(model), least_(model), streams_(role.streams.size()) {}

  void walk() {
    const std::vector<plan::Instance>& body = role_.program.body;
    std::size_t last = 0;
    for (std::size_t i = 0; i < body.size(); ++i) {
      last = is_action(body[i]) ? i : last;
      count(body[i]);
    }
    for (std::size_t i = 0; i < last; ++i) {
      const std::int64_t took = extent(body[i]);
      all += took;
      take_action(body[i]);
    }
    if (last < body.size()) {
      take_action(body[last]);
    }
    least_.begin();
    for (std::size_t i = last; i < body.size(); ++i) {
      add(body[i]);
    }
    all += least_.extent().value;
    for (const std::int64_t sum : streams_) {
      longest_stream = std::max(longest_stream, sum);
    }
  }

  std::int64_t all = 0, longest_stream = 0;
  std::int64_t message = INT64_MAX;                  // the shortest between stages
  std::map<std::int32_t, plan::Durations> least_of;  // by chunk, the least of its actions
  std::map<std::pair<std::int32_t, plan::ActionKind>, std::int64_t> count_of;

 private:
  const plan::Segment& segment(const plan::Instance& i) const {
    return role_.segments[static_cast<std::size_t>(i.segment)];
  }
  bool is_action(const plan::Instance& i) const { return segment(i).chunk >= 0; }

  // A segment's name begins with its action's letter (plan/graph.h).
  static plan::ActionKind kind(const plan::Segment& s) {
    return s.name.front() == 'F'   ? plan::ActionKind::forward
           : s.name.front() == 'B' ? plan::ActionKind::backward
           : s.name.front() == 'I' ? plan::ActionKind::backward_input
                                   : plan::ActionKind::backward_weight;
  }

  void take_action(const plan::Instance& instance) {
    const plan::Segment& s = segment(instance);
    if (s.chunk < 0) {
      return;
    }
    const plan::ActionKind action = kind(s);
    ++count_of[{s.chunk, action}];
    std::int64_t& least = of(least_of.try_emplace(s.chunk, kNone).first->second, action);
    least = std::min(least, extent(instance));
  }

  void add(const plan::Instance& instance) {
    const plan::Segment& s = segment(instance);
    for (const plan::BlockCall& call : s.calls) {
      for (std::int32_t i = 0; i < call.count; ++i) {
        least_.add(call.block, plan::bind(s, instance, call, i));
      }
    }
  }

  // Instances of a segment take equally long.
  std::int64_t extent(const plan::Instance& instance) {
    const auto [at, is_new] = extents_.try_emplace(instance.segment);
    if (is_new) {
      least_.begin();
      add(instance);
      at->second = least_.extent().value;
    }
    return at->second;
  }

  void count(const plan::Instance& instance) {
    for (const plan::BlockCall& call : segment(instance).calls) {
      for (const sim::OpModel& op : model_.blocks[static_cast<std::size_t>(call.block)]) {
        streams_[static_cast<std::size_t>(op.stream)] += op.duration.value * call.count;
        for (const sim::Meeting& m : op.meetings) {
          const sim::View& view = model_.views[static_cast<std::size_t>(m.view)];
          message = m.is_message && view.axis == plan::Axis::pp ? std::min(message, m.duration.value) : message;
        }
      }
    }
  }

  const plan::Role& role_;
  const sim::RoleModel& model_;
  sim::LeastTime least_;
  std::vector<std::int64_t> streams_;
  std::map<std::int32_t, std::int64_t> extents_;  // by segment
};

// A rank's chunks are its virtual stages, ascending.
std::vector<plan::Durations> by_stage(PipelineRows& rows, const Shape& shape, const std::vector<RoleLeast>& roles) {
  std::vector<plan::Durations> all(static_cast<std::size_t>(shape.pp * shape.virtual_stages), kNone);
  for (std::size_t r = 0; r < roles.size(); ++r) {
    const std::vector<std::int32_t> stages = rows.stages_of(shape, r);
    for (const auto& [chunk, least] : roles[r].least_of) {
      plan::Durations& d = all[static_cast<std::size_t>(stages[static_cast<std::size_t>(chunk)])];
      d = least;
      d.message = roles[r].message == INT64_MAX ? 0 : roles[r].message;
    }
  }
  return all;
}

}  // namespace

Time least_step_time(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Shape& shape,
                     PipelineRows& rows, double clock) {
  const std::unique_ptr<sim::ComputeModel> compute = sim::make_compute_model("auto", cluster, clock);
  const std::unique_ptr<sim::NetworkModel> network = sim::make_network_model("auto", cluster, {}, graph.mesh.ranks());
  const std::vector<sim::RoleModel> models = sim::model_roles(graph, cluster, *compute, *network);
  std::vector<RoleLeast> roles;
  std::int64_t least = 0;
  for (std::size_t r = 0; r < models.size(); ++r) {
    roles.emplace_back(graph.roles[r], models[r]);
    roles.back().walk();
    least = std::max({least, roles.back().all, roles.back().longest_stream});
  }
  if (!shape.overlap_ep && shape.schedule != "dualpipe" && std::ssize(roles) == shape.pp) {
    const std::vector<std::int64_t> pipeline = rows.least_by_rank(shape, by_stage(rows, shape, roles));
    for (std::size_t r = 0; r < pipeline.size(); ++r) {
      std::int64_t actions = 0;
      for (const auto& [action, count] : roles[r].count_of) {
        actions += count * roles[r].least_of.at(action.first).of(action.second);
      }
      least = std::max(least, pipeline[r] + roles[r].all - actions);
    }
  }
  return Time{least};
}

}  // namespace foretrain::search
