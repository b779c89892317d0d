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
  if (s.loader_ranks > 0) {  // a loader sends each its own
    for (int d = 0; d < s.dp; ++d) {
      shares.push_back({Part::whole, d, 1, microbatches});
    }
    return shares;
  }
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
}

}  // namespace foretrain::plan
