#include "search/graph_bound.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "plan/cursor.h"
#include "sim/compute_model.h"
#include "sim/device_share.h"
#include "sim/least_time.h"
#include "sim/network.h"
#include "sim/remembered_network.h"
#include "sim/role_model.h"

namespace foretrain::search {

namespace {

constexpr plan::Durations kNone{INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};

std::int64_t& of(plan::Durations& d, plan::ActionKind kind) {
  return kind == plan::ActionKind::forward          ? d.forward
         : kind == plan::ActionKind::backward       ? d.backward
         : kind == plan::ActionKind::backward_input ? d.backward_input
                                                    : d.backward_weight;
}

// Of ops of a stream, over a step.
struct Stream {
  std::int64_t sum = 0, taking = 0;  // all; those that take from the device
  std::set<sim::DeviceLoad> loads;   // of these
};

// One role's step.
class RoleLeast {
 public:
  // `speeds`: of compute beside communication; nullptr: neither slows the other.
  RoleLeast(const plan::Role& role, const sim::RoleModel& model, sim::ShareSpeeds* speeds)
      : role_(role), model_(model), least_(model), speeds_(speeds), streams_(role.streams.size()) {}

  void walk() {
    const std::vector<plan::Instance>& body = role_.program.body;
    std::vector<const plan::Instance*> first(role_.segments.size(), nullptr);
    std::vector<std::int64_t> count(role_.segments.size(), 0);
    std::size_t last = 0;
    for (std::size_t i = 0; i < body.size(); ++i) {
      const auto segment = static_cast<std::size_t>(body[i].segment);
      first[segment] = count[segment]++ == 0 ? &body[i] : first[segment];
      last = role_.segments[segment].chunk >= 0 ? i : last;
    }
    // What stands behind the last action overlaps with it.
    std::vector<std::int64_t> before = count;
    for (std::size_t i = last; i < body.size(); ++i) {
      --before[static_cast<std::size_t>(body[i].segment)];
    }
    std::vector<std::int64_t> times(role_.blocks.size(), 0);
    for (std::size_t s = 0; s < count.size(); ++s) {
      for (const plan::BlockCall& call : role_.segments[s].calls) {
        times[static_cast<std::size_t>(call.block)] += call.count * count[s];
      }
      if (count[s] > 0) {
        take(role_.segments[s], *first[s], before[s]);
      }
    }
    for (std::size_t b = 0; b < times.size(); ++b) {
      if (times[b] > 0) {
        take_ops(model_.blocks[b], times[b]);
      }
    }
    const auto stretch = [&](bool after_input) {
      least_.begin();
      for (std::size_t i = last; i < body.size(); ++i) {
        add(body[i], after_input);
      }
      return least_.extent().value;
    };
    behind = stretch(false);
    all += behind;
    if (last < body.size()) {
      const plan::Segment& segment = role_.segments[static_cast<std::size_t>(body[last].segment)];
      if (segment.chunk >= 0) {
        behind = std::min(behind - of(least_of.at(segment.chunk).whole, kind(segment)),
                          stretch(true) - of(least_of.at(segment.chunk).after_input, kind(segment)));
      }
    }
    for (const Stream& s : streams_) {
      longest_stream = std::max(longest_stream, s.sum);
    }
  }

  // Where they take the limit or longer, else 0: ops of a stream, or computing beside communication,
  std::int64_t in_any_order(std::int64_t limit) {
    return std::max(longest_stream < limit ? 0 : longest_stream, beside(0, limit));
  }
  // and with the waits that stay.
  std::int64_t with_waits(std::int64_t limit) { return beside(waited_, limit); }

  // Of the compute stream but for the update, in a step that takes no more than `limit`: what communication finds no
  // other time for is beside it.
  std::int64_t busy(std::int64_t limit) {
    std::int64_t least = streams_[plan::kCompute].sum;
    for (const Stream& s : streams_) {
      if (s.taking > limit - least) {
        least = std::max(least, computing(s, limit - least));
      }
    }
    return std::min(least, limit) - update_;
  }

  std::int64_t all = 0, longest_stream = 0;
  std::int64_t behind = 0;           // from the last action on, what is more than the least of it
  std::int64_t message = INT64_MAX;  // the shortest between stages
  // Of actions; once what they receive from another stage has come, all before that being over.
  struct Least {
    plan::Durations whole = kNone, after_input = kNone;
  };
  std::map<std::int32_t, Least> least_of;  // by chunk

 private:
  std::int64_t beside(std::int64_t waited, std::int64_t limit) {
    std::int64_t least = 0;
    for (const Stream& s : streams_) {
      // What all of it beside nothing would take says whether that can be.
      if (streams_[plan::kCompute].sum + std::max(s.taking, waited) >= limit) {
        least = std::max(least, computing(s, waited) + waited);
      }
    }
    return least < limit ? 0 : least;
  }

  // A segment's name begins with its action's letter (plan/graph.h).
  static plan::ActionKind kind(const plan::Segment& s) {
    return s.name.front() == 'F'   ? plan::ActionKind::forward
           : s.name.front() == 'B' ? plan::ActionKind::backward
           : s.name.front() == 'I' ? plan::ActionKind::backward_input
                                   : plan::ActionKind::backward_weight;
  }

  // Instances of a segment take equally long: `before` the last action so many.
  void take(const plan::Segment& segment, const plan::Instance& instance, std::int64_t before) {
    if (segment.chunk < 0 && before == 0) {
      return;
    }
    least_.begin();
    add(instance, false);
    const std::int64_t took = least_.extent().value;
    all += took * before;
    waited_ += least_.waited().value * before;
    if (segment.chunk >= 0) {
      Least& least = least_of[segment.chunk];
      std::int64_t &whole = of(least.whole, kind(segment)), &after = of(least.after_input, kind(segment));
      whole = std::min(whole, took);
      least_.begin();
      add(instance, true);
      after = std::min(after, least_.extent().value);
    }
  }

  void add(const plan::Instance& instance, bool after_input) {
    const plan::Segment& s = role_.segments[static_cast<std::size_t>(instance.segment)];
    for (const plan::BlockCall& call : s.calls) {
      for (std::int32_t i = 0; i < call.count; ++i) {
        least_.add(call.block, plan::bind(s, instance, call, i));
      }
      if (after_input && receives(call.block)) {
        least_.begin();
      }
    }
  }

  bool receives(plan::BlockId block) const {
    const std::vector<sim::OpModel>& ops = model_.blocks[static_cast<std::size_t>(block)];
    return std::any_of(ops.begin(), ops.end(), [&](const sim::OpModel& op) {
      return std::any_of(op.meetings.begin(), op.meetings.end(), [&](const sim::Meeting& m) {
        return m.is_message && !m.sends && model_.views[static_cast<std::size_t>(m.view)].axis == plan::Axis::pp;
      });
    });
  }

  void take_ops(const std::vector<sim::OpModel>& block, std::int64_t count) {
    for (const sim::OpModel& op : block) {
      Stream& stream = streams_[static_cast<std::size_t>(op.stream)];
      stream.sum += op.duration.value * count;
      if (op.stream == plan::kCompute) {
        update_ += op.op->phase == plan::Phase::optimizer ? op.duration.value * count : 0;
        computed_.emplace_back(op.like, op.duration.value * count);
      }
      sim::DeviceLoad load;
      for (const sim::Meeting& m : op.meetings) {
        const sim::View& view = model_.views[static_cast<std::size_t>(m.view)];
        message = m.is_message && view.axis == plan::Axis::pp ? std::min(message, m.duration.value) : message;
        load += m.load;
      }
      if (!load.is_none() && speeds_ != nullptr) {
        stream.taking += op.duration.value * count;
        stream.loads.insert(load);
      }
    }
  }

  // What ops of the compute stream take, one after the other, while a stream's communication takes from the device, but
  // for so much of it that is while they wait. Where it is beside nothing, the compute stream loses all that time, more
  // than beside the ops that lose least by it.
  std::int64_t computing(const Stream& stream, std::int64_t meanwhile) {
    std::vector<std::pair<double, double>> ops;  // speed beside it, time alone
    std::int64_t sum = 0;
    for (const auto& [op, alone] : computed_) {
      std::int64_t speed = 0;
      for (const sim::DeviceLoad& load : stream.loads) {
        speed = std::max(speed, speeds_->compute(*op, load));
      }
      ops.emplace_back(static_cast<double>(speed) / static_cast<double>(sim::kFullSpeed), static_cast<double>(alone));
      sum += alone;
    }
    std::sort(ops.begin(), ops.end(), std::greater<>());
    double left = static_cast<double>(std::max<std::int64_t>(0, stream.taking - meanwhile)), lost = 0;
    for (const auto& [speed, alone] : ops) {
      const double together = std::min(left, alone / speed);
      lost += together * (1 - speed);
      left -= together;
    }
    return sum + static_cast<std::int64_t>(lost + left);
  }

  const plan::Role& role_;
  const sim::RoleModel& model_;
  sim::LeastTime least_;
  sim::ShareSpeeds* speeds_;
  std::vector<Stream> streams_;
  std::int64_t waited_ = 0, update_ = 0;                            // by the compute stream, and of it
  std::vector<std::pair<const plan::Op*, std::int64_t>> computed_;  // on the compute stream
};

// A rank's chunks are its virtual stages, ascending.
std::vector<plan::Durations> by_stage(PipelineRows& rows, const Shape& shape, const std::vector<RoleLeast>& roles) {
  std::vector<plan::Durations> all(static_cast<std::size_t>(shape.pp * shape.virtual_stages), kNone);
  for (std::size_t r = 0; r < roles.size(); ++r) {
    const std::vector<std::int32_t> stages = rows.stages_of(shape, r);
    for (const auto& [chunk, least] : roles[r].least_of) {
      plan::Durations& d = all[static_cast<std::size_t>(stages[static_cast<std::size_t>(chunk)])];
      d = least.whole;
      d.forward_lead = least.whole.forward - least.after_input.forward;
      d.backward_lead = std::max(least.whole.backward - least.after_input.backward,
                                 least.whole.backward_input - least.after_input.backward_input);
      d.message = roles[r].message == INT64_MAX ? 0 : roles[r].message;
    }
  }
  return all;
}

}  // namespace

GraphBound graph_bound(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Shape& shape,
                       PipelineRows& rows, double clock, Time limit) {
  const std::unique_ptr<sim::ComputeModel> compute = sim::make_compute_model("auto", cluster, clock);
  const std::unique_ptr<sim::NetworkModel> network =
      sim::remembered_network(sim::make_network_model("auto", cluster, {}, graph.mesh.ranks()));
  const std::vector<sim::RoleModel> models = sim::model_roles(graph, cluster, *compute, *network);
  sim::ShareSpeeds speeds(*compute, sim::sharing_figures(cluster));
  std::vector<RoleLeast> roles;
  std::int64_t least = 0;
  for (std::size_t r = 0; r < models.size(); ++r) {
    roles.emplace_back(graph.roles[r], models[r], cluster.this_machine ? nullptr : &speeds);
    roles.back().walk();
    if (const std::int64_t ops = roles.back().in_any_order(limit.value); ops > 0) {
      return {Time{ops}, Time{ops}, {}};
    }
    least = std::max(least, roles.back().all);
  }
  if (!shape.overlap_ep && shape.schedule != "dualpipe" && std::ssize(roles) == shape.pp) {
    const std::vector<std::int64_t> pipeline = rows.walked_by_rank(shape, by_stage(rows, shape, roles));
    for (std::size_t r = 0; r < pipeline.size(); ++r) {
      // What the first microbatches take longer may go on while a rank waits for others.
      least = std::max(least, pipeline[r] + roles[r].behind);
    }
  }
  double busy = 0;
  for (std::size_t r = 0; r < roles.size(); ++r) {
    least = std::max(least, least < limit.value ? roles[r].with_waits(limit.value) : 0);
    if (least >= limit.value) {
      return {Time{least}, {}, {}};
    }
    if (clock < 1) {
      busy += static_cast<double>(roles[r].busy(limit.value)) *
              static_cast<double>(plan::count(graph.mesh, graph.roles[r].ranks));
    }
  }
  return {Time{least}, {}, Time{static_cast<std::int64_t>(busy / static_cast<double>(graph.mesh.ranks()))}};
}

}  // namespace foretrain::search
