// How long meetings take as flows, for a walk that runs ahead of time (sim/fold.h): found in rounds.
//
// A round walks the job with the durations of the round before (in the first one: alone), notes when every flow began,
// and lets the network carry the flows that begin then: new durations. A round that changes none has found a
// consistent execution, and there is one only: two of them would have a first instant at which they differ, but what
// happens at an instant follows from what happened before. So it is what sim/engine.h finds, to the picosecond,
// whatever durations the round began with: where errors shrink by the same factor from round to round, as they do
// beside compute that the flow slows, the next one begins where they would end (Aitken's delta-squared process). Where
// a flow slows down beside compute, the walk notes when that was; as long as no other flow was seen to hold it back,
// the walk also finds its end, which compute beside it and it decide together.
//
// A folded call (sim/role_walk.h) whose flows do not hold each other back has right durations as long as no other flow
// uses a link of theirs between the first of them and the last: then the network need not carry them. Nor does it
// carry a flow that takes as long as it would alone, and is. Traffic of others (FlowPlan::background) couples all flows
// on its links, at any distance: these are always carried.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "sim/meeting_flows.h"

namespace foretrain::sim {

struct Stretch {
  Time from, to;
};

// Of a folded call that meets nobody else's flows; times relative to the call's.
struct CallFlows {
  struct Flow {
    std::size_t ordinal = 0;  // among the call's meetings
    std::int32_t route = -1;
    AloneFlow flow;
    Time start, used;
    std::vector<Stretch> beside;  // one of its devices computes
  };
  std::vector<Flow> flows;
  std::vector<LinkIndex> links;  // that they use
  Time first, last;              // any of them is under way
};

class FlowTimes {
 public:
  // A meeting: a class that takes part in it, and the number of its meetings that came before in program order.
  struct Id {
    std::size_t walk = 0, ordinal = 0;
    friend auto operator<=>(const Id&, const Id&) = default;
  };

  // The plan must outlive it. `speed_beside_compute`: of kFullSpeed.
  FlowTimes(const FlowPlan& plan, std::int64_t speed_beside_compute);

  // What earlier rounds found; nothing as long as the flow alone was right.
  std::optional<Time> duration(Id id) const;
  // Whether they found nothing of so many meetings from `first` on.
  bool is_alone(Id first, std::size_t meetings) const;
  // A flow of this round, its number. `used`: the duration that the walk takes for granted; or set_used later.
  std::size_t begin(Id id, Time start, const AloneFlow& flow, std::int32_t route, Time used);
  void set_used(std::size_t number, Time used) { flows_[number].used = used; }
  // One of its devices computes meanwhile. Stretches of several devices may overlap.
  void slow_down(std::size_t number, Time from, Time to) { flows_[number].beside.push_back({from, to}); }

  // The call that they are of; nothing where they hold each other back.
  std::optional<CallFlows> call_of(std::vector<CallFlows::Flow> flows) const;
  // All flows of a call at `base`, the first of them `first`. `call` must last as long as the round.
  void begin(Id first, Time base, const CallFlows& call);

  // Ends the round; true when its durations were right.
  bool settle();

 private:
  struct Flow {
    Id id;
    Time start, used;
    AloneFlow flow;
    std::int32_t route = -1;
    std::vector<Stretch> beside;
  };
  struct Call {
    Id first;
    Time base;
    const CallFlows* flows = nullptr;
  };
  // A flow, or all those of a call.
  struct Entry {
    Time start;
    Id id;
    std::size_t number = 0;
    bool is_call = false;
  };

  // What rounds found of a meeting.
  struct Known {
    Time duration{-1};      // for the next one; negative: none yet
    Time used{-1}, took{};  // in the last one that knew it
    double ratio = 1;       // of the last two errors
    void learn(Time now_used, Time now_took);
  };

  void know(Id id, Time took, Time used);
  Time alone(std::int32_t route, const AloneFlow& flow);
  bool is_background(LinkIndex link) const { return is_background_[static_cast<std::size_t>(link)]; }
  std::vector<Time> next_on_links(const std::vector<Entry>& entries) const;

  const FlowPlan& plan_;
  const std::int64_t beside_;
  std::vector<bool> is_background_;                           // by link: traffic of others uses it
  std::vector<Flow> flows_;                                   // of this round
  std::vector<Call> calls_;                                   // of this round
  std::vector<std::vector<Known>> known_;                     // by id
  std::map<std::pair<std::int32_t, AloneFlow>, Time> alone_;  // how long flows take, by route
  bool is_right_ = true;                                      // the last round
};

}  // namespace foretrain::sim
