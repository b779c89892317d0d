// How a process finds out who was started with it.
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>

#include "base/error.h"
#include "exec/processes.h"
#include "exec/tcp_transport.h"

namespace foretrain::exec {

namespace {

constexpr int kMostProcesses = 1 << 20;

bool is_set(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

std::int64_t number_in(const char* variable, std::int64_t least, std::int64_t most) {
  const std::string text = std::getenv(variable);
  std::int64_t number = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size() || number < least || number > most) {
    throw InputError(fmt::format("{}: \"{}\"; expected a number from {} to {}", variable, text, least, most));
  }
  return number;
}

int processes_per_host() {
  constexpr const char* kVariable = "FORETRAIN_PROCESSES_PER_HOST";
  return is_set(kVariable) ? static_cast<int>(number_in(kVariable, 1, kMostProcesses)) : 0;
}

// What torchrun and its kin set; or srun without MPI's help, where the user has said where process 0 is.
std::optional<Meeting> meeting_in_environment() {
  const bool by_slurm =
      is_set("SLURM_PROCID") && is_set("SLURM_STEP_NUM_TASKS") && !is_set("WORLD_SIZE") && !is_set("PMIX_RANK");
  const char* const count = by_slurm ? "SLURM_STEP_NUM_TASKS" : "WORLD_SIZE";
  const char* const number = by_slurm ? "SLURM_PROCID" : "RANK";
  if (!is_set(count) || !is_set(number)) {
    return std::nullopt;
  }
  Meeting meeting;
  meeting.processes = static_cast<int>(number_in(count, 1, kMostProcesses));
  meeting.process = static_cast<int>(number_in(number, 0, meeting.processes - 1));
  if (meeting.processes == 1) {
    return std::nullopt;
  }
  for (const char* const variable : {"MASTER_ADDR", "MASTER_PORT"}) {
    if (!is_set(variable)) {
      throw InputError(
          fmt::format("{}={} says that {} processes run together, but {} is not set: it says where process 0 "
                      "is{}",
                      count, meeting.processes, meeting.processes, variable,
                      by_slurm ? "; or let srun start Open MPI's processes: srun --mpi=pmix" : ""));
    }
  }
  meeting.address = std::getenv("MASTER_ADDR");
  // torchrun's agent listens on the port itself.
  const int taken = is_set("TORCHELASTIC_USE_AGENT_STORE") ? 1 : 0;
  meeting.port = static_cast<std::uint16_t>(number_in("MASTER_PORT", 1, 65534) + taken);
  return meeting;
}

std::unique_ptr<Processes> join_over_mpi(const std::string& launcher, const char* count,
                                         std::chrono::milliseconds patience) {
  std::string why;
  std::unique_ptr<Transport> transport = open_mpi(&why);
  if (transport == nullptr) {
    throw EnvironmentError(fmt::format("MPI: started by {}, but Open MPI cannot be used: {}", launcher, why));
  }
  // A launcher of another MPI leaves each process alone: all would train the whole job.
  if (is_set(count) && number_in(count, 1, kMostProcesses) != transport->processes()) {
    throw EnvironmentError(
        fmt::format("MPI: {} has started {} processes, but Open MPI sees {}; is it another MPI's launcher?", launcher,
                    std::getenv(count), transport->processes()));
  }
  return std::make_unique<Processes>(std::move(transport), launcher, processes_per_host(), patience);
}

bool by_mpirun() {
  return is_set("OMPI_COMM_WORLD_SIZE");
}
bool by_pmi() {
  return is_set("PMIX_RANK") || is_set("PMI_RANK");
}

}  // namespace

bool has_launcher() {
  return by_mpirun() || by_pmi() || meeting_in_environment();
}

std::unique_ptr<Processes> join_processes(std::chrono::milliseconds patience) {
  if (by_mpirun()) {
    return join_over_mpi("mpirun", "OMPI_COMM_WORLD_SIZE", patience);
  }
  if (std::optional<Meeting> meeting = meeting_in_environment()) {
    meeting->patience = patience;
    return std::make_unique<Processes>(meet_over_tcp(*meeting), "RANK and WORLD_SIZE", processes_per_host(), patience);
  }
  if (by_pmi()) {
    return join_over_mpi(is_set("SLURM_STEP_ID") ? "srun" : "a PMI launcher",
                         is_set("PMI_SIZE") ? "PMI_SIZE" : "SLURM_STEP_NUM_TASKS", patience);
  }
  return std::make_unique<Processes>();
}

}  // namespace foretrain::exec
