#include "exec/executor.h"

#include <fstream>
#include <limits>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/dispatch.h"
#include "exec/parameters.h"
#include "exec/rank.h"
#include "exec/run_control.h"
#include "exec/threads_communicator.h"
#include "plan/sequence_share.h"

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
    needed += Bytes{(role.memory.arena + role.memory.host).value * plan::count(graph.mesh, role.ranks)};
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
  Impl(const plan::PlanGraph& g, const DataSource& d) : graph(g), data(d), world(static_cast<int>(g.mesh.ranks())) {
    for (plan::Rank r = 0; r < graph.mesh.ranks(); ++r) {
      ranks.push_back(std::make_unique<RankRunner>(graph, r, world.communicator(r)));
    }
    // The last role: with post-validation it alone has the norm of all in time.
    const auto last_with = [&](plan::BufferId plan::Role::*buffer) -> RankRunner* {
      for (auto role = graph.roles.rbegin(); role != graph.roles.rend(); ++role) {
        if ((*role).*buffer >= 0) {
          return ranks[static_cast<std::size_t>(plan::first_rank(graph.mesh, role->ranks))].get();
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
  RunResult evaluate(const DataSource& other, int batches, bool only_first_microbatch, const RunOptions& options);
  std::vector<double> logits_of(std::int64_t row) const;
  // Has every rank do its assignment, and waits.
  RunResult carry_out(const RankRunner::Assignment& assignment);
  // Waits for the ranks, step by step; true if the run was cut off.
  bool watch(RunControl& control, Time start, const RankRunner::Assignment& assignment, RunResult& result);
  std::vector<RankMemory> memory() const {
    std::vector<RankMemory> all;
    for (const auto& rank : ranks) {
      all.push_back({&rank->context(), rank->arena()});
    }
    return all;
  }

  const plan::PlanGraph graph;
  const DataSource& data;
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

bool Executor::Impl::watch(RunControl& control, Time start, const RankRunner::Assignment& assignment,
                           RunResult& result) {
  const RunOptions& options = *assignment.options;
  Time previous = start;
  Time interrupted_at;
  bool is_cut_off = false;
  for (int done = 0; done < options.steps;) {
    if (options.interrupted != nullptr && options.interrupted->load() && !is_cut_off) {
      if (interrupted_at == Time{}) {
        interrupted_at = now();
        control.stop_soon();
      } else if (now() - interrupted_at > Time{std::chrono::nanoseconds(kGrace).count() * 1000}) {
        is_cut_off = true;
        world.cancel();
      }
    }
    const RunControl::Wait step = control.wait_for_step(done, kTick);
    if (step == RunControl::Wait::ended) {
      const StepOutcome outcome = control.outcome(done);
      result.loss.push_back(outcome.loss);
      result.grad_norm.push_back(outcome.grad_norm);
      result.step_seconds.push_back(seconds(outcome.end - previous));
      previous = outcome.end;
      if (options.on_step) {
        options.on_step(assignment.first_step + done, outcome.loss, result.step_seconds.back());
      }
      ++done;
    } else if (step == RunControl::Wait::absent) {
      break;
    }
  }
  return is_cut_off;
}

RunResult Executor::Impl::carry_out(const RankRunner::Assignment& assignment) {
  if (is_broken) {
    throw EnvironmentError("this run was cut off in the middle of a step and cannot go on");
  }
  RunResult result;
  RunControl control(static_cast<int>(ranks.size()), assignment.first_step, assignment.options->steps);
  const Time start = now();
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
        r->run(control, assignment);
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
    is_broken = watch(control, start, assignment, result);
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
  for (const auto& rank : ranks) {
    result.arena = std::max(result.arena, rank->context().role->memory.arena);
    result.library_workspace += Bytes{static_cast<std::int64_t>(rank->scratch_bytes())};
  }
  return result;
}

RunResult Executor::Impl::run(const RunOptions& options) {
  CHECK(options.steps >= 0, "{} steps", options.steps);
  if (origin == Time{}) {
    origin = now();
  }
  RunResult result = carry_out({true, false, next_step, origin, &data, &options});
  next_step += static_cast<int>(result.loss.size());
  return result;
}

RunResult Executor::Impl::evaluate(const DataSource& other, int batches, bool only_first_microbatch,
                                   const RunOptions& options) {
  RunOptions evaluation;
  evaluation.steps = batches;
  evaluation.timeout = options.timeout;
  evaluation.interrupted = options.interrupted;
  return carry_out({false, only_first_microbatch, 0, origin, &other, &evaluation});
}

// The head's shards lie side by side along the vocabulary on the tp ranks of the last stage.
std::vector<double> Executor::Impl::logits_of(std::int64_t row) const {
  const int cp = graph.mesh.size(plan::Axis::cp);
  const std::int64_t rows =
      graph.sequences_per_step / graph.microbatches / graph.mesh.size(plan::Axis::dp) * (graph.seq_len / cp);
  const plan::SharePlace place_of_row = plan::share_place(row, graph.seq_len, cp);
  std::vector<double> logits;
  for (const auto& rank : ranks) {
    const RankContext& context = rank->context();
    const plan::Role& role = *context.role;
    if (role.logits < 0 || context.coordinates[static_cast<std::size_t>(plan::Axis::dp)] != 0 ||
        context.coordinates[static_cast<std::size_t>(plan::Axis::cp)] != place_of_row.index) {
      continue;
    }
    // The last chunk of the role holds the head.
    std::int32_t slot = 0, last_chunk = -1;
    for (const plan::Instance& instance : role.program.evaluation) {
      const std::int32_t chunk = role.segments[static_cast<std::size_t>(instance.segment)].chunk;
      if (instance.microbatch == 0 && chunk > last_chunk) {
        last_chunk = chunk;
        slot = instance.slot;
      }
    }
    const plan::Buffer& buffer = role.buffers[static_cast<std::size_t>(role.logits)];
    const plan::Placement& place = role.memory.placements[static_cast<std::size_t>(role.logits)];
    const kernels::ConstTensor tensor{rank->arena() + place.offset + slot * place.copy_stride,
                                      stored_type(buffer.dtype)};
    const std::int64_t cols = buffer.elements / rows;
    for (std::int64_t c = 0; c < cols; ++c) {
      logits.push_back(element(tensor, place_of_row.token * cols + c));
    }
  }
  return logits;
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

void Executor::set_parameters(const std::vector<FullTensor>& tensors) {
  scatter(impl_->graph, impl_->memory(), tensors);
}

double Executor::evaluate(const DataSource& data, int batches, const RunOptions& options) {
  CHECK(batches >= 1, "{} batches", batches);
  const RunResult result = impl_->evaluate(data, batches, false, options);
  if (result.loss.size() < static_cast<std::size_t>(batches)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  double sum = 0.0;
  for (const double loss : result.loss) {
    sum += loss;
  }
  return sum / static_cast<double>(result.loss.size());
}

std::vector<double> Executor::logits(const DataSource& data, std::int64_t row, const RunOptions& options) {
  impl_->evaluate(data, 1, true, options);
  return impl_->logits_of(row);
}

}  // namespace foretrain::exec
