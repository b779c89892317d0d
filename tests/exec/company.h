// The processes that run these tests together.
#pragma once

#include "exec/processes.h"

namespace foretrain::testing {

extern exec::Processes* company;

}  // namespace foretrain::testing
