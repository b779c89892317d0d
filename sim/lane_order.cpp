#include "sim/lane_order.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace foretrain::sim {
namespace {

// Of many clocks, which lanes' last meetings each knows to be done: a bit per lane, in one array.
class Clocks {
 public:
  using Word = std::uint16_t;  // roles have few lanes
  static constexpr std::size_t kBits = 16;
  static Word bit(std::size_t lane) { return static_cast<Word>(1U << lane % kBits); }

  static constexpr Word kAll = std::numeric_limits<Word>::max();

  Clocks() = default;
  Clocks(std::size_t words, std::size_t count) : words_(words), done_(words * count, kAll), any_(words, kAll) {}
  const Word* operator[](std::size_t i) const { return &done_[i * words_]; }
  void merge(std::size_t into, const Word* from) {
    for (std::size_t w = 0; w < words_; ++w) {
      done_[into * words_ + w] |= from[w];
      any_[w] |= from[w];
    }
  }
  void copy(std::size_t into, const Word* from) {
    for (std::size_t w = 0; w < words_; ++w) {
      done_[into * words_ + w] = from[w];
      any_[w] |= from[w];
    }
  }
  // Nobody knows that it is done.
  void forget(std::size_t lane) {
    Word& any = any_[lane / kBits];
    if ((any & bit(lane)) == 0) {
      return;
    }
    const auto others = static_cast<Word>(~bit(lane));
    any &= others;
    for (std::size_t w = lane / kBits; w < done_.size(); w += words_) {
      done_[w] &= others;
    }
  }
  const std::vector<Word>& all() const { return done_; }
  void set(const std::vector<Word>& all) {
    done_ = all;
    std::fill(any_.begin(), any_.end(), kAll);
  }

 private:
  std::size_t words_ = 1;
  std::vector<Word> done_;
  std::vector<Word> any_;  // what some of them may know
};

// An op that changes what is known. What its stream knew before, and the stream's own lanes, it knows anyhow.
struct Step {
  const OpModel* op = nullptr;
  std::vector<std::int32_t> after;  // ops of other streams, as `name`
  std::int32_t name = -1;           // where such ops name it
};

std::vector<Step> steps_of(const std::vector<OpModel>& block, std::int32_t& names) {
  std::vector<std::int32_t> name(block.size(), -1);
  names = 0;
  for (const OpModel& op : block) {
    for (const std::uint16_t a : op.after) {
      if (block[a].stream != op.stream && name[a] < 0) {
        name[a] = names++;
      }
    }
  }
  std::vector<Step> steps;
  for (std::size_t i = 0; i < block.size(); ++i) {
    Step step{&block[i], {}, name[i]};
    for (const std::uint16_t a : block[i].after) {
      if (block[a].stream != block[i].stream) {
        step.after.push_back(name[a]);
      }
    }
    const bool meets =
        std::any_of(block[i].meetings.begin(), block[i].meetings.end(), [](const Meeting& m) { return m.lane >= 0; });
    if (meets || step.name >= 0 || !step.after.empty() || !block[i].waits.empty() || !block[i].records.empty()) {
      steps.push_back(std::move(step));
    }
  }
  return steps;
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
        of_stream_(words_ * model.role->streams.size(), 0),
        open_(words_ * model.lanes.size(), 0) {
    std::int32_t most = 0;
    for (const std::vector<OpModel>& block : model.blocks) {
      std::int32_t names = 0;
      blocks_.push_back({steps_of(block, names), knows_layers(block)});
      most = std::max(most, names);
    }
    by_op_ = Clocks(words_, static_cast<std::size_t>(most));
    for (std::size_t l = 0; l < model.lanes.size(); ++l) {
      of_stream_[static_cast<std::size_t>(model.lanes[l].stream) * words_ + l / Clocks::kBits] |= Clocks::bit(l);
    }
    state_ = walked_to_ = note_state();
  }

  std::vector<std::vector<bool>> run() {
    const plan::Program& program = model_.role->program;
    part(program.prologue);
    // The second step waits for records of the first; later ones are like it.
    part(program.body);
    part(program.body);
    part(program.epilogue);
    const std::size_t lanes = model_.lanes.size();
    const auto is_open = [&](std::size_t x, std::size_t y) {
      return (open_[x * words_ + y / Clocks::kBits] & Clocks::bit(y)) != 0;
    };
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
  struct Block {
    std::vector<Step> steps;
    bool knows_layers = false;
  };
  // All that what comes later depends on.
  struct State {
    std::vector<Word> by_stream, by_event;
    friend bool operator==(const State&, const State&) = default;
  };
  struct StateHash {
    std::size_t operator()(const State& s) const { return hash(s.by_stream) * 31 + hash(s.by_event); }
    static std::size_t hash(const std::vector<Word>& words) {
      return std::hash<std::string_view>{}({reinterpret_cast<const char*>(words.data()), words.size() * sizeof(Word)});
    }
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
        if (walked_to_ != state_) {
          by_stream_.set(states_[static_cast<std::size_t>(state_)]->by_stream);
          by_event_.set(states_[static_cast<std::size_t>(state_)]->by_event);
        }
        walk(instance);
        next->second = walked_to_ = note_state();
      }
      state_ = next->second;
    }
  }

  void walk(const plan::Instance& instance) {
    const plan::Segment& segment = model_.role->segments[static_cast<std::size_t>(instance.segment)];
    for (const plan::BlockCall& call : segment.calls) {
      const Block& block = blocks_[static_cast<std::size_t>(call.block)];
      for (std::int32_t i = 0; i < call.count && !block.steps.empty(); ++i) {
        const bool may_repeat = !block.knows_layers && i + 1 < call.count;
        if (may_repeat) {
          before_ = {by_stream_.all(), by_event_.all()};
        }
        const plan::Binding binding = plan::bind(segment, instance, call, i);
        for (const Step& step : block.steps) {
          issue(step, binding);
        }
        // Layers repeat each other, too: what leaves everything as it was leaves it so again.
        if (may_repeat && before_.by_stream == by_stream_.all() && before_.by_event == by_event_.all()) {
          break;
        }
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

  void issue(const Step& step, const plan::Binding& binding) {
    const auto stream = static_cast<std::size_t>(step.op->stream);
    for (const std::int32_t a : step.after) {
      by_stream_.merge(stream, by_op_[static_cast<std::size_t>(a)]);
    }
    for (const EventRef& event : step.op->waits) {
      by_stream_.merge(stream, by_event_[static_cast<std::size_t>(event.copy(binding))]);
    }
    for (const Meeting& m : step.op->meetings) {
      if (m.lane >= 0) {
        start(static_cast<std::size_t>(m.lane), by_stream_[stream]);
      }
    }
    by_stream_.merge(stream, &of_stream_[stream * words_]);
    for (const EventRef& event : step.op->records) {
      by_event_.copy(static_cast<std::size_t>(event.copy(binding)), by_stream_[stream]);
    }
    if (step.name >= 0) {
      by_op_.copy(static_cast<std::size_t>(step.name), by_stream_[stream]);
    }
  }

  void start(std::size_t lane, const Word* done) {
    for (std::size_t w = 0; w < words_; ++w) {
      open_[lane * words_ + w] |= static_cast<Word>(~done[w]);
    }
    for (Clocks* clocks : {&by_stream_, &by_event_, &by_op_}) {
      clocks->forget(lane);
    }
  }

  const RoleModel& model_;
  const std::size_t words_;
  std::vector<Block> blocks_;
  Clocks by_stream_, by_event_, by_op_;  // by_op_: of the block call's iteration, by name
  std::vector<Word> of_stream_;          // by stream: its lanes
  std::vector<Word> open_;               // by lane: which others may not be done when it starts
  std::unordered_map<State, std::int32_t, StateHash> known_;
  std::vector<const State*> states_;
  std::map<Visit, std::int32_t> next_;      // state
  std::int32_t state_ = 0, walked_to_ = 0;  // walked_to_: that of the clocks
  State before_;                            // scratch
};

}  // namespace

std::vector<std::vector<bool>> lanes_in_order(const RoleModel& model) {
  return Walk(model).run();
}

}  // namespace foretrain::sim
