// Parameter servers (Li et al. 2014, "Scaling distributed machine learning with the parameter server"): ranks that hold
// parameters and optimizer state, and no data. A server's step is the workers' update: gradients in, in the order in
// which a backward completes them, norms, optimizer, parameters out.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

// What goes to one server as a whole: a layer, the embedding, the head.
struct Unit {
  std::string name;
  std::int64_t elements = 0;
  std::int32_t* server = nullptr;
};

void deal_by_size(std::vector<Unit>& units, std::int64_t servers) {
  std::stable_sort(units.begin(), units.end(), [](const Unit& a, const Unit& b) { return a.elements > b.elements; });
  std::vector<std::int64_t> has(static_cast<std::size_t>(servers), 0);
  for (const Unit& unit : units) {
    const auto least = std::min_element(has.begin(), has.end());
    *least += unit.elements;
    *unit.server = static_cast<std::int32_t>(least - has.begin());
  }
}

// FNV-1a: the same on every machine.
std::uint64_t hash(const std::string& name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char letter : name) {
    h = (h ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  }
  return h ^ h >> 32;
}

// What workers send behind the backward of their last microbatch belongs to it.
void gather_behind_backward(RoleContext& c, std::int32_t last_microbatch) {
  if (!c.job.strategy.overlap_grad_reduce) {
    return;
  }
  Segment s;
  s.name = "gather";
  for (const BucketRange& r : all_buckets(c, false)) {
    if (r.family != kEmbedding) {
      s.calls.push_back({exchange_bucket(c, r), 1, r.family == kHead ? -1 : r.first_layer, 1});
    }
  }
  if (!s.calls.empty()) {
    c.role().program.body.push_back({c.builder.add(std::move(s)), last_microbatch, -1, -1});
  }
}

}  // namespace

std::int32_t Dealing::server_of(const Role& role, const BucketRange& r) const {
  return r.family == kEmbedding ? embedding
         : r.family == kHead
             ? head
             : layers[static_cast<std::size_t>(role.global_layer[static_cast<std::size_t>(r.first_layer)])];
}

Dealing deal(const Strategy& strategy, const Role& worker) {
  Dealing d;
  d.layers.resize(worker.global_layer.size());
  std::vector<Unit> units;
  const auto add_end = [&](Family f, std::int32_t& server) {
    const ParameterFamily& family = worker.parameter_families[f];
    if (family.parameter >= 0 && !family.parameters.empty()) {
      units.push_back({family.name, family.elements, &server});
    }
  };
  add_end(kEmbedding, d.embedding);
  for (std::size_t l = 0; l < d.layers.size(); ++l) {
    units.push_back({fmt::format("layers.{}", l), worker.parameter_families[kLayer].elements, &d.layers[l]});
  }
  add_end(kHead, d.head);
  if (strategy.server_sharding == ServerSharding::size) {
    deal_by_size(units, strategy.servers);
  } else {
    for (const Unit& unit : units) {
      *unit.server = static_cast<std::int32_t>(hash(unit.name) % static_cast<std::uint64_t>(strategy.servers));
    }
  }
  for (std::int32_t server = 0; server < strategy.servers; ++server) {
    if (std::none_of(units.begin(), units.end(), [&](const Unit& u) { return *u.server == server; })) {
      throw InputError(fmt::format(
          "strategy: server {} of {} would have none of the {} parts that parameters are dealt in (each layer, the "
          "embedding, the head){}; expected fewer servers",
          server, strategy.servers, units.size(),
          strategy.server_sharding == ServerSharding::hash ? " by their hashes" : ""));
    }
  }
  return d;
}

void build_server(const Job& job, PlanGraph& g, Role& role, const Groups& groups, Part part, std::int32_t index,
                  const Dealing& dealt, std::int32_t last_microbatch) {
  static const std::vector<Action> no_actions;
  static const std::vector<std::int32_t> one_stage{0};
  const bool is_replica = part == Part::replica;
  role.name = fmt::format("{}server {}", is_replica ? "replica of " : "", index);
  const std::int64_t first = job.strategy.dp + (is_replica ? job.strategy.servers : 0);
  role.ranks.fixed = {{Axis::pp, 0}, {Axis::dp, static_cast<int>(first) + index}};
  RoleContext c(job, g, role, groups, 0, {no_actions, one_stage, {}}, part);
  c.dealt = dealt;
  role.global_layer.clear();
  for (std::size_t l = 0; l < dealt.layers.size(); ++l) {
    if (dealt.layers[l] == index) {
      role.global_layer.push_back(static_cast<std::int32_t>(l));
    }
  }
  c.chunk_layers = {static_cast<std::int32_t>(role.global_layer.size())};
  c.first = dealt.embedding == index;
  c.last = dealt.head == index;
  add_parameters(c);
  for (ParameterFamily& family : role.parameter_families) {
    family.data_group = is_replicated(c) ? groups.with_replica[static_cast<std::size_t>(index)] : kNoGroup;
  }
  role.grad_norm = c.builder.buffer("gradient_norm", Dtype::fp64, 2, BufferKind::workspace, Lifetime::persistent);
  if (job.strategy.staleness) {
    add_asynchronous_program(c);
  } else {
    gather_behind_backward(c, last_microbatch);
    role.program.body.push_back({update_segment(c), -1, -1, -1});
  }
}

}  // namespace foretrain::plan
