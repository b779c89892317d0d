#include "exec/executor.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <thread>
#include <type_traits>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/dispatch.h"
#include "exec/host_memory.h"
#include "exec/parameters.h"
#include "exec/rank.h"
#include "exec/run_agreement.h"
#include "exec/run_control.h"
#include "exec/world.h"
#include "plan/sequence_share.h"

namespace foretrain::exec {

namespace {

constexpr std::chrono::milliseconds kTick{50}, kShortTick{1};

Bytes arena_of(const plan::PlanGraph& graph, plan::Rank rank) {
  const plan::Role& role = graph.roles[static_cast<std::size_t>(plan::role_of(graph, rank))];
  return role.memory.arena + role.memory.host;
}

void check_memory(const plan::PlanGraph& graph, const World& world, Processes& processes) {
  Bytes needed;
  for (const plan::Rank r : world.ranks_here()) {
    needed += arena_of(graph, r);
  }
  require_memory([&](const std::string& mine) { return processes.all_gather(mine); }, memory_limits(), needed,
                 "the run's ranks", "; a smaller micro_batch, model or number of ranks needs less");
}

// Spans of this process's ranks, to be sent to process 0.
class SpanBuffer : public plan::SpanSink {
 public:
  void span(const plan::Span& span) override {
    const std::lock_guard lock(mutex_);
    spans_.push_back(span);
  }
  std::string bytes() const {
    return {reinterpret_cast<const char*>(spans_.data()), spans_.size() * sizeof(plan::Span)};
  }
  static void replay(const std::string& bytes, plan::SpanSink& sink) {
    for (std::size_t i = 0; i < bytes.size(); i += sizeof(plan::Span)) {
      plan::Span span;
      std::memcpy(&span, bytes.data() + i, sizeof span);
      sink.span(span);
    }
  }

 private:
  static_assert(std::is_trivially_copyable_v<plan::Span>, "it travels as its bytes");
  std::mutex mutex_;
  std::vector<plan::Span> spans_;
};

}  // namespace

struct Executor::Impl {
  Impl(const plan::PlanGraph& g, const DataSource& d, Processes* p)
      : graph(g), data(d), processes(p != nullptr ? *p : alone), world(processes, g.mesh.ranks()) {
    check_memory(graph, world, processes);
    for (const plan::Rank r : world.ranks_here()) {
      ranks.push_back(std::make_unique<RankRunner>(graph, r, world.communicator(r)));
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

  // nullptr: the rank lives elsewhere.
  RankRunner* runner(plan::Rank rank) const {
    const auto found =
        std::find_if(ranks.begin(), ranks.end(), [&](const auto& r) { return r->context().rank == rank; });
    return found == ranks.end() ? nullptr : found->get();
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
  std::vector<double> logits_of(std::int64_t row);
  // Has every rank do its assignment, and waits.
  RunResult carry_out(const RankRunner::Assignment& assignment);
  // Of the ranks on this host; those here that are held have an end too.
  void cancel(RunControl& control) {
    world.cancel();
    control.stop_before(0);
  }
  // Waits for the ranks, step by step; true if the run was cut off.
  bool watch(RunControl& control, Time start, const RankRunner::Assignment& assignment, RunResult& result);
  // Process 0's result, and what all together hold, in every process.
  void agree(RunResult& result);
  // And throws it.
  [[noreturn]] void tell_others(const std::exception_ptr& failure);
  // Of the ranks here.
  std::vector<RankMemory> memory() const;
  // Of all ranks, on process 0; all processes together.
  std::vector<FullTensor> gathered(Quantity quantity);

  const plan::PlanGraph graph;
  const DataSource& data;
  Processes alone;
  Processes& processes;
  World world;
  std::vector<std::unique_ptr<RankRunner>> ranks;
  Time origin;
  int begin = 0;  // the first step
  int next_step = 0;
  bool is_broken = false;  // ranks stopped at different places
};

void Executor::Impl::prepare(std::uint64_t seed) {
  std::vector<Bytes> arenas;
  for (plan::Rank r = 0; r < world.ranks(); ++r) {
    arenas.push_back(arena_of(graph, r));
  }
  world.allocate_arenas(arenas);
  std::mutex mutex;
  std::exception_ptr failure;
  on_all_ranks([&](RankRunner& rank) {
    try {
      rank.prepare(world.arena(rank.context().rank), seed);
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
  RunAgreement agreement(processes, control);
  Time previous = start;
  Time stopping_since;
  bool is_cut_off = false;
  for (int done = 0, done_here = 0; done < options.steps;) {
    if (options.interrupted != nullptr && options.interrupted->load()) {
      agreement.stop_soon();
    }
    agreement.listen();
    world.check();
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
      if (!waits_for_others || is_cut_off || world.cancelled() || control.failure()) {
        break;
      }
      std::this_thread::sleep_for(kShortTick);
    }
    for (StepOutcome outcome; agreement.all_ended(assignment.first_step + done, &outcome); ++done) {
      result.loss.push_back(outcome.loss);
      result.grad_norm.push_back(outcome.grad_norm);
      result.step_seconds.push_back(seconds(outcome.end - previous));
      previous = outcome.end;
      if (options.on_step) {
        options.on_step(assignment.first_step + done, outcome.loss, result.step_seconds.back());
      }
    }
  }
  return is_cut_off;
}

void Executor::Impl::agree(RunResult& result) {
  if (processes.count() == 1) {
    return;
  }
  const auto of_first = [&](std::vector<double>& values) { values = all_gather(processes, values).front(); };
  of_first(result.loss);
  of_first(result.grad_norm);
  of_first(result.step_seconds);
  const std::vector<std::vector<double>> all =
      all_gather(processes, {is_broken ? 1.0 : 0.0, static_cast<double>(result.arena.value),
                             static_cast<double>(result.library_workspace.value)});
  result.library_workspace = {};
  for (const std::vector<double>& of_process : all) {
    is_broken = is_broken || of_process[0] != 0.0;
    result.arena = std::max(result.arena, Bytes{static_cast<std::int64_t>(of_process[1])});
    result.library_workspace += Bytes{static_cast<std::int64_t>(of_process[2])};
  }
}

std::vector<RankMemory> Executor::Impl::memory() const {
  std::vector<RankMemory> all;
  for (const auto& rank : ranks) {
    all.push_back({&rank->context(), rank->arena()});
  }
  return all;
}

std::vector<FullTensor> Executor::Impl::gathered(Quantity quantity) {
  const bool is_first = processes.number() == 0;
  const std::vector<std::string> of_others = processes.gather(is_first ? "" : owned_parts(memory(), quantity));
  return is_first ? gather(graph, memory(), quantity, of_others) : std::vector<FullTensor>{};
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
    cancel(control);
    join();
    is_broken = true;
    throw;
  }
  join();
  if (const std::exception_ptr failure = control.failure()) {
    is_broken = true;
    tell_others(failure);
  }
  for (const auto& rank : ranks) {
    result.arena = std::max(result.arena, rank->context().role->memory.arena);
    result.library_workspace += Bytes{static_cast<std::int64_t>(rank->scratch_bytes())};
  }
  agree(result);
  return result;
}

// A rank that waits in vain may be waiting for a process that this host can say more of.
void Executor::Impl::tell_others(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const EnvironmentError& e) {
    const std::string why = e.what() + processes.ailing();
    processes.fail(why);
    throw EnvironmentError(why);
  } catch (const std::exception& e) {
    processes.fail(e.what());
    throw;
  }
}

RunResult Executor::Impl::run(const RunOptions& options) {
  CHECK(options.steps >= 0, "{} steps", options.steps);
  if (origin == Time{}) {
    origin = Time{std::stoll(processes.all_gather(fmt::format("{}", now().value)).front())};
  }
  RunOptions here = options;
  SpanBuffer buffer;
  if (processes.count() > 1 && options.sink != nullptr) {
    here.sink = &buffer;
  }
  RunResult result = carry_out({true, false, begin, next_step, origin, &data, &here});
  next_step += static_cast<int>(result.loss.size());
  if (here.sink == &buffer) {
    for (const std::string& bytes : processes.gather(buffer.bytes())) {
      SpanBuffer::replay(bytes, *options.sink);
    }
  }
  return result;
}

RunResult Executor::Impl::evaluate(const DataSource& other, int batches, bool only_first_microbatch,
                                   const RunOptions& options) {
  RunOptions evaluation;
  evaluation.steps = batches;
  evaluation.timeout = options.timeout;
  evaluation.interrupted = options.interrupted;
  return carry_out({false, only_first_microbatch, 0, 0, origin, &other, &evaluation});
}

// The head's shards lie side by side along the vocabulary on the tp ranks of the last stage.
std::vector<double> Executor::Impl::logits_of(std::int64_t row) {
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
  std::vector<double> all;
  for (const std::vector<double>& of_process : all_gather(processes, logits)) {
    all.insert(all.end(), of_process.begin(), of_process.end());
  }
  return all;
}

Executor::Executor(const plan::PlanGraph& graph, const DataSource& data, std::uint64_t seed, Processes* processes) {
  check_runnable(graph);
  impl_ = std::make_unique<Impl>(graph, data, processes);
  impl_->prepare(seed);
}

Executor::~Executor() = default;

RunResult Executor::run(const RunOptions& options) {
  return impl_->run(options);
}

std::vector<RankMemory> Executor::memory() const {
  return impl_->memory();
}

bool Executor::can_go_on() const {
  return !impl_->is_broken;
}

void Executor::go_on_from(int step) {
  CHECK(impl_->origin == Time{}, "a run that has begun cannot begin at step {}", step);
  impl_->begin = impl_->next_step = step;
}

std::vector<FullTensor> Executor::gradients() {
  return impl_->gathered(Quantity::gradient);
}

std::vector<FullTensor> Executor::parameters() {
  return impl_->gathered(Quantity::parameter);
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
