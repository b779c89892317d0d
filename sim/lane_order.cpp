#include "sim/lane_order.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <utility>

namespace foretrain::sim {
namespace {

// Of many clocks, which lanes' last meetings each knows to be done: a bit per lane, in one array.
class Clocks {
 public:
  using Word = std::uint64_t;
  Clocks() = default;
  Clocks(std::size_t words, std::size_t count) : words_(words), done_(words * count, ~Word{0}) {}
  Word* operator[](std::size_t i) { return &done_[i * words_]; }
  void merge(Word* into, const Word* from) const {
    for (std::size_t w = 0; w < words_; ++w) {
      into[w] |= from[w];
    }
  }
  void copy(Word* into, const Word* from) const { std::copy_n(from, words_, into); }
  // Nobody knows that it is done.
  void forget(std::size_t lane) {
    for (std::size_t w = lane / kBits; w < done_.size(); w += words_) {
      done_[w] &= ~(Word{1} << lane % kBits);
    }
  }
  std::vector<Word>& all() { return done_; }

  static constexpr std::size_t kBits = 64;

 private:
  std::size_t words_ = 1;
  std::vector<Word> done_;
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

// Whether its ops wait for events of single layers, or record such.
bool knows_layers(const std::vector<OpModel>& block) {
  const auto is_of_layer = [](const EventRef& e) { return e.replicas == plan::Replicas::per_layer; };
  return std::any_of(block.begin(), block.end(), [&](const OpModel& op) {
    return std::any_of(op.waits.begin(), op.waits.end(), is_of_layer) ||
           std::any_of(op.records.begin(), op.records.end(), is_of_layer);
  });
}

class Walk {
 public:
  explicit Walk(const RoleModel& model)
      : model_(model),
        words_(model.lanes.size() / Clocks::kBits + 1),
        by_stream_(words_, model.role->streams.size()),
        by_event_(words_, static_cast<std::size_t>(model.event_copies)),
        of_stream_(words_, model.role->streams.size()),
        open_(words_, model.lanes.size()) {
    std::size_t longest = 0;
    for (const std::vector<OpModel>& block : model.blocks) {
      named_.push_back(named_ops(block));
      knows_layers_.push_back(knows_layers(block));
      longest = std::max(longest, block.size());
    }
    by_op_ = Clocks(words_, longest);
    std::fill(of_stream_.all().begin(), of_stream_.all().end(), 0);
    std::fill(open_.all().begin(), open_.all().end(), 0);
    for (std::size_t l = 0; l < model.lanes.size(); ++l) {
      of_stream_[static_cast<std::size_t>(model.lanes[l].stream)][l / Clocks::kBits] |= bit(l);
    }
    note_state();
  }

  std::vector<std::vector<bool>> run() {
    const plan::Program& program = model_.role->program;
    part(program.prologue);
    // The second step waits for records of the first; later ones are like it.
    part(program.body);
    part(program.body);
    part(program.epilogue);
    const std::size_t lanes = model_.lanes.size();
    const auto is_open = [&](std::size_t x, std::size_t y) { return (open_[x][y / Clocks::kBits] & bit(y)) != 0; };
    std::vector<std::vector<bool>> in_order(lanes, std::vector<bool>(lanes));
    for (std::size_t x = 0; x < lanes; ++x) {
      for (std::size_t y = 0; y < lanes; ++y) {
        in_order[x][y] = !is_open(x, y) && !is_open(y, x);
      }
    }
    return in_order;
  }

 private:
  using Word = Clocks::Word;
  // All that what comes later depends on.
  struct State {
    std::vector<Word> by_stream, by_event;
    friend auto operator<=>(const State&, const State&) = default;
  };
  // A state, and what an instance binds.
  using Visit = std::array<std::int32_t, 6>;

  static Word bit(std::size_t lane) { return Word{1} << lane % Clocks::kBits; }

  // Microbatches repeat each other: an instance is walked once in each state that it is met in.
  void part(const std::vector<plan::Instance>& instances) {
    for (const plan::Instance& instance : instances) {
      const plan::InstanceSide beside = instance.side(true);
      const Visit visit{state_, instance.segment, instance.slot, instance.ring, beside.slot, beside.ring};
      const auto [next, is_new] = next_.try_emplace(visit, -1);
      if (is_new) {
        by_stream_.all() = states_[static_cast<std::size_t>(state_)]->by_stream;
        by_event_.all() = states_[static_cast<std::size_t>(state_)]->by_event;
        walk(instance);
        next->second = note_state();
      }
      state_ = next->second;
    }
  }

  void walk(const plan::Instance& instance) {
    const plan::Segment& segment = model_.role->segments[static_cast<std::size_t>(instance.segment)];
    for (const plan::BlockCall& call : segment.calls) {
      const auto block = static_cast<std::size_t>(call.block);
      for (std::int32_t i = 0; i < call.count; ++i) {
        before_.by_stream = by_stream_.all();
        before_.by_event = by_event_.all();
        walk_block(block, plan::bind(segment, instance, call, i));
        // Layers repeat each other, too: what leaves everything as it was leaves it so again.
        if (!knows_layers_[block] && before_.by_stream == by_stream_.all() && before_.by_event == by_event_.all()) {
          break;
        }
      }
    }
  }

  void walk_block(std::size_t block, const plan::Binding& binding) {
    const std::vector<OpModel>& ops = model_.blocks[block];
    for (std::size_t op = 0; op < ops.size(); ++op) {
      const Word* const clock = issue(ops[op], binding);
      if (named_[block][op]) {
        by_op_.copy(by_op_[op], clock);
      }
    }
  }

  std::int32_t note_state() {
    const auto [state, is_new] =
        known_.try_emplace({by_stream_.all(), by_event_.all()}, static_cast<std::int32_t>(states_.size()));
    if (is_new) {
      states_.push_back(&state->first);
    }
    return state->second;
  }

  // The clock of its stream thereafter.
  const Word* issue(const OpModel& op, const plan::Binding& binding) {
    const auto stream = static_cast<std::size_t>(op.stream);
    Word* const clock = by_stream_[stream];
    for (const std::uint16_t a : op.after) {
      by_stream_.merge(clock, by_op_[a]);
    }
    for (const EventRef& event : op.waits) {
      by_stream_.merge(clock, by_event_[static_cast<std::size_t>(event.copy(binding))]);
    }
    for (const Meeting& m : op.meetings) {
      if (m.lane >= 0) {
        start(static_cast<std::size_t>(m.lane), clock);
      }
    }
    by_stream_.merge(clock, of_stream_[stream]);
    for (const EventRef& event : op.records) {
      by_stream_.copy(by_event_[static_cast<std::size_t>(event.copy(binding))], clock);
    }
    return clock;
  }

  void start(std::size_t lane, const Word* done) {
    for (std::size_t w = 0; w < words_; ++w) {
      open_[lane][w] |= ~done[w];
    }
    for (Clocks* clocks : {&by_stream_, &by_event_, &by_op_}) {
      clocks->forget(lane);
    }
  }

  const RoleModel& model_;
  const std::size_t words_;
  std::vector<std::vector<bool>> named_;  // by block
  std::vector<bool> knows_layers_;        // by block
  Clocks by_stream_, by_event_, by_op_;   // by_op_: of the block call's iteration, of ops that are named
  Clocks of_stream_;                      // by stream: its lanes
  Clocks open_;                           // by lane: which others may not be done when it starts
  std::map<State, std::int32_t> known_;
  std::vector<const State*> states_;
  std::map<Visit, std::int32_t> next_;  // state
  std::int32_t state_ = 0;
  State before_;  // scratch
};

}  // namespace

std::vector<std::vector<bool>> lanes_in_order(const RoleModel& model) {
  return Walk(model).run();
}

}  // namespace foretrain::sim
