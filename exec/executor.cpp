#include "exec/executor.h"

#include <fstream>
#include <functional>
#include <thread>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/dispatch.h"
#include "exec/parameters.h"
#include "exec/rank.h"
#include "exec/run_control.h"
#include "exec/threads_communicator.h"

namespace foretrain::exec {

namespace {

// An interrupted run may end at a step boundary if it gets there this fast; else it is cut off.
constexpr std::chrono::milliseconds kGrace{500};
constexpr std::chrono::milliseconds kTick{50};

// Bytes the system says it can still give, or -1.
std::int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string word; file >> word;) {
    if (word == "MemAvailable:") {
      std::int64_t kibibytes = 0;
      file >> kibibytes;
      return kibibytes * 1024;
    }
  }
  return -1;
}

void check_memory(const plan::PlanGraph& graph) {
  Bytes needed;
  for (const plan::Role& role : graph.roles) {
    needed += Bytes{role.memory.arena.value * plan::count(graph.mesh, role.ranks)};
  }
  const std::int64_t available = available_memory();
  if (available >= 0 && needed.value > available) {
    throw InfeasibleError(
        fmt::format("the run needs {} for all its ranks, and this machine has {} left: {} are missing; a smaller "
                    "micro_batch, model "
                    "or number of ranks needs less",
                    to_string(needed), to_string(Bytes{available}), to_string(needed - Bytes{available})));
  }
}

}  // namespace

struct Executor::Impl {
  Impl(const plan::PlanGraph& g, const DataSource& data) : graph(g), world(static_cast<int>(g.mesh.ranks())) {
    for (plan::Rank r = 0; r < graph.mesh.ranks(); ++r) {
      ranks.push_back(std::make_unique<RankRunner>(graph, r, data, world.communicator(r)));
    }
    const auto first_with = [&](plan::BufferId plan::Role::*buffer) -> RankRunner* {
      for (const plan::Role& role : graph.roles) {
        if (role.*buffer >= 0) {
          return ranks[static_cast<std::size_t>(plan::first_rank(graph.mesh, role.ranks))].get();
        }
      }
      return nullptr;
    };
    if (RankRunner* const rank = first_with(&plan::Role::loss)) {
      rank->set_reports_loss();
    }
    if (RankRunner* const rank = first_with(&plan::Role::grad_norm)) {
      rank->set_reports_grad_norm();
    }
  }

  // Runs fn(rank) on a thread each and joins them all.
  template <class Fn>
  void on_all_ranks(const Fn& fn) {
    std::vector<std::thread> threads;
    for (const auto& rank : ranks) {
      threads.emplace_back([&fn, &rank] { fn(*rank); });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }

  void prepare(std::uint64_t seed);
  RunResult run(const RunOptions& options);
  // Waits for the ranks, step by step; true if the run was cut off.
  bool watch(RunControl& control, Time start, const RunOptions& options, RunResult& result);
  std::vector<RankMemory> memory() const {
    std::vector<RankMemory> all;
    for (const auto& rank : ranks) {
      all.push_back({&rank->context(), rank->arena()});
    }
    return all;
  }

  const plan::PlanGraph graph;
  ThreadsWorld world;
  std::vector<std::unique_ptr<RankRunner>> ranks;
  Time origin;
  int next_step = 0;
  bool is_broken = false;  // ranks stopped at different places
};

void Executor::Impl::prepare(std::uint64_t seed) {
  std::mutex mutex;
  std::exception_ptr failure;
  on_all_ranks([&](RankRunner& rank) {
    try {
      rank.prepare(seed);
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  });
  if (failure) {
    std::rethrow_exception(failure);
  }
}

bool Executor::Impl::watch(RunControl& control, Time start, const RunOptions& options, RunResult& result) {
  Time previous = start;
  Time interrupted_at;
  bool is_cut_off = false;
  for (int done = 0; done < options.steps;) {
    if (control.wait_for_step(done, kTick)) {
      const StepOutcome outcome = control.outcome(done);
      result.loss.push_back(outcome.loss);
      result.grad_norm.push_back(outcome.grad_norm);
      result.step_seconds.push_back(seconds(outcome.end - previous));
      previous = outcome.end;
      if (options.on_step) {
        options.on_step(next_step + done, outcome.loss, result.step_seconds.back());
      }
      ++done;
      continue;
    }
    if (control.all_ended()) {
      break;
    }
    if (options.interrupted != nullptr && options.interrupted->load() && !is_cut_off) {
      if (interrupted_at == Time{}) {
        interrupted_at = now();
        control.stop_soon();
      } else if (now() - interrupted_at > Time{std::chrono::nanoseconds(kGrace).count() * 1000}) {
        is_cut_off = true;
        world.cancel();
      }
    }
  }
  return is_cut_off;
}

RunResult Executor::Impl::run(const RunOptions& options) {
  CHECK(options.steps >= 0, "{} steps", options.steps);
  if (is_broken) {
    throw EnvironmentError("this run was cut off in the middle of a step and cannot go on");
  }
  RunResult result;
  RunControl control(static_cast<int>(ranks.size()), next_step, options.steps);
  const Time start = now();
  if (origin == Time{}) {
    origin = start;
  }
  std::vector<std::thread> threads;
  const auto join = [&] {
    for (std::thread& thread : threads) {
      thread.join();
    }
    threads.clear();
  };
  for (const auto& rank : ranks) {
    threads.emplace_back([&, r = rank.get()] {
      std::exception_ptr failure;
      try {
        r->run(control, next_step, origin, options);
      } catch (const Cancelled&) {
        // Whoever cancelled knows why.
      } catch (...) {
        failure = std::current_exception();
      }
      control.end_rank(failure);
      if (failure) {
        world.cancel();
      }
    });
  }
  try {
    is_broken = watch(control, start, options, result);
  } catch (...) {
    world.cancel();
    join();
    is_broken = true;
    throw;
  }
  join();
  if (const std::exception_ptr failure = control.failure()) {
    is_broken = true;
    std::rethrow_exception(failure);
  }
  next_step += static_cast<int>(result.loss.size());
  for (const auto& rank : ranks) {
    result.arena = std::max(result.arena, rank->context().role->memory.arena);
    result.library_workspace += Bytes{static_cast<std::int64_t>(rank->scratch_bytes())};
  }
  return result;
}

Executor::Executor(const plan::PlanGraph& graph, const DataSource& data, std::uint64_t seed) {
  check_runnable(graph);
  check_memory(graph);
  impl_ = std::make_unique<Impl>(graph, data);
  impl_->prepare(seed);
}

Executor::~Executor() = default;

RunResult Executor::run(const RunOptions& options) {
  return impl_->run(options);
}

std::vector<FullTensor> Executor::gradients() const {
  return gather(impl_->graph, impl_->memory(), Quantity::gradient);
}

std::vector<FullTensor> Executor::parameters() const {
  return gather(impl_->graph, impl_->memory(), Quantity::parameter);
}

void Executor::copy_parameters_from(const Executor& other) {
  CHECK(impl_->ranks.size() == 1, "parameters are copied into one rank, not {}", impl_->ranks.size());
  copy_parameters(other.impl_->graph, other.impl_->memory(), impl_->memory().front());
}

const std::byte* Executor::buffer(plan::BufferId id) const {
  CHECK(impl_->ranks.size() == 1, "buffers are looked at on one rank, not {}", impl_->ranks.size());
  const RankRunner& rank = *impl_->ranks.front();
  return rank.arena() + rank.context().role->memory.placements[static_cast<std::size_t>(id)].offset;
}

}  // namespace foretrain::exec
