#include "exec/local_ranks.h"

#include <pmmintrin.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/cpu_device.h"
#include "exec/host_memory.h"
#include "exec/refusals.h"
#include "exec/run_agreement.h"
#include "plan/dump.h"

namespace foretrain::exec {

namespace {

constexpr std::chrono::milliseconds kTick{50}, kShortTick{1};
constexpr Time kRest{300'000'000'000};  // 0.3 s, in which a replica that waits would have heard

constexpr std::int64_t kLine = 64;

Bytes planned(const plan::PlanGraph& graph, plan::Rank rank) {
  const plan::Role& role = graph.roles[static_cast<std::size_t>(plan::role_of(graph, rank))];
  return Bytes{((role.memory.arena + role.memory.host).value + kLine - 1) / kLine * kLine};
}

void check_memory(Bytes needed, Processes& processes) {
  require_memory([&](const std::string& mine) { return processes.all_gather(mine); }, memory_limits(), needed,
                 "the run's ranks", "; a smaller micro_batch, model or number of ranks needs less");
}

// Of this thread: numbers below their type's normal range count as 0. A processor takes some hundred cycles for each,
// and the moments of weights that have no gradient any more pass through them.
void flush_denormals() {
  _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
  _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
}

}  // namespace

LocalRanks::LocalRanks(const plan::PlanGraph& graph, const DataSource& data, Processes& processes, Gpu* gpu)
    : graph_(graph), processes_(processes), world_(processes, graph.mesh.ranks()) {
  while (!world_.is_near(first_near_)) {
    ++first_near_;
  }
  bool on_one_host = true;
  for (plan::Rank r = 0; r < world_.ranks(); ++r) {
    on_one_host = on_one_host && world_.is_near(r);
  }
  refuse_graph(graph, gpu != nullptr, on_one_host);
  if (gpu != nullptr) {
    gpu_ranks_ = std::make_unique<GpuRanks>(*gpu, graph, processes);
  } else {
    cache_bytes_ = DataCache::size(graph, data);
    Bytes needed;
    for (const plan::Rank r : world_.ranks_here()) {
      needed += arena_of(r);
    }
    check_memory(needed, processes);
  }
  for (plan::Rank r = 0; r < world_.ranks(); ++r) {
    const int process = world_.process_of(r);
    if (is_replica_of_server(graph, r) && (replica_processes_.empty() || replica_processes_.back() != process)) {
      replica_processes_.push_back(process);
    }
  }
  for (const plan::Rank r : world_.ranks_here()) {
    ranks_.push_back(std::make_unique<RankRunner>(graph, r, device(r)));
  }
  // The last role: with post-validation it alone has the norm of all in time.
  const auto last_with = [&](plan::BufferId plan::Role::*buffer) -> RankRunner* {
    for (auto role = graph.roles.rbegin(); role != graph.roles.rend(); ++role) {
      if ((*role).*buffer >= 0) {
        return runner(plan::first_rank(graph.mesh, role->ranks));
      }
    }
    return nullptr;
  };
  if (RankRunner* const rank = last_with(&plan::Role::loss)) {
    rank->set_reports_loss();
  }
  if (RankRunner* const rank = last_with(&plan::Role::grad_norm)) {
    rank->set_reports_grad_norm();
  }
}

std::unique_ptr<QueuedDevice> LocalRanks::device(plan::Rank rank) {
  const auto describe = [this](const OpCall& call) { return plan::describe(graph_, call.id); };
  if (gpu_ranks_) {
    return gpu_ranks_->device(rank, describe);
  }
  return std::make_unique<CpuDevice>(world_.communicator(rank), describe);
}

Bytes LocalRanks::arena_of(plan::Rank rank) const {
  return planned(graph_, rank) + (rank == first_near_ ? cache_bytes_ : Bytes{});
}

std::unique_ptr<const DataCache> LocalRanks::make_cache(const DataSource& data, int first_step) const {
  std::set<std::int32_t> of;
  for (plan::Rank r = 0; r < world_.ranks(); ++r) {
    if (world_.is_near(r)) {
      of.merge(plan::data_ranks_read(graph_, r));
    }
  }
  std::byte* const memory = world_.arena(first_near_) + planned(graph_, first_near_).value;
  return std::make_unique<const DataCache>(graph_, data, std::vector(of.begin(), of.end()), first_step, memory);
}

RankRunner* LocalRanks::runner(plan::Rank rank) const {
  const auto found =
      std::find_if(ranks_.begin(), ranks_.end(), [&](const auto& r) { return r->context().rank == rank; });
  return found == ranks_.end() ? nullptr : found->get();
}

template <class Fn>
void LocalRanks::on_all_ranks(const Fn& fn) {
  std::vector<std::thread> threads;
  for (const auto& rank : ranks_) {
    threads.emplace_back([&fn, &rank] { fn(*rank); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

void LocalRanks::cancel() {
  world_.cancel();
  if (gpu_ranks_) {
    gpu_ranks_->cancel();
  }
}

void LocalRanks::cancel(RunControl& control) {
  cancel();
  control.stop_before(0);
}

void LocalRanks::prepare(std::uint64_t seed) {
  if (!gpu_ranks_) {
    std::vector<Bytes> arenas;
    for (plan::Rank r = 0; r < world_.ranks(); ++r) {
      arenas.push_back(arena_of(r));
    }
    world_.allocate_arenas(arenas);
  }
  std::mutex mutex;
  std::exception_ptr failure;
  on_all_ranks([&](RankRunner& rank) {
    try {
      const RankContext& context = rank.context();
      rank.prepare(gpu_ranks_ ? gpu_ranks_->memory(context) : host_memory_of(context, world_.arena(context.rank)),
                   seed);
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  });
  if (failure) {
    std::rethrow_exception(failure);
  }
}

std::vector<int> LocalRanks::expendable() const {
  std::vector<bool> is_needed(static_cast<std::size_t>(processes_.count()), false);
  is_needed[0] = true;
  for (plan::Rank r = 0; r < world_.ranks(); ++r) {
    if (graph_.mesh.coordinates(r)[static_cast<std::size_t>(plan::Axis::dp)] >= graph_.data_ranks()) {
      is_needed[static_cast<std::size_t>(world_.process_of(r))] = true;
    }
  }
  std::vector<int> all;
  for (int p = 0; p < processes_.count(); ++p) {
    if (!is_needed[static_cast<std::size_t>(p)]) {
      all.push_back(p);
    }
  }
  return all;
}

void LocalRanks::leave_out(int process) {
  if (std::find(left_out_.begin(), left_out_.end(), process) != left_out_.end()) {
    return;
  }
  left_out_.push_back(process);
  for (plan::Rank r = 0; r < world_.ranks(); ++r) {
    if (world_.process_of(r) == process) {
      world_.leave_out(r);
    }
  }
}

void LocalRanks::leave_out_together() {
  processes_.all_gather("");  // process 0 knows of all that did not come
  const std::vector<int>& lost = processes_.lost();
  const std::vector<std::vector<double>> all = all_gather(processes_, {lost.begin(), lost.end()});
  for (const double process : all.front()) {
    leave_out(static_cast<int>(process));
  }
}

void LocalRanks::look_for_losses(const RankRunner::Assignment& assignment) {
  for (const int process : processes_.lost()) {
    if (std::find(left_out_.begin(), left_out_.end(), process) != left_out_.end()) {
      continue;
    }
    if (!assignment.trains) {
      throw EnvironmentError(
          fmt::format("{}, and an evaluation is by all that were left", processes_.describe_lost(process)));
    }
    leave_out(process);
    assignment.options->on_lost(processes_.describe_lost(process));
  }
}

bool LocalRanks::watch(RunControl& control, Time start, const RankRunner::Assignment& assignment, RunResult& result) {
  const RunOptions& options = *assignment.options;
  RunAgreement agreement(processes_, control);
  Time previous = start;
  Time stopping_since;
  bool is_cut_off = false;
  for (int done = 0, done_here = 0; done < options.steps;) {
    if (options.interrupted != nullptr && options.interrupted->load()) {
      agreement.stop_soon();
    }
    agreement.listen();
    look_for_losses(assignment);
    world_.check();
    if (agreement.is_stopping() && !is_cut_off) {
      stopping_since = stopping_since == Time{} ? now() : stopping_since;
      if (now() - stopping_since > Time{std::chrono::nanoseconds(options.grace).count() * 1000}) {
        is_cut_off = true;
        cancel(control);
      }
    }
    const bool waits_for_others = done < done_here;
    const RunControl::Wait step =
        control.wait_for_step(done_here, waits_for_others || agreement.is_stopping() ? kShortTick : kTick);
    if (step == RunControl::Wait::ended) {
      agreement.step_ended(assignment.first_step + done_here, control.outcome(done_here));
      ++done_here;
    } else if (step == RunControl::Wait::absent) {
      // What others have not ended yet they never will, once the ranks here have stopped before their time.
      if (!waits_for_others || is_cut_off || world_.cancelled() || control.failure()) {
        break;
      }
      std::this_thread::sleep_for(kShortTick);
    }
    for (StepOutcome outcome; agreement.all_ended(assignment.first_step + done, &outcome); ++done) {
      result.loss.push_back(outcome.loss);
      result.grad_norm.push_back(outcome.grad_norm);
      result.loss_scale = outcome.loss_scale;
      result.step_seconds.push_back(seconds(outcome.end - previous));
      previous = outcome.end;
      if (options.on_step) {
        options.on_step(assignment.first_step + done, outcome.loss, result.step_seconds.back());
      }
    }
  }
  return is_cut_off;
}

std::vector<double> LocalRanks::sent() const {
  std::vector<double> to;
  for (int process = 0; process < processes_.count(); ++process) {
    to.push_back(static_cast<double>(world_.sent(process).value));
  }
  return to;
}

// Process 0's result, and what all together hold and have sent, in every process.
void LocalRanks::agree(const std::vector<double>& sent_before, RunResult& result) {
  if (processes_.count() == 1) {
    return;
  }
  const auto of_first = [&](std::vector<double>& values) { values = all_gather(processes_, values).front(); };
  of_first(result.loss);
  of_first(result.grad_norm);
  of_first(result.step_seconds);
  const std::vector<double> sent_now = sent();
  std::vector<double> mine = {is_broken_ ? 1.0 : 0.0,
                              result.loss_scale,
                              static_cast<double>(result.arena.value),
                              static_cast<double>(result.library_workspace.value),
                              static_cast<double>(result.read.of_storage),
                              static_cast<double>(result.read.of_cache)};
  const std::size_t fixed = mine.size();
  std::transform(sent_now.begin(), sent_now.end(), sent_before.begin(), std::back_inserter(mine), std::minus<>());
  const std::vector<int> hosts = processes_.hosts();
  result.sent = plan::HostTraffic(1 + *std::max_element(hosts.begin(), hosts.end()));
  result.library_workspace = {};
  result.read = {};
  const std::vector<std::vector<double>> all = all_gather(processes_, mine);
  result.loss_scale = all.front()[1];
  for (std::size_t p = 0; p < all.size(); ++p) {
    if (all[p].empty()) {
      continue;  // it is lost
    }
    is_broken_ = is_broken_ || all[p][0] != 0.0;
    result.arena = std::max(result.arena, Bytes{static_cast<std::int64_t>(all[p][2])});
    result.library_workspace += Bytes{static_cast<std::int64_t>(all[p][3])};
    result.read.of_storage += static_cast<std::int64_t>(all[p][4]);
    result.read.of_cache += static_cast<std::int64_t>(all[p][5]);
    for (std::size_t to = 0; to < all.size(); ++to) {
      result.sent.at(hosts[p], hosts[to]) += static_cast<std::int64_t>(all[p][fixed + to]);
    }
  }
}

std::vector<RankMemory> LocalRanks::memory() const {
  std::vector<RankMemory> all;
  for (const auto& rank : ranks_) {
    all.push_back(rank->memory());
  }
  return all;
}

RunResult LocalRanks::carry_out(RankRunner::Assignment assignment) {
  if (is_broken_) {
    throw EnvironmentError("this run was cut off in the middle of a step and cannot go on");
  }
  if (gpu_ranks_) {
    refuse_pace_on_gpu(graph_, *assignment.options);
  }
  RunOptions patient = *assignment.options;
  if (graph_.elastic && processes_.count() > 1) {
    // Whoever waits for one that is stopped goes on once that is left out, which takes as long.
    patient.timeout *= 2;
    assignment.options = &patient;
    if (assignment.trains) {
      processes_.let_go(expendable());
    }
    leave_out_together();
    assignment.lost = static_cast<int>(left_out_.size()) * static_cast<int>(ranks_.size());
  }
  if (assignment.trains && cache_bytes_.value > 0) {
    cache_ = cache_ ? std::move(cache_) : make_cache(*assignment.data, assignment.first_step);
    assignment.cache = cache_.get();
  }
  RunResult result;
  RunControl control(static_cast<int>(ranks_.size()), assignment.first_step, assignment.options->steps);
  const Time start = now();
  const std::vector<double> sent_before = sent();
  std::vector<std::thread> threads;
  const auto join = [&] {
    for (std::thread& thread : threads) {
      thread.join();
    }
    threads.clear();
  };
  for (const auto& rank : ranks_) {
    threads.emplace_back([&, r = rank.get()] {
      flush_denormals();
      std::exception_ptr failure;
      try {
        r->run(control, assignment);
      } catch (const Cancelled&) {
        // Whoever cancelled knows why.
      } catch (...) {
        failure = std::current_exception();
      }
      control.end_rank(failure);
      if (failure) {
        cancel();
      }
    });
  }
  try {
    is_broken_ = watch(control, start, assignment, result);
    join();
    if (const std::exception_ptr failure = control.failure()) {
      tell_others(failure);
    }
    for (const auto& rank : ranks_) {
      result.arena = std::max(result.arena, rank->context().role->memory.arena);
      result.library_workspace += rank->workspace();
      result.read.of_storage += rank->read().of_storage;
      result.read.of_cache += rank->read().of_cache;
    }
    agree(sent_before, result);
  } catch (...) {
    const LastState last = last_state(control, assignment);
    cancel(control);
    join();
    is_broken_ = true;
    keep_last(last, assignment);
    throw;
  }
  return result;
}

// Replicas go on by themselves to the last update that a server may have made, and then wait for ever.
LastState LocalRanks::last_state(RunControl& control, const RankRunner::Assignment& assignment) {
  if (replica_processes_.empty() || processes_.count() == 1 || !assignment.trains ||
      assignment.options->keeper == nullptr) {
    return {};
  }
  control.stop_before(0);
  std::int64_t ops_done = -1;
  Time since;
  const auto made = [&]() -> std::optional<int> {
    bool are_waiting = true, agree = true;
    std::int64_t ops = 0;
    int updates = -1;
    for (const auto& rank : ranks_) {
      const plan::Rank r = rank->context().rank;
      if (is_replica_of_server(graph_, r)) {
        are_waiting = are_waiting && world_.is_waiting(r);
        ops += rank->ops_done();
        const int of_rank = rank->updates_made();
        agree = agree && of_rank >= 0 && (updates < 0 || updates == of_rank || graph_.asynchronous);
        updates = updates < 0 ? of_rank : std::min(updates, of_rank);
      }
    }
    if (control.all_ended()) {
      return agree ? std::optional(updates) : std::nullopt;
    }
    if (!are_waiting || ops != ops_done) {
      ops_done = ops;
      since = now();
    }
    return agree && now() - since > kRest ? std::optional(updates) : std::nullopt;
  };
  return agree_on_last_state(processes_, replica_processes_, !graph_.asynchronous, made);
}

void LocalRanks::keep_last(const LastState& last, const RankRunner::Assignment& assignment) const {
  if (last.steps_done < 0) {
    return;
  }
  const bool are_there = std::all_of(ranks_.begin(), ranks_.end(), [&](const auto& rank) {
    const int made = rank->updates_made();
    return !is_replica_of_server(graph_, rank->context().rank) || made == last.steps_done ||
           (graph_.asynchronous && made > last.steps_done);
  });
  assignment.options->keeper->keep_last(last.steps_done, last.is_first,
                                        are_there ? "" : "a replica was cut off in an update");
}

// A rank that waits in vain may be waiting for a process that this host can say more of.
void LocalRanks::tell_others(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const EnvironmentError& e) {
    const std::string why = e.what() + processes_.ailing();
    processes_.fail(why);
    throw EnvironmentError(why);
  } catch (const std::exception& e) {
    processes_.fail(e.what());
    throw;
  }
}

}  // namespace foretrain::exec
