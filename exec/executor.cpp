#include "exec/executor.h"

#include <cstring>
#include <limits>
#include <mutex>
#include <type_traits>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/dispatch.h"
#include "exec/local_ranks.h"
#include "exec/parameters.h"
#include "exec/run_agreement.h"
#include "plan/sequence_share.h"

namespace foretrain::exec {

namespace {

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

void DataSource::sequence(std::int64_t, std::int64_t, std::int64_t, std::int32_t*) const {
  CHECK(false, "data of samples has no sequences");
}

Sample DataSource::sample(std::int64_t, std::int64_t) const {
  CHECK(false, "data of sequences has no samples");
  return {};
}

DataPlace DataSource::place(std::int64_t, std::int64_t) const {
  CHECK(false, "this data has no epochs");
  return {};
}

struct Executor::Impl {
  Impl(const plan::PlanGraph& g, const DataSource& d, Processes* p, Gpu* gpu)
      : graph(g), data(d), processes(p != nullptr ? *p : alone), here(graph, d, processes, gpu) {}

  RunResult run(const RunOptions& options);
  RunResult evaluate(const DataSource& other, int batches, bool only_first_microbatch, const RunOptions& options);
  std::vector<double> logits_of(std::int64_t row, std::int64_t rows);
  // Of all ranks, on process 0; all processes together.
  std::vector<FullTensor> gathered(Quantity quantity);

  const plan::PlanGraph graph;
  const DataSource& data;
  Processes alone;
  Processes& processes;
  LocalRanks here;
  Time origin;
  int begin = 0;  // the first step
  int next_step = 0;
};

std::vector<FullTensor> Executor::Impl::gathered(Quantity quantity) {
  const bool is_first = processes.number() == 0;
  const std::vector<std::string> of_others = processes.gather(is_first ? "" : owned_parts(here.memory(), quantity));
  return is_first ? gather(graph, here.memory(), quantity, of_others) : std::vector<FullTensor>{};
}

RunResult Executor::Impl::run(const RunOptions& options) {
  CHECK(options.steps >= 0, "{} steps", options.steps);
  if (origin == Time{}) {
    origin = Time{std::stoll(processes.all_gather(fmt::format("{}", now().value)).front())};
  }
  RunOptions local = options;
  SpanBuffer buffer;
  if (processes.count() > 1 && options.sink != nullptr) {
    local.sink = &buffer;
  }
  RunResult result = here.carry_out({true, false, begin, next_step, origin, &data, &local});
  next_step += static_cast<int>(result.loss.size());
  if (local.sink == &buffer) {
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
  return here.carry_out({false, only_first_microbatch, 0, 0, origin, &other, &evaluation});
}

// The head's shards lie side by side along the vocabulary on the tp ranks of the last stage.
std::vector<double> Executor::Impl::logits_of(std::int64_t row, std::int64_t asked) {
  const int cp = graph.mesh.size(plan::Axis::cp);
  const std::int64_t told = graph.told_len > 0 ? graph.told_len : graph.seq_len;
  const std::int64_t rows = graph.sequences_per_step / graph.all_microbatches() * (told / cp);
  const plan::SharePlace place_of_row = plan::share_place(row, told, cp);
  std::vector<double> logits;
  for (const auto& rank : here.ranks()) {
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
      if (instance.microbatch == plan::first_microbatch(role) && chunk > last_chunk) {
        last_chunk = chunk;
        slot = instance.slot;
      }
    }
    const plan::Buffer& buffer = role.buffers[static_cast<std::size_t>(role.logits)];
    const plan::Placement& place = role.memory.placements[static_cast<std::size_t>(role.logits)];
    const std::int64_t cols = buffer.elements / rows;
    const kernels::Tensor tensor{rank->memory().at(place.offset + slot * place.copy_stride),
                                 kernels::stored_type(buffer.dtype)};
    const std::int64_t n = asked * cols;
    read_on_host(rank->memory(), advanced(tensor, place_of_row.token * cols), n, [&](kernels::ConstTensor values) {
      for (std::int64_t c = 0; c < n; ++c) {
        logits.push_back(element(values, c));
      }
    });
  }
  std::vector<double> all;
  for (const std::vector<double>& of_process : all_gather(processes, logits)) {
    all.insert(all.end(), of_process.begin(), of_process.end());
  }
  CHECK(!all.empty(), "no rank keeps the logits of all rows");
  return all;
}

Executor::Executor(const plan::PlanGraph& graph, const DataSource& data, std::uint64_t seed, Processes* processes,
                   Gpu* gpu) {
  check_runnable(graph);
  impl_ = std::make_unique<Impl>(graph, data, processes, gpu);
  impl_->here.prepare(seed);
}

Executor::~Executor() = default;

RunResult Executor::run(const RunOptions& options) {
  return impl_->run(options);
}

std::vector<RankMemory> Executor::memory() const {
  return impl_->here.memory();
}

bool Executor::can_go_on() const {
  return !impl_->here.is_broken();
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
  scatter(impl_->graph, impl_->here.memory(), tensors);
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
  return impl_->logits_of(row, 1);
}

std::vector<double> Executor::class_logits(const DataSource& data, const RunOptions& options) {
  impl_->evaluate(data, 1, true, options);
  return impl_->logits_of(0, impl_->graph.sequences_per_step / impl_->graph.all_microbatches());
}

}  // namespace foretrain::exec
