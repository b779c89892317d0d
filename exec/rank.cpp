#include "exec/rank.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "exec/parameters.h"
#include "kernels/kernels.h"
#include "plan/dump.h"

namespace foretrain::exec {

namespace {

std::size_t at(int id) {
  return static_cast<std::size_t>(id);
}

// All bits set is a NaN in every floating-point type.
constexpr int kPoison = 0xFF;
constexpr std::int64_t kPage = 4096;

// By instance the copies of this lifetime that hold nothing after it that is still read: what is next in them is of
// another microbatch or chunk.
std::vector<std::vector<std::int32_t>> find_freed(const plan::Role& role, plan::Lifetime lifetime) {
  struct Use {
    std::size_t instance = 0;
    std::int32_t copy = -1, microbatch = -1, chunk = -1;
  };
  std::vector<Use> uses;
  const std::vector<plan::Instance>& body = role.program.body;
  for (std::size_t i = 0; i < body.size(); ++i) {
    for (const bool beside : {false, true}) {
      const plan::InstanceSide side = body[i].side(beside);
      if (side.copy(lifetime) >= 0) {
        uses.push_back({i, side.copy(lifetime), side.microbatch, role.segments[at(body[i].segment)].chunk_of(beside)});
      }
    }
  }
  std::vector<std::vector<std::int32_t>> frees(body.size());
  for (auto use = uses.begin(); use != uses.end(); ++use) {
    const auto next = std::find_if(use + 1, uses.end(), [&](const Use& u) { return u.copy == use->copy; });
    if (next == uses.end() || next->microbatch != use->microbatch || next->chunk != use->chunk) {
      frees[use->instance].push_back(use->copy);
    }
  }
  return frees;
}

template <class T>
T read_as(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// The last op of an update for one worker.
bool writes_turns(const plan::Op& op, const plan::Role& role) {
  return std::holds_alternative<plan::Copy>(op.work) && op.writes.at(0).buffer == role.turns;
}

void throw_if_diverged(const kernels::LossScaleState& state, std::int64_t limit) {
  if (state.in_a_row >= static_cast<double>(limit)) {
    throw InfeasibleError(
        fmt::format("loss_scaling: gradients were no numbers in {} steps in a row (its limit), at a "
                    "scale of {} in the end: the training has diverged",
                    limit, state.scale));
  }
}

}  // namespace

RankRunner::RankRunner(const plan::PlanGraph& graph, plan::Rank rank, std::unique_ptr<QueuedDevice> device)
    : context_(rank_context(graph, rank)), role_index_(plan::role_of(graph, rank)), device_(std::move(device)) {
  device_->set_sink(this);
  frees_slot_ = find_freed(*context_.role, plan::Lifetime::slot);
  frees_hold_ = find_freed(*context_.role, plan::Lifetime::hold);
  for (const plan::Block& block : context_.role->blocks) {
    for (const plan::Op& op : block.ops) {
      if (const auto* const scale = std::get_if<plan::LossScale>(&op.work)) {
        skip_limit_ = scale->scaling.limit;
      }
    }
  }
  make_streams_and_events();
}

void RankRunner::make_streams_and_events() {
  const plan::Role& role = *context_.role;
  for (std::size_t i = 0; i < role.streams.size(); ++i) {
    streams_.push_back(device_->create_stream());
    outcome_events_.push_back(device_->create_event());
    step_ends_.push_back(device_->create_event());
  }
  const int copies = plan::event_copies(role);
  for (int i = 0; i < copies; ++i) {
    events_.push_back(device_->create_event());
  }
  poison_event_ = device_->create_event();
  kept_event_ = device_->create_event();
  for (const plan::Block& block : role.blocks) {
    std::vector<OpNotes> notes(block.ops.size());
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      for (const std::uint16_t earlier : block.ops[i].after) {
        if (block.ops[earlier].stream != block.ops[i].stream && notes[earlier].done.index < 0) {
          notes[earlier].done = device_->create_event();
        }
      }
      for (const plan::Operand& operand : block.ops[i].writes) {
        notes[i].writes_outcome |= operand.buffer == role.loss || operand.buffer == role.grad_norm;
      }
    }
    notes_.push_back(std::move(notes));
  }
}

void RankRunner::prepare(const RankMemory& memory, std::uint64_t seed) {
  memory_ = memory;
  context_.seed = seed;
  const plan::MemoryPlan& plan = context_.role->memory;
  const std::int64_t end = (plan.arena + plan.host).value;
  for (std::int64_t i = memory.gpu != nullptr ? plan.arena.value : 0; i < end; i += kPage) {
    *static_cast<volatile std::byte*>(memory.at(i)) = std::byte{0};
  }
  initialise_parameters(memory_, seed);
}

void RankRunner::run(RunControl& control, const Assignment& assignment) {
  control_ = &control;
  assignment_ = assignment;
  ops_done_ = optimizer_ops_done_ = turns_made_ = 0;
  slowest_ = assignment.first_step;
  context_.data = assignment.data;
  const std::vector<double>& speeds = assignment.options->speeds;
  const std::unique_ptr<Loader> loader = assignment.trains ? make_loader(assignment) : nullptr;
  device_->set_pace(speeds.empty() ? 1 : speeds[at(static_cast<int>(context_.rank))], loader.get());
  context_.keeper = assignment.trains ? assignment.options->keeper : nullptr;
  device_->set_timeout(assignment.options->timeout);
  const plan::Program& program = context_.role->program;
  const int first_body = plan::first_body_instance(program);
  int step = assignment.first_step;
  for (; control.may_begin(step); ++step) {
    open_steps_.push_back({step, 0, false, {}});
    if (!assignment.trains) {
      enqueue_evaluation(step);
    } else {
      if (step == assignment.begin) {
        poison_everything_dead();
      }
      if (step == 0) {
        enqueue(program.prologue, 0, step);
      }
      enqueue(program.body, first_body, step);
    }
    enqueue_outcome(step);
    close(open_steps_.back());
    const StateKeeper* const keeper = assignment.options->keeper;
    if (assignment.trains && keeper != nullptr && keeper->wants(step + 1)) {
      enqueue_keep(step + 1);
    }
  }
  if (assignment.trains) {
    enqueue(program.epilogue, first_body + static_cast<int>(program.body.size()), step - 1);
  }
  device_->synchronise();
  workspace_ = device_->workspace();
  read_ = loader ? loader->read() : BytesRead{};
}

// Reads what a step of the body loads, ahead of it. None where that takes no time and nothing is to be ahead, or kept.
std::unique_ptr<Loader> RankRunner::make_loader(const Assignment& assignment) {
  const plan::Host* const op = plan::reading_op(*context_.role);
  const DataCache* const cache = assignment.cache;
  if (op == nullptr || (!assignment.options->storage.is_limited() && op->prefetch == 0 && cache == nullptr)) {
    return nullptr;
  }
  reading_ = context_;
  reading_.data = cache != nullptr ? cache : context_.data;
  const plan::Program& program = context_.role->program;
  std::vector<OpCall> loads;
  for (plan::ProgramCursor cursor(*context_.role, role_index_, program.body, plan::first_body_instance(program));
       cursor; cursor.next()) {
    if (const auto* const host = std::get_if<plan::Host>(&cursor.op().work); host != nullptr && host->bytes > 0) {
      bind_call(memory_, cursor, 0, loads.emplace_back());
      loads.back().rank = &reading_;
    }
  }
  return std::make_unique<Loader>(std::move(loads), assignment.first_step, assignment.options->storage, cache);
}

void RankRunner::enqueue_evaluation(int batch) {
  const plan::Program& p = context_.role->program;
  const auto first = static_cast<int>(p.prologue.size() + p.body.size() + p.epilogue.size());
  if (!assignment_.only_first_microbatch) {
    enqueue(p.evaluation, first, batch);
    return;
  }
  // Instance by instance, so that each keeps its id.
  for (std::size_t i = 0; i < p.evaluation.size(); ++i) {
    if (p.evaluation[i].microbatch <= plan::first_microbatch(*context_.role)) {
      enqueue({p.evaluation[i]}, first + static_cast<int>(i), batch);
    }
  }
}

void RankRunner::enqueue(const std::vector<plan::Instance>& instances, int first_instance, int step) {
  for (plan::ProgramCursor cursor(*context_.role, role_index_, instances, first_instance, step); cursor;
       cursor.next()) {
    if (assignment_.trains && assignment_.options->poison && cursor.starts_instance()) {
      enqueue_poison(cursor.id().instance - 1);
    }
    enqueue_op(cursor, step);
  }
}

void RankRunner::enqueue_op(const plan::ProgramCursor& cursor, int step) {
  const plan::Op& op = cursor.op();
  const StreamHandle stream = streams_[at(op.stream)];
  const std::vector<OpNotes>& notes = notes_[at(cursor.block())];
  for (const std::uint16_t earlier : op.after) {
    if (notes[earlier].done.index >= 0) {
      device_->wait(stream, notes[earlier].done);
    }
  }
  for (const plan::EventId event : op.waits) {
    device_->wait(stream, events_[at(plan::event_copy(*context_.role, event, cursor.binding()))]);
  }
  bind_call(memory_, cursor, step, call_);
  if (!open_steps_.empty() && open_steps_.back().step == step) {
    ++open_steps_.back().open;
  }
  device_->launch(stream, call_);
  const OpNotes& note = notes[at(cursor.op_in_block())];
  if (note.done.index >= 0) {
    device_->record(note.done, stream);
  }
  if (note.writes_outcome) {
    device_->record(outcome_events_[at(op.stream)], stream);
  }
  for (const plan::EventId event : op.records) {
    device_->record(events_[at(plan::event_copy(*context_.role, event, cursor.binding()))], stream);
  }
}

// On the compute stream, where the next step begins, so that nothing overwrites what is read here.
void RankRunner::enqueue_outcome(int step) {
  if (!reports_loss_ && !reports_grad_norm_) {
    return;
  }
  for (const EventHandle event : outcome_events_) {
    device_->wait(streams_[plan::kCompute], event);
  }
  const plan::Role& role = *context_.role;
  const auto read = [&](plan::BufferId buffer, std::int64_t bytes, std::function<void(const std::byte*)> use) {
    ++open_steps_.back().open;
    device_->launch_read(streams_[plan::kCompute], memory_.at(role.memory.placements[at(buffer)].offset), bytes,
                         [this, step, use = std::move(use)](const std::byte* copy) {
                           use(copy);
                           finish_op(step, {});
                         });
  };
  if (reports_loss_) {
    const int shares = context_.graph->data_ranks();
    const bool is_part = context_.graph->asynchronous && assignment_.trains;
    const double of_all = static_cast<double>(shares) / (is_part ? 1 : shares - assignment_.lost);
    read(role.loss, sizeof(double),
         [this, step, of_all](const std::byte* copy) { control_->report_loss(step, read_as<double>(copy) * of_all); });
  }
  if (reports_grad_norm_ && assignment_.trains) {
    read(role.grad_norm, 2 * sizeof(double), [this, step](const std::byte* copy) {
      control_->report_grad_norm(step, read_as<double>(copy + sizeof(double)));
    });
    if (skip_limit_ > 0) {
      read(role.loss_scale, sizeof(kernels::LossScaleState), [this, step](const std::byte* copy) {
        const auto state = read_as<kernels::LossScaleState>(copy);
        throw_if_diverged(state, skip_limit_);
        control_->report_loss_scale(step, state.scale);
      });
    }
  }
}

// Behind all of the step on every stream, and before anything of the next one: either may read and write what is kept.
void RankRunner::enqueue_keep(int steps_done) {
  const StreamHandle compute = streams_[plan::kCompute];
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    device_->record(step_ends_[i], streams_[i]);
    device_->wait(compute, step_ends_[i]);
  }
  device_->launch_host(compute, [this, steps_done] { assignment_.options->keeper->keep(memory_, steps_done); });
  device_->record(kept_event_, compute);
  for (const StreamHandle stream : streams_) {
    device_->wait(stream, kept_event_);
  }
}

// Before the very first step nothing but parameters and state may be read.
void RankRunner::poison_everything_dead() {
  if (assignment_.options->poison) {
    const plan::MemoryPlan& memory = context_.role->memory;
    poison_range(memory_.arena + memory.persistent.value, memory_.arena + memory.arena.value, {});
  }
}

// Between two instances: what the finished one left behind must not be read. Ops of the next one wait for it.
void RankRunner::enqueue_poison(int finished_instance) {
  device_->launch_host(streams_[plan::kCompute], [this, finished_instance] { poison(finished_instance); });
  device_->record(poison_event_, streams_[plan::kCompute]);
  for (const StreamHandle stream : streams_) {
    device_->wait(stream, poison_event_);
  }
}

void RankRunner::poison(int finished_instance) {
  const plan::Role& role = *context_.role;
  const plan::MemoryPlan& memory = role.memory;
  std::vector<QueuedDevice::Range> kept = device_->ranges_in_flight();
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  poison_range(memory_.arena + memory.arena.value - memory.workspace.value, memory_.arena + memory.arena.value, kept);

  const int body_index = finished_instance - plan::first_body_instance(role.program);
  if (body_index < 0 || at(body_index) >= frees_slot_.size()) {
    return;
  }
  for (std::size_t b = 0; b < role.buffers.size(); ++b) {
    const plan::Buffer& buffer = role.buffers[b];
    if (buffer.lifetime != plan::Lifetime::slot && buffer.lifetime != plan::Lifetime::hold) {
      continue;
    }
    const plan::Placement& place = memory.placements[b];
    for (const std::int32_t copy :
         (buffer.lifetime == plan::Lifetime::slot ? frees_slot_ : frees_hold_)[at(body_index)]) {
      for (std::int32_t layer = 0; layer < std::max(1, buffer.layers); ++layer) {
        std::byte* const begin = memory_.at(place.offset + layer * place.layer_stride + copy * place.copy_stride);
        poison_range(begin, begin + size_bytes(buffer.dtype, buffer.elements), kept);
      }
    }
  }
}

// Fills [begin, end) except what is in `kept`, which is sorted by begin.
void RankRunner::poison_range(std::byte* begin, std::byte* end, const std::vector<QueuedDevice::Range>& kept) const {
  for (const QueuedDevice::Range& range : kept) {
    if (range.end <= begin || range.begin >= end) {
      continue;
    }
    if (range.begin > begin) {
      memory_.fill(begin, begin + (range.begin - begin), kPoison);
    }
    begin += range.end - begin;
    if (begin >= end) {
      return;
    }
  }
  memory_.fill(begin, end, kPoison);
}

void RankRunner::completed(const OpCall& call, Time start, Time end) {
  const int step = call.binding.step;
  const RunOptions& options = *assignment_.options;
  if (assignment_.trains && options.sink != nullptr && step >= options.first_traced_step) {
    plan::Span span;
    span.op = call.id;
    span.step = step;
    span.stream = call.op->stream;
    span.multiplicity = 1;
    span.rank = context_.rank;
    span.sender = call.sender;
    span.start = start - assignment_.origin;
    span.end = end - assignment_.origin;
    options.sink->span(span);
  }
  count(call);
  finish_op(step, end);
}

void RankRunner::count(const OpCall& call) {
  optimizer_ops_done_ += std::holds_alternative<plan::OptimizerStep>(call.op->work) ? 1 : 0;
  if (writes_turns(*call.op, *context_.role)) {
    const auto* const turns = static_cast<const double*>(call.writes[0].data);
    slowest_ = static_cast<int>(*std::min_element(turns, turns + call.op->writes[0].elements));
    ++turns_made_;
  }
  ++ops_done_;
}

int RankRunner::updates_made() const {
  const plan::Program& program = context_.role->program;
  std::int64_t of_step = 0, turns_of_step = 0;
  for (plan::ProgramCursor c(*context_.role, role_index_, program.body, plan::first_body_instance(program)); c;
       c.next()) {
    of_step += std::holds_alternative<plan::OptimizerStep>(c.op().work) ? 1 : 0;
    turns_of_step += writes_turns(c.op(), *context_.role) ? 1 : 0;
  }
  const std::int64_t done = optimizer_ops_done_;
  if (turns_of_step > 0) {
    return done * turns_of_step == turns_made_ * of_step ? slowest_.load() : -1;
  }
  return of_step > 0 && done % of_step == 0 ? assignment_.first_step + static_cast<int>(done / of_step) : -1;
}

void RankRunner::finish_op(int step, Time end) {
  const auto open =
      std::find_if(open_steps_.begin(), open_steps_.end(), [&](const OpenStep& s) { return s.step == step; });
  if (open == open_steps_.end()) {
    return;  // the epilogue's ops belong to a step that has ended
  }
  --open->open;
  open->end = std::max(open->end, end);
  if (open->open == 0 && open->is_closed) {
    control_->finish_step(step, open->end);
    open_steps_.erase(open);
  }
}

// All ops of the step are enqueued.
void RankRunner::close(OpenStep& step) {
  step.is_closed = true;
  if (step.open == 0) {
    control_->finish_step(step.step, step.end);
    open_steps_.pop_back();
  }
}

}  // namespace foretrain::exec
