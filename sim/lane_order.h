// Which of a role's lanes never have meetings under way at once, though they lie on different streams.
//
// The gradient norm's collectives cross every link of the job; but what a layer sends is done long before they start,
// and the next layer waits for them. Without that known, all of a job's collectives would share links with them.
//
// A rank starts an op when its stream's earlier ops are done, what the op waits for, and what those waited for: a
// vector clock, of which it matters only whether each lane's last meeting is done. Two lanes are in order if the
// meetings of either are done, by that clock, whenever one of the other starts. What other ranks know is left out: less
// is found, nothing wrong.
#pragma once

#include <vector>

#include "sim/role_model.h"

namespace foretrain::sim {

// By lane and lane; symmetric.
std::vector<std::vector<bool>> lanes_in_order(const RoleModel& model);

}  // namespace foretrain::sim
