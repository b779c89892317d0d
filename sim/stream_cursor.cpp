#include "sim/stream_cursor.h"

#include "base/error.h"

namespace foretrain::sim {
namespace {

constexpr Sequence kPositions = Sequence{1} << 24;  // ops in one instance at most

}  // namespace

StreamCursor::StreamCursor(const RoleModel& model, int role, int stream, int steps)
    : model_(&model),
      cursor_(*model.role, role, model.role->program.prologue, 0),
      role_(role),
      stream_(stream),
      steps_(steps),
      latest_record_(static_cast<std::size_t>(model.event_copies)) {}

Sequence StreamCursor::place() const {
  const plan::OpId id = cursor_.id();
  const auto body = static_cast<Sequence>(model_->role->program.body.size());
  CHECK(id.position < kPositions, "an instance of {} ops", id.position);
  return (id.instance + step_ * body) * kPositions + id.position;
}

void StreamCursor::note_records(const OpModel& op, Sequence at) {
  for (const EventRef& e : op.records) {
    latest_record_[static_cast<std::size_t>(e.copy(cursor_.binding()))] = {op.stream, at};
  }
}

void StreamCursor::leave(std::vector<int>& left) {
  note_records(*op_, head_);
  cursor_.next();
  seek(left);
}

void StreamCursor::seek(std::vector<int>& left) {
  for (;;) {
    if (!cursor_) {
      if (!next_part(left)) {
        head_ = kProgramEnd;
        return;
      }
      continue;
    }
    const auto block = static_cast<std::size_t>(cursor_.block());
    const OpModel& op = model_->blocks[block][static_cast<std::size_t>(cursor_.op_in_block())];
    if (op.stream == stream_) {
      op_ = &op;
      head_ = place();
      find_dependencies();
      return;
    }
    if (!op.records.empty()) {
      note_records(op, place());
    }
    cursor_.next();
  }
}

bool StreamCursor::next_part(std::vector<int>& left) {
  const plan::Program& program = model_->role->program;
  const int body = plan::first_body_instance(program);
  if (part_ == 1) {
    left.push_back(step_);
  }
  if (part_ == 0 || (part_ == 1 && step_ + 1 < steps_)) {
    step_ += part_;
    part_ = 1;
    cursor_ = plan::ProgramCursor(*model_->role, role_, program.body, body);
    return true;
  }
  if (part_ == 1) {
    part_ = 2;
    cursor_ = plan::ProgramCursor(*model_->role, role_, program.epilogue, body + static_cast<int>(program.body.size()));
    return true;
  }
  return false;
}

void StreamCursor::find_dependencies() {
  dependencies_.clear();
  const int position = cursor_.op_in_block();
  const std::vector<OpModel>& block = model_->blocks[static_cast<std::size_t>(cursor_.block())];
  for (const std::uint16_t p : op_->after) {
    dependencies_.push_back({block[p].stream, head_ - (position - p)});
  }
  for (const EventRef& e : op_->waits) {
    const Dependency& record = latest_record_[static_cast<std::size_t>(e.copy(cursor_.binding()))];
    if (record.stream >= 0) {
      dependencies_.push_back(record);
    }
  }
}

}  // namespace foretrain::sim
