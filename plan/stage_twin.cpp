#include "plan/stage_twin.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace foretrain::plan {

namespace {

// Which of a role's segments each action of its row runs: chunk by chunk those of the four kinds, each first as all
// actions run it but one: the chunk's first forward, which gathers what later ones find gathered, or the last action of
// the chunk's, which ends its gradients.
constexpr std::size_t kRunsOfChunk = 8;
std::vector<std::size_t> runs(const std::vector<Action>& row, const std::vector<std::int32_t>& chunk_stage) {
  constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::vector<std::size_t> result(row.size());
  std::vector<std::size_t> first_forward(chunk_stage.size(), kNone), last(chunk_stage.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    const auto chunk =
        static_cast<std::size_t>(std::find(chunk_stage.begin(), chunk_stage.end(), row[i].stage) - chunk_stage.begin());
    result[i] = chunk * kRunsOfChunk + 2 * static_cast<std::size_t>(row[i].kind);
    if (row[i].kind == ActionKind::forward && first_forward[chunk] == kNone) {
      first_forward[chunk] = i;
    }
    last[chunk] = i;
  }
  for (std::size_t chunk = 0; chunk < chunk_stage.size(); ++chunk) {
    ++result[first_forward[chunk]];
    ++result[last[chunk]];
  }
  return result;
}

std::array<bool, 4> kinds(const std::vector<Action>& row) {
  std::array<bool, 4> has{};
  for (const Action& a : row) {
    has[static_cast<std::size_t>(a.kind)] = true;
  }
  return has;
}

// The program of `like`, whose row is `like_row`, with the instances of another row.
std::optional<Program> program_like(const Role& like, const std::vector<Action>& like_row,
                                    const std::vector<std::int32_t>& like_stages, const std::vector<Action>& row,
                                    const std::vector<std::int32_t>& stages, const CopyAssignment& copies) {
  const Program& from = like.program;
  if (kinds(row) != kinds(like_row) || from.body.size() < like_row.size() + 2) {
    return std::nullopt;
  }
  const std::vector<std::size_t> known = runs(like_row, like_stages), own = runs(row, stages);
  std::vector<SegmentId> segment(stages.size() * kRunsOfChunk, -1), evaluation(stages.size(), -1);
  std::size_t forwards = 0;
  for (std::size_t i = 0; i < known.size(); ++i) {
    segment[known[i]] = from.body[i + 1].segment;
    if (like_row[i].kind == ActionKind::forward) {
      evaluation[known[i] / kRunsOfChunk] = from.evaluation[++forwards].segment;
    }
  }
  const bool splits = kinds(row)[static_cast<std::size_t>(ActionKind::backward_input)];
  const std::int32_t rings = splits ? copies.rings : like.rings;
  Program program{from.prologue, {from.body.front()}, from.epilogue, {from.evaluation.front()}};
  std::int32_t next_ring = 0, slot = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (segment[own[i]] < 0) {
      return std::nullopt;
    }
    const std::int32_t hold = splits ? copies.hold[i] : -1;
    if (row[i].kind == ActionKind::forward) {
      program.body.push_back({segment[own[i]], row[i].microbatch, copies.slot[i], -1, hold, {}});
      program.evaluation.push_back(
          {evaluation[own[i] / kRunsOfChunk], row[i].microbatch, slot, -1, splits ? slot : -1});
      slot = (slot + 1) % copies.slots;
      continue;
    }
    program.body.push_back(
        {segment[own[i]], row[i].microbatch, copies.slot[i], splits ? copies.ring[i] : next_ring, hold, {}});
    next_ring = (next_ring + 1) % rings;
  }
  program.body.insert(program.body.end(), from.body.begin() + static_cast<std::ptrdiff_t>(like_row.size()) + 1,
                      from.body.end());
  program.evaluation.push_back(from.evaluation.back());
  return program;
}

// What goes to the neighbours and comes from them, so many stages on. Tags of the graph by those that they replace.
void move_messages(PlanGraph& g, Role& role, int by, const std::vector<std::int32_t>& chunk_stage) {
  RoleBuilder builder(g, role);
  std::map<std::string, std::string, std::less<>> moved;
  for (const std::int32_t stage : chunk_stage) {
    for (const char* const what : {"activation", "gradient"}) {
      for (const int below : {stage - 1, stage}) {
        for (const char* const end : {"", ".gather"}) {
          moved.emplace(boundary(what, below) + end, boundary(what, below + by) + end);
        }
      }
    }
  }
  const auto move = [&](std::int32_t& tag) {
    const auto to = tag < 0 ? moved.end() : moved.find(g.tags[static_cast<std::size_t>(tag)]);
    if (to != moved.end()) {
      tag = builder.tag(to->second);
    }
  };
  for (Block& block : role.blocks) {
    for (Op& op : block.ops) {
      if (auto* const exchange = std::get_if<Exchange>(&op.work)) {
        for (Message& m : exchange->messages) {
          m.peer += m.axis == Axis::pp && !m.relative ? by : 0;
          move(m.tag);
        }
      } else if (auto* const collective = std::get_if<Collective>(&op.work)) {
        move(collective->tag);
      }
    }
  }
}

}  // namespace

std::string boundary(std::string_view what, int below) {
  return std::string(what) + " " + std::to_string(below) + "|" + std::to_string(below + 1);
}

StageTwins::StageTwins(const Job& job, const std::vector<std::int32_t>& rank_of_stage, bool alike)
    : job_(job), rank_of_stage_(rank_of_stage), layers_(layers_per_stage(job)) {
  const Strategy& s = job.strategy;
  any_ = alike && s.ways() == 1 && !s.overlap_ep && !s.post_validation && s.servers == 0 && s.loader_ranks == 0 &&
         s.data_parallel != DataParallel::gather && !job.workload.model.is_encoder_decoder();
}

StageTwins::Likeness StageTwins::likeness(int stage) const {
  Likeness l;
  l.in_the_middle = true;
  const auto rank_of = [&](std::size_t v) { return rank_of_stage_[v]; };
  std::int32_t global = 0;
  for (std::size_t v = 0; v < rank_of_stage_.size(); global += static_cast<std::int32_t>(layers_[v++])) {
    if (rank_of(v) != stage) {
      continue;
    }
    l.in_the_middle = l.in_the_middle && v > 0 && v + 1 < rank_of_stage_.size() && rank_of(v - 1) == stage - 1 &&
                      rank_of(v + 1) == stage + 1;
    const auto layers = static_cast<std::int32_t>(layers_[v]);
    const std::vector<std::int64_t>& recomputed = job_.strategy.recompute_layers;
    l.chunk_stage.push_back(static_cast<std::int32_t>(v));
    l.chunk_layers.push_back(layers);
    l.recomputed.push_back(recomputed.empty() ? -1 : static_cast<std::int32_t>(recomputed[v]));
    for (std::int32_t layer = 0; layer < layers; ++layer) {
      l.global_layer.push_back(global + layer);
    }
  }
  return l;
}

bool StageTwins::alike(const Likeness& a, const Likeness& b) const {
  const workloads::Model& m = job_.workload.model;
  const std::int64_t seq_len = job_.workload.seq_len;
  const auto same_layer = [&](std::int32_t x, std::int32_t y) {
    return m.has_experts(x) == m.has_experts(y) && m.ssm.has_layer(x) == m.ssm.has_layer(y) &&
           m.window(x, seq_len) == m.window(y, seq_len);
  };
  return a.in_the_middle && b.in_the_middle && a.chunk_layers == b.chunk_layers && a.recomputed == b.recomputed &&
         std::equal(a.global_layer.begin(), a.global_layer.end(), b.global_layer.begin(), b.global_layer.end(),
                    same_layer);
}

std::optional<std::size_t> StageTwins::copy(PlanGraph& g, Role& role, int stage, const std::vector<Action>& row,
                                            const CopyAssignment& copies) const {
  if (!any_ || built_.empty()) {
    return std::nullopt;
  }
  Likeness own = likeness(stage);
  for (const Built& built : built_) {
    if (!alike(own, built.likeness)) {
      continue;
    }
    const Role& like = g.roles[built.role];
    std::optional<Program> program =
        program_like(like, *built.row, built.likeness.chunk_stage, row, own.chunk_stage, copies);
    if (!program) {
      continue;
    }
    const bool splits = like.holds > 0;
    role = like;
    role.program = std::move(*program);
    role.global_layer = std::move(own.global_layer);
    role.slots = copies.slots;
    role.holds = splits ? copies.holds : 0;
    role.rings = splits ? copies.rings : like.rings;
    move_messages(g, role, stage - built.stage, built.likeness.chunk_stage);
    return built.role;
  }
  return std::nullopt;
}

void StageTwins::add(int stage, std::size_t role, const std::vector<Action>& row) {
  if (any_) {
    built_.push_back({stage, role, &row, likeness(stage)});
  }
}

}  // namespace foretrain::plan
