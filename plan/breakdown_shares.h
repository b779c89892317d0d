// The buckets of a Breakdown.
#pragma once

#include "plan/breakdown.h"

namespace foretrain::plan {

inline constexpr Share kShares[] = {&Breakdown::compute,    &Breakdown::recompute,  &Breakdown::exposed_tp,
                                    &Breakdown::exposed_dp, &Breakdown::exposed_pp, &Breakdown::exposed_cp,
                                    &Breakdown::exposed_ep, &Breakdown::bubble,     &Breakdown::optimizer,
                                    &Breakdown::host};

}  // namespace foretrain::plan
