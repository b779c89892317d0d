// Frameworks differ in how many kernels they take for what the plan graph says in one op: a norm that is six passes
// over memory in eager PyTorch is one fused kernel elsewhere. The ratio is counted in bytes from a framework's source,
// never fitted (search/training_rules.json), and turned into a profile on which those kinds of op take so many times as
// long.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "topologies/profile.h"

namespace foretrain::search {

// Kinds of op that can have a cost of their own (plan/cost_kind.h; a kind stands for all below it), and
// "attention.flash" for both directions of flash attention.
const std::vector<std::string>& cost_kinds();

// `costs`: by kind, how many times the time that the profile says. The profile itself where there are none, or where it
// has no figures by kind (generic ones).
std::shared_ptr<const topologies::Profile> with_costs(const std::shared_ptr<const topologies::Profile>& profile,
                                                      const std::map<std::string, double>& costs);

// A framework's host (topologies/profile.h): seconds for an op, where they are not the profile's, and whether it waits
// for the device at each pass.
struct HostCosts {
  std::optional<double> submit;
  bool waits_each_pass = false;
};
std::shared_ptr<const topologies::Profile> with_host(const std::shared_ptr<const topologies::Profile>& profile,
                                                     const HostCosts& costs);

}  // namespace foretrain::search
