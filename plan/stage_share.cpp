#include "plan/stage_share.h"

#include <fmt/format.h>

namespace foretrain::plan {

namespace {

// What the ranks of a pipeline stage do; with servers those of the only one are all workers.
std::vector<Part> parts_of(const Strategy& s) {
  switch (s.data_parallel) {
    case DataParallel::gather: return s.dp > 1 ? std::vector{Part::central, Part::worker} : std::vector{Part::whole};
    case DataParallel::parameter_server: return {Part::worker};
    default: return {Part::whole};
  }
}

}  // namespace

std::vector<StageShare> shares_of(const Strategy& s, std::int32_t microbatches) {
  std::vector<StageShare> shares;
  for (const Part part : s.microbatches_of.empty() ? parts_of(s) : std::vector<Part>{}) {
    shares.push_back({part, 0, 0, microbatches});
  }
  for (std::size_t d = 0; d < s.microbatches_of.size(); ++d) {
    const auto own = static_cast<std::int32_t>(s.microbatches_of[d]);
    if (shares.empty() || shares.back().microbatches != own) {
      shares.push_back({Part::whole, static_cast<int>(d), 0, own});
    }
    ++shares.back().count;
  }
  return shares;
}

std::vector<StageShare> receivers(const Strategy& s, const StageShare& all) {
  const int tp = static_cast<int>(s.tp);
  std::vector<StageShare> shares;
  for (int d = 0; d < s.dp; ++d) {
    for (int c = 0; c < s.cp; ++c) {
      shares.push_back({all.part, d, 1, all.microbatches, c, 0, 1});
      if (tp > 1) {
        shares.push_back({all.part, d, 1, all.microbatches, c, 1, tp - 1});
      }
    }
  }
  return shares;
}

Schedule schedule_of(const Strategy& s, std::int32_t microbatches, std::int32_t all) {
  Schedule schedule = make_schedule(s, microbatches);
  for (std::vector<Action>& row : schedule) {
    for (Action& action : row) {
      action.microbatch += all - microbatches;
    }
  }
  return schedule;
}

void place_ranks(const Strategy& s, int stage, const StageShare& share, Role& role) {
  const Part part = share.part;
  role.name = "stage " + std::to_string(stage);
  role.ranks.fixed = {{Axis::pp, stage}};
  if (s.servers > 0) {
    role.name = "workers";
    role.ranks.fixed.push_back({Axis::dp, 0, static_cast<int>(s.dp)});
  } else if (part != Part::whole) {
    const bool central = part == Part::central;
    role.name += central ? " central" : " workers";
    role.ranks.fixed.push_back({Axis::dp, central ? 0 : 1, central ? 1 : static_cast<int>(s.dp) - 1});
  } else if (share.count > 0) {
    role.name += fmt::format(" dp {}", share.first);
    role.name += share.count > 1 ? fmt::format("-{}", share.first + share.count - 1) : "";
    role.ranks.fixed.push_back({Axis::dp, share.first, share.count});
  }
  if (share.tps > 0 && s.cp > 1) {
    role.name += fmt::format(" cp {}", share.cp);
    role.ranks.fixed.push_back({Axis::cp, share.cp});
  }
  if (share.tps > 0 && s.tp > 1) {
    const int last = share.tp + share.tps - 1;
    role.name += last > share.tp ? fmt::format(" tp {}-{}", share.tp, last) : fmt::format(" tp {}", last);
    role.ranks.fixed.push_back({Axis::tp, share.tp, share.tps});
  }
}

}  // namespace foretrain::plan
