#include "sim/lane_order.h"

#include <algorithm>

namespace foretrain::sim {
namespace {

using Clock = std::vector<std::int32_t>;  // by stream, how many of its ops are done

void merge(Clock& into, const Clock& from) {
  for (std::size_t s = 0; s < into.size(); ++s) {
    into[s] = std::max(into[s], from[s]);
  }
}

class Walk {
 public:
  explicit Walk(const RoleModel& model)
      : model_(model),
        issued_(model.role->streams.size()),
        by_stream_(issued_.size(), issued_),
        by_event_(static_cast<std::size_t>(model.event_copies), issued_),
        last_(model.lanes.size()),
        in_order_(model.lanes.size(), std::vector<bool>(model.lanes.size(), true)) {}

  std::vector<std::vector<bool>> run() {
    const plan::Program& program = model_.role->program;
    part(program.prologue);
    // The second step waits for records of the first; later ones are like it.
    part(program.body);
    part(program.body);
    part(program.epilogue);
    return std::move(in_order_);
  }

 private:
  void part(const std::vector<plan::Instance>& instances) {
    for (plan::ProgramCursor c(*model_.role, 0, instances, 0); c; c.next()) {
      if (c.starts_block()) {
        by_op_.clear();
      }
      issue(model_.blocks[static_cast<std::size_t>(c.block())][static_cast<std::size_t>(c.op_in_block())], c.binding());
    }
  }

  void issue(const OpModel& op, const plan::Binding& binding) {
    const auto stream = static_cast<std::size_t>(op.stream);
    Clock& clock = by_stream_[stream];
    for (const std::uint16_t a : op.after) {
      merge(clock, by_op_[a]);
    }
    for (const EventRef& event : op.waits) {
      merge(clock, by_event_[static_cast<std::size_t>(event.copy(binding))]);
    }
    ++issued_[stream];
    for (const Meeting& m : op.meetings) {
      if (m.lane >= 0) {
        start(static_cast<std::size_t>(m.lane), clock);
        last_[static_cast<std::size_t>(m.lane)] = issued_[stream];
      }
    }
    clock[stream] = issued_[stream];
    for (const EventRef& event : op.records) {
      by_event_[static_cast<std::size_t>(event.copy(binding))] = clock;
    }
    by_op_.push_back(clock);
  }

  void start(std::size_t lane, const Clock& done) {
    for (std::size_t l = 0; l < last_.size(); ++l) {
      if (done[static_cast<std::size_t>(model_.lanes[l].stream)] < last_[l]) {
        in_order_[lane][l] = in_order_[l][lane] = false;
      }
    }
  }

  const RoleModel& model_;
  Clock issued_;
  std::vector<Clock> by_stream_, by_event_, by_op_;  // by_op_: of the block call's iteration
  Clock last_;                                       // by lane, its last meeting, as its stream counts
  std::vector<std::vector<bool>> in_order_;
};

}  // namespace

std::vector<std::vector<bool>> lanes_in_order(const RoleModel& model) {
  return Walk(model).run();
}

}  // namespace foretrain::sim
