// Hosts that a job names, beside those that its processes live on.
#pragma once

#include <string>
#include <vector>

#include "cli/console.h"
#include "exec/processes.h"
#include "plan/job.h"

namespace foretrain::cli {

// What starts a process for each rank on the hosts that the job names: "mpirun --host a:2,b:2 -n 4 --bind-to none". "":
// it names none, or one.
std::string launch_words(const plan::Job& job);

// The processes in the order of their hosts in the job; those of one host in the order that they have. As they are
// where the job names none. InputError where a host of theirs has no role, one of the job's has no process, or one has
// more than another.
std::vector<int> in_order_of_hosts(const plan::Job& job, const exec::Processes& processes);

// Numbers them so, and lets the one that is process 0 then speak, it alone.
void take_seats(const plan::Job& job, exec::Processes& processes, Console& console);

}  // namespace foretrain::cli
