// Graphs by hand on a machine where a byte takes a picosecond, so that expected times can be derived in a comment.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan/graph.h"
#include "plan/schedule.h"
#include "plan/schedule_times.h"
#include "plan/timeline.h"
#include "plan/validate.h"
#include "sim/simulator.h"
#include "topologies/cluster.h"
#include "topologies/profile.h"

namespace foretrain::sim {

// One byte of memory traffic or of a message: 1 ps. No launch, no latency.
inline topologies::Cluster clockwork(int devices, bool exclusive = false) {
  topologies::Profile profile;
  profile.name = "clockwork";
  profile.has_roofline = true;
  profile.roofline.matmul[Dtype::fp32] = {1, "test"};
  profile.roofline.matmul_tn = profile.roofline.matmul_nn = profile.roofline.matmul_nt = {1, "test"};
  profile.roofline.tile_halving = profile.roofline.memory = {1, "test"};
  topologies::Cluster c;
  c.name = "clockwork";
  c.devices_per_node = devices;
  c.device.name = "clock";
  c.device.memory_bandwidth = Bandwidth{1e12};
  c.device.peak[Dtype::fp32] = FlopRate{1e12};
  c.device.exclusive_streams = exclusive;
  c.intra.bandwidth = c.inter.bandwidth = Bandwidth{1e12};
  c.profile = std::make_shared<const topologies::Profile>(std::move(profile));
  return c;
}

// Takes `ps` on the compute stream (or another).
inline plan::Op work(std::int64_t ps, plan::StreamId stream = plan::kCompute, std::vector<std::uint16_t> after = {}) {
  plan::Op op;
  op.work = plan::Fill{ps, Dtype::u8};
  op.stream = stream;
  op.after = std::move(after);
  return op;
}

inline plan::Op message(bool send, int peer, std::int32_t tag, std::int64_t bytes, plan::StreamId stream,
                        std::vector<std::uint16_t> after = {}) {
  plan::Op op;
  op.work = plan::Exchange{{{send, plan::Axis::pp, peer, bytes, Dtype::u8, tag}}};
  op.stream = stream;
  op.after = std::move(after);
  return op;
}

inline plan::Op after_ops(std::vector<std::uint16_t> after) {
  plan::Op op;
  op.after = std::move(after);
  return op;
}

// Pipeline stages with a compute stream and one stream each for messages in and out.
inline plan::PlanGraph stages(int pp) {
  plan::PlanGraph g;
  g.name = "test";
  g.mesh.extent = {pp, 1, 1, 1};
  for (int s = 0; s < pp; ++s) {
    plan::Role role;
    role.name = "stage " + std::to_string(s);
    role.ranks.fixed = {{plan::Axis::pp, s}};
    role.streams = {{"compute", plan::StreamKind::compute, plan::Axis::tp},
                    {"in", plan::StreamKind::point_to_point, plan::Axis::pp},
                    {"out", plan::StreamKind::point_to_point, plan::Axis::pp},
                    {"back in", plan::StreamKind::point_to_point, plan::Axis::pp},
                    {"back out", plan::StreamKind::point_to_point, plan::Axis::pp}};
    g.roles.push_back(std::move(role));
  }
  return g;
}

// Appends one segment of one block and its instance.
inline void append(plan::Role& role, std::vector<plan::Op> ops, int microbatch = -1) {
  const auto n = static_cast<std::int16_t>(role.blocks.size());
  role.blocks.push_back({"block " + std::to_string(n), std::move(ops)});
  role.segments.push_back({"segment " + std::to_string(n), -1, 0, {{n, 1, -1, 1}}});
  role.program.body.push_back({n, microbatch, -1, -1});
}

// A schedule, what its actions take, and messages of `bytes` between stages on different ranks.
inline plan::PlanGraph pipeline(const plan::Schedule& schedule, int virtual_stages, const plan::Durations& durations,
                                std::int64_t bytes) {
  const int pp = static_cast<int>(schedule.size());
  plan::PlanGraph g = stages(pp);
  const int last = pp * virtual_stages - 1;
  const std::vector<std::int32_t> rank_of_stage = plan::placement(schedule, last + 1);
  for (int s = 0; s < last; ++s) {
    g.tags.push_back("activation " + std::to_string(s));
  }
  for (int s = 0; s < last; ++s) {
    g.tags.push_back("gradient " + std::to_string(s));
  }
  for (int rank = 0; rank < pp; ++rank) {
    // The rank of a stage; -1 where no message goes: here, or no stage.
    const auto peer = [&](int stage) {
      const int at = stage < 0 || stage > last ? rank : rank_of_stage[static_cast<std::size_t>(stage)];
      return at == rank ? -1 : at;
    };
    // A stream per direction (1 to 4) and neighbour: messages of different neighbours do not wait for each other.
    std::vector<plan::Stream>& streams = g.roles[static_cast<std::size_t>(rank)].streams;
    std::map<int, std::map<int, plan::StreamId>> known;
    const auto stream = [&](int direction, int neighbour) {
      const bool first = known[direction].empty();
      const auto [at, added] = known[direction].emplace(
          neighbour, static_cast<plan::StreamId>(first ? direction : static_cast<int>(streams.size())));
      if (added && !first) {
        streams.push_back(streams[static_cast<std::size_t>(direction)]);
      }
      return at->second;
    };
    for (const plan::Action& a : schedule[static_cast<std::size_t>(rank)]) {
      std::vector<plan::Op> ops;
      const bool forward = a.kind == plan::ActionKind::forward, weight = a.kind == plan::ActionKind::backward_weight;
      const int source = weight ? -1 : peer(a.stage + (forward ? -1 : 1));
      const int target = weight ? -1 : peer(a.stage + (forward ? 1 : -1));
      const int in_boundary = forward ? a.stage - 1 : last + a.stage;
      const int out_boundary = forward ? a.stage : last + a.stage - 1;
      if (source >= 0) {
        ops.push_back(message(false, source, in_boundary, bytes, stream(forward ? 1 : 3, source)));
      }
      ops.push_back(work(durations.of(a.kind), plan::kCompute,
                         source >= 0 ? std::vector<std::uint16_t>{0} : std::vector<std::uint16_t>{}));
      if (target >= 0) {
        ops.push_back(message(true, target, out_boundary, bytes, stream(forward ? 2 : 4, target),
                              {static_cast<std::uint16_t>(ops.size() - 1)}));
      }
      append(g.roles[static_cast<std::size_t>(rank)], std::move(ops), a.microbatch);
    }
  }
  return g;
}

// Forwards that take f and backwards that take b.
inline plan::PlanGraph pipeline(const plan::Schedule& schedule, int virtual_stages, std::int64_t f, std::int64_t b,
                                std::int64_t bytes) {
  return pipeline(schedule, virtual_stages, plan::Durations{.forward = f, .backward = b}, bytes);
}

struct Recorder : plan::SpanSink {
  void span(const plan::Span& s) override { timeline.spans.push_back(s); }
  plan::Timeline timeline;
};

// The simulated timeline as plan::validate takes it.
inline plan::Timeline timeline(const plan::PlanGraph& g, const topologies::Cluster& c, Options options = {}) {
  Recorder recorder;
  const Simulation s = simulate(g, c, options, &recorder);
  recorder.timeline.step_ends = s.step_ends;
  std::stable_sort(recorder.timeline.spans.begin(), recorder.timeline.spans.end(),
                   [](const plan::Span& a, const plan::Span& b) {
                     return std::tuple(a.rank, a.step, a.op) < std::tuple(b.rank, b.step, b.op);
                   });
  return recorder.timeline;
}

// Walks settle in the end, whether that is worth it or not.
inline Options patient() {
  Options options;
  options.most_walked = 100;
  return options;
}

// The end of one step: folded, with time as events, with every rank by itself; all the same, and valid. `folds`:
// whether time does.
inline Time end_of(const plan::PlanGraph& g, const topologies::Cluster& c, Options options = {},
                   std::optional<bool> folds = {}) {
  options.steps = 1;
  const Simulation folded = simulate(g, c, options);
  EXPECT_TRUE(!folds || folded.folded_time == *folds);
  options.fold_time = false;
  EXPECT_EQ(simulate(g, c, options).step_ends, folded.step_ends);
  options.fold_ranks = false;
  EXPECT_EQ(simulate(g, c, options).step_ends, folded.step_ends);
  EXPECT_EQ(plan::validate(g, timeline(g, c, options)), std::vector<std::string>{});
  return folded.step_ends[0];
}

// Collectives take half of the multiprocessors and some of the memory bandwidth, and are slowed in turn; a host submits
// an op in `submit` seconds.
inline void share_devices(topologies::Cluster& c, double submit) {
  topologies::Profile p = *c.profile;
  p.has_sharing = true;
  for (const char* kind : {"all_reduce", "all_gather", "reduce_scatter", "broadcast"}) {
    p.sharing.node_blocks[kind] = p.sharing.fabric_blocks[kind] = {9, "test"};
    p.sharing.memory_traffic[kind] = {2.5, "test"};
  }
  p.sharing.compute_clock = {0.93, "test"};
  p.sharing.communication_speed = {0.77, "test"};
  p.sharing.submit = {submit, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  c.device.multiprocessors = 20;
}

}  // namespace foretrain::sim
