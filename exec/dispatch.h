// From ops to kernels and to the communicator: the one place that knows how each kind of op is carried out.
#pragma once

#include <vector>

#include "exec/communicator.h"
#include "exec/op_call.h"
#include "kernels/launchers.h"

namespace foretrain::exec {

// Collectives, exchanges, channels.
bool is_communication(const plan::Work& work);

// Throws InputError when a CPU cannot run the graph: an element type or a kind of op that exists as cost only.
void check_runnable(const plan::PlanGraph& graph);

// Whether a guard says that the op is not to run. REQUIRES: it lies where the host reaches it.
bool is_guarded_off(const OpCall& call);

// Runs a compute, copy or host op: of the CPU's kernels to its end on the calling thread. It reads no operand.
void run_kernel(const kernels::Launchers& launch, const OpCall& call);

// What a communication op posts. REQUIRES: of that kind.
CollectiveCall collective_call(const OpCall& call);
void message_calls(const OpCall& call, std::vector<MessageCall>& messages);
// Appends those of a channel between the server and a worker at this clock, one for each operand that goes over it.
void channel_calls(const OpCall& call, int worker, std::int64_t clock, std::vector<MessageCall>& messages);

}  // namespace foretrain::exec
