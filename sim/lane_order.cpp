#include "sim/lane_order.h"

#include <algorithm>
#include <array>
#include <map>

namespace foretrain::sim {
namespace {

// A clock: by stream, how many of its ops are done. Ops are many and clocks short, so that they lie in one array.
class Clocks {
 public:
  Clocks() = default;
  Clocks(std::size_t streams, std::size_t count) : streams_(streams), done_(streams * count, 0) {}
  std::int32_t* operator[](std::size_t i) { return &done_[i * streams_]; }
  void merge(std::int32_t* into, const std::int32_t* from) const {
    for (std::size_t s = 0; s < streams_; ++s) {
      into[s] = std::max(into[s], from[s]);
    }
  }
  void copy(std::int32_t* into, const std::int32_t* from) const { std::copy_n(from, streams_, into); }
  std::vector<std::int32_t>& all() { return done_; }

 private:
  std::size_t streams_ = 0;
  std::vector<std::int32_t> done_;
};

// By op of a block, whether a later one names it.
std::vector<bool> named_ops(const std::vector<OpModel>& block) {
  std::vector<bool> named(block.size(), false);
  for (const OpModel& op : block) {
    for (const std::uint16_t a : op.after) {
      named[a] = true;
    }
  }
  return named;
}

class Walk {
 public:
  explicit Walk(const RoleModel& model)
      : model_(model),
        issued_(model.role->streams.size(), 0),
        by_stream_(issued_.size(), issued_.size()),
        by_event_(issued_.size(), static_cast<std::size_t>(model.event_copies)),
        last_(model.lanes.size(), 0),
        in_order_(model.lanes.size(), std::vector<bool>(model.lanes.size(), true)) {
    std::size_t longest = 0;
    for (const std::vector<OpModel>& block : model.blocks) {
      named_.push_back(named_ops(block));
      longest = std::max(longest, block.size());
    }
    by_op_ = Clocks(issued_.size(), longest);
    note_state();
  }

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
  // All that what comes later depends on.
  struct State {
    std::vector<std::int32_t> by_stream, by_event, last;
    friend auto operator<=>(const State&, const State&) = default;
  };
  // A state, and what an instance binds.
  using Visit = std::array<std::int32_t, 6>;

  // Microbatches repeat each other: an instance is walked once in each state that it is met in.
  void part(const std::vector<plan::Instance>& instances) {
    for (const plan::Instance& instance : instances) {
      const plan::InstanceSide beside = instance.side(true);
      const Visit visit{state_, instance.segment, instance.slot, instance.ring, beside.slot, beside.ring};
      const auto [next, is_new] = next_.try_emplace(visit, -1);
      if (is_new) {
        resume(*states_[static_cast<std::size_t>(state_)]);
        walk({instance});
        next->second = note_state();
      }
      state_ = next->second;
    }
  }

  void walk(const std::vector<plan::Instance>& instances) {
    std::size_t block = 0;
    for (plan::ProgramCursor c(*model_.role, 0, instances, 0); c; c.next()) {
      if (c.starts_block()) {
        block = static_cast<std::size_t>(c.block());
      }
      const auto op = static_cast<std::size_t>(c.op_in_block());
      const std::int32_t* clock = issue(model_.blocks[block][op], c.binding());
      if (named_[block][op]) {
        by_op_.copy(by_op_[op], clock);
      }
    }
  }

  void resume(const State& state) {
    by_stream_.all() = state.by_stream;
    by_event_.all() = state.by_event;
    last_ = state.last;
    std::fill(issued_.begin(), issued_.end(), 0);
    for (std::size_t l = 0; l < last_.size(); ++l) {
      std::int32_t& issued = issued_[static_cast<std::size_t>(model_.lanes[l].stream)];
      issued = std::max(issued, last_[l]);
    }
  }

  // Of a clock it matters only which lanes' last meetings are done: each count becomes the number of them.
  std::int32_t note_state() {
    const std::size_t streams = issued_.size();
    std::vector<std::vector<std::int32_t>> lasts(streams);
    for (std::size_t l = 0; l < last_.size(); ++l) {
      if (last_[l] > 0) {
        lasts[static_cast<std::size_t>(model_.lanes[l].stream)].push_back(last_[l]);
      }
    }
    for (std::vector<std::int32_t>& of_stream : lasts) {
      std::sort(of_stream.begin(), of_stream.end());
      of_stream.erase(std::unique(of_stream.begin(), of_stream.end()), of_stream.end());
    }
    const auto count = [&](std::size_t stream, std::int32_t& done) {
      const std::vector<std::int32_t>& of_stream = lasts[stream];
      done = static_cast<std::int32_t>(std::upper_bound(of_stream.begin(), of_stream.end(), done) - of_stream.begin());
    };
    for (std::vector<std::int32_t>* clocks : {&by_stream_.all(), &by_event_.all()}) {
      for (std::size_t i = 0; i < clocks->size(); ++i) {
        count(i % streams, (*clocks)[i]);
      }
    }
    for (std::size_t l = 0; l < last_.size(); ++l) {
      count(static_cast<std::size_t>(model_.lanes[l].stream), last_[l]);
    }
    const auto [state, is_new] =
        known_.try_emplace({by_stream_.all(), by_event_.all(), last_}, static_cast<std::int32_t>(states_.size()));
    if (is_new) {
      states_.push_back(&state->first);
    }
    return state->second;
  }

  // The clock of its stream thereafter.
  const std::int32_t* issue(const OpModel& op, const plan::Binding& binding) {
    const auto stream = static_cast<std::size_t>(op.stream);
    std::int32_t* clock = by_stream_[stream];
    for (const std::uint16_t a : op.after) {
      by_stream_.merge(clock, by_op_[a]);
    }
    for (const EventRef& event : op.waits) {
      by_stream_.merge(clock, by_event_[static_cast<std::size_t>(event.copy(binding))]);
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
      by_stream_.copy(by_event_[static_cast<std::size_t>(event.copy(binding))], clock);
    }
    return clock;
  }

  void start(std::size_t lane, const std::int32_t* done) {
    for (std::size_t l = 0; l < last_.size(); ++l) {
      if (done[static_cast<std::size_t>(model_.lanes[l].stream)] < last_[l]) {
        in_order_[lane][l] = in_order_[l][lane] = false;
      }
    }
  }

  const RoleModel& model_;
  std::vector<std::vector<bool>> named_;  // by block
  std::vector<std::int32_t> issued_;      // by stream
  Clocks by_stream_, by_event_, by_op_;   // by_op_: of the block call's iteration, of ops that are named
  std::vector<std::int32_t> last_;        // by lane, its last meeting, as its stream counts
  std::vector<std::vector<bool>> in_order_;
  std::map<State, std::int32_t> known_;
  std::vector<const State*> states_;
  std::map<Visit, std::int32_t> next_;  // state
  std::int32_t state_ = 0;
};

}  // namespace

std::vector<std::vector<bool>> lanes_in_order(const RoleModel& model) {
  return Walk(model).run();
}

}  // namespace foretrain::sim
