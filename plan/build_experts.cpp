// How experts lie on the ranks. The ep group is carved out of dp, and out of tp where each tp rank has experts of its
// own (expert_tp 1, as in Megatron-core's expert_tensor_parallel_size): blocks of neighbours along either. Ranks with
// the same place in their blocks hold the same experts, and sum and share out their gradients.
#include <algorithm>
#include <cmath>

#include "base/normal.h"
#include "plan/build_context.h"
#include "plan/parameter_layout.h"

namespace foretrain::plan {

namespace {

// Index of a rank in the ep group and its part of the experts there, by index in the group of all that hold different
// parts: along dp and tp, the axis that comes later in the mesh's order the faster one.
struct ExpertPlace {
  int expert_rank = 0, part = 0, replica = 0;
};

std::vector<ExpertPlace> expert_places(const RoleContext& c) {
  const Strategy& s = c.job.strategy;
  const auto& order = c.builder.graph().mesh.order;
  const bool tp_fastest =
      std::find(order.begin(), order.end(), Axis::dp) < std::find(order.begin(), order.end(), Axis::tp);
  const int tp = static_cast<int>(s.tp), along_dp = static_cast<int>(s.ep_along_dp());
  const int along_tp = static_cast<int>(s.ep_along_tp());
  std::vector<ExpertPlace> places;
  for (int i = 0; i < tp * along_dp; ++i) {
    const int d = tp_fastest ? i / tp : i % along_dp, t = tp_fastest ? i % tp : i / along_dp;
    const int own = t % along_tp;
    ExpertPlace p;
    p.expert_rank = tp_fastest ? d * along_tp + own : own * along_dp + d;
    p.part = c.e.own_tokens ? 0 : t;
    // Owners of shards have each something of their own to count.
    p.replica = c.e.own_tokens && s.zero == 0 ? t / along_tp : 0;
    places.push_back(p);
  }
  return places;
}

Layout experts_layout(const RoleContext& c) {
  const workloads::Moe& moe = c.model.moe;
  const int gates = workloads::is_gated(c.model.activation) ? 2 : 1;
  const std::int64_t f = c.e.ffn, hidden = c.n.hidden;
  const std::vector<ExpertPlace> places = expert_places(c);
  std::vector<std::vector<Slice>> up, down;
  for (const ExpertPlace& p : places) {
    std::vector<Slice> rows;
    const std::int64_t first = p.expert_rank * c.e.local;
    for (std::int64_t part = 0; part < c.e.local * gates; ++part) {
      rows.push_back({part * f, (first * gates + part) * moe.ffn_hidden + p.part * f, f, 0, p.replica});
    }
    up.push_back(std::move(rows));
    down.push_back({{0, first * hidden, c.e.local * hidden, p.part * f, p.replica}});
  }
  const std::vector<std::vector<Slice>> row_slices = up;
  Layout l;
  l.family.name = "experts";
  l.add("experts.up.weight", c.e.local * c.e.ffn_in, hidden, moe.experts * gates * moe.ffn_hidden, hidden,
        std::move(up));
  l.add("experts.down.weight", c.e.local * hidden, f, moe.experts * hidden, moe.ffn_hidden, std::move(down)).init_std =
      residual_deviation(c.model);
  if (moe.bias) {
    // A part of an expert adds its share of the second bias, which all have: the first part's counts.
    std::vector<std::vector<Slice>> up_bias = row_slices, down_bias;
    for (const ExpertPlace& p : places) {
      down_bias.push_back({{0, p.expert_rank * c.e.local, c.e.local, 0, p.replica + p.part}});
    }
    l.add_vector("experts.up.bias", c.e.local * c.e.ffn_in, moe.experts * gates * moe.ffn_hidden, std::move(up_bias),
                 Init::zeros);
    Parameter& down_vector = l.add("experts.down.bias", c.e.local, hidden, moe.experts, hidden, std::move(down_bias));
    down_vector.init = Init::zeros;
    down_vector.decay = false;
  }
  l.family.data_group = c.groups.expert_data;
  l.family.slice_group = c.groups.expert_slices;
  return l;
}

}  // namespace

ExpertExtents expert_extents(const Job& job, const Extents& n) {
  const workloads::Model& m = job.workload.model;
  const workloads::Moe& moe = m.moe;
  const Strategy& s = job.strategy;
  ExpertExtents e;
  if (moe.experts == 0) {
    return e;
  }
  const std::int64_t gates = workloads::is_gated(m.activation) ? 2 : 1;
  e.own_tokens = s.expert_tp == 1;
  e.tokens = e.own_tokens ? n.shard_rows : n.rows;
  e.choices = e.tokens * moe.top_k;
  e.experts = moe.experts;
  e.members = s.ep;
  e.local = moe.experts / s.ep;
  e.ffn = moe.ffn_hidden / s.expert_tp;
  e.ffn_in = gates * e.ffn;
  e.shared = moe.shared_width() / s.tp;
  e.shared_in = gates * e.shared;
  const double mean = static_cast<double>(e.choices) / static_cast<double>(e.experts);  // of an expert from one rank
  std::int64_t most = e.members * e.tokens * std::min(moe.top_k, e.local);
  if (moe.capacity_factor > 0) {
    e.capacity = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(mean * moe.capacity_factor)));
    most = std::min(most, e.members * e.local * e.capacity);
  }
  e.mean = std::min(static_cast<double>(e.choices), static_cast<double>(most));
  e.stddev = e.mean * job.workload.moe_imbalance / std::sqrt(static_cast<double>(e.local));
  // A run holds what may come at worst; a forecast what the busiest of the ranks is expected to get.
  const double busiest = std::ceil(e.mean + e.stddev * largest_normal(e.members));
  e.arriving = job.cluster.this_machine ? most : std::min(most, static_cast<std::int64_t>(busiest));
  return e;
}

void add_expert_groups(PlanGraph& g, const Job& job, Groups& groups) {
  const Strategy& s = job.strategy;
  if (job.workload.model.moe.experts == 0) {
    return;
  }
  const auto add = [&g](const std::string& name, std::vector<AxisSpan> spans) {
    std::erase_if(spans, [&](const AxisSpan& span) {
      return (span.block == 0 ? g.mesh.size(span.axis) : span.block) == span.stride;
    });
    if (spans.empty()) {
      return kNoGroup;
    }
    const auto known = std::find_if(g.groups.begin(), g.groups.end(), [&](const Group& x) { return x.name == name; });
    if (known != g.groups.end()) {
      return static_cast<GroupId>(known - g.groups.begin());
    }
    g.groups.push_back({name, std::move(spans), {}});
    return static_cast<GroupId>(g.groups.size() - 1);
  };
  const int along_dp = static_cast<int>(s.ep_along_dp()), along_tp = static_cast<int>(s.ep_along_tp());
  const bool own_tokens = s.expert_tp == 1;
  const AxisSpan dp_block{Axis::dp, along_dp, {}, 1}, tp_block{Axis::tp, along_tp, {}, 1};
  const AxisSpan dp_others{Axis::dp, 0, {}, along_dp};
  const AxisSpan tp_others{Axis::tp, 0, {}, own_tokens ? along_tp : static_cast<int>(s.tp)};
  const AxisSpan cp{Axis::cp, 0, {}, 1};
  groups.ep = add("ep", {dp_block, tp_block});
  std::vector<AxisSpan> same = groups.pair;
  same.insert(same.end(), {dp_others, cp, tp_others});
  groups.expert_data = add("expert_data" + groups.of_pair, std::move(same));
  // Within a shard group there are whole sets of experts: across groups the same ranks hold the same parts as of all
  // else.
  const AxisSpan dp_block_others{Axis::dp, static_cast<int>(s.shard), {}, along_dp};
  groups.expert_shard = s.shard == 0 ? groups.expert_data : add("expert_shard", {dp_block_others, cp, tp_others});
  groups.expert_slices = add("expert_slices", {dp_block, {Axis::tp, 0, {}, 1}});
  groups.expert_dp = add("expert_dp", {dp_block});
  const AxisSpan tp{Axis::tp, 0, {}, own_tokens ? 1 : static_cast<int>(s.tp)};
  groups.balanced = s.cp == 1 && own_tokens ? groups.tp : add("balanced", {cp, tp});
}

std::vector<Layout> expert_layouts(const RoleContext& c) {
  if (!c.has_experts()) {
    return {};
  }
  Layout mlp, moe, experts = experts_layout(c);
  mlp.family.name = "mlp";
  mlp.add_mlp(c, "mlp", c.model.ffn_hidden, false);
  moe.family.name = "moe";
  if (c.e.shared > 0) {
    moe.add_mlp(c, "moe.shared", c.model.moe.shared_width(), false);
  }
  if (c.model.moe.shared_gate) {
    moe.add("moe.shared_gate.weight", 1, c.n.hidden, 1, c.n.hidden, replicated(c.tp, 1));
  }
  moe.add("moe.router.weight", c.e.experts, c.n.hidden, c.e.experts, c.n.hidden, replicated(c.tp, c.e.experts));
  if (c.model.moe.bias) {
    moe.add_vector("moe.router.bias", c.e.experts, c.e.experts, replicated(c.tp, c.e.experts), Init::zeros);
  }
  for (Layout* l : {&mlp, &moe}) {
    l->family.data_group = c.groups.data;
    l->family.slice_group = c.groups.tp;
  }
  mlp.family.layer_list = kMlpLayers;
  moe.family.layer_list = experts.family.layer_list = kMoeLayers;
  return {std::move(mlp), std::move(moe), std::move(experts)};
}

}  // namespace foretrain::plan
