// Flows through a network in time: latency, then bytes at the max-min fair rate of every moment (sim/fair_share.h).
//
// A flow of S bytes that starts at t0 ends at the first picosecond T at which
//
//     sum over the intervals of constant rate from t0 + latency to T of  rate x length  >=  S
//
// Rates and instants are whole numbers, so the sums are exact: the end is rounded up once, whatever happened on the
// way, and depends on no order. At one unchanging rate it is t0 + latency + ceil(S / rate). All that happens at one
// instant (latencies that end, last bytes, starts, capacities that change) is applied together, and rates are set once.
//
// Cost. The flows that a link holds back have one rate, its level; the link keeps the bytes that each of them has had
// since it was first used, and a flow the count at which it is done. A change of level then touches the link, not its
// flows; only flows whose bottleneck changes are touched.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/units.h"
#include "sim/event_queue.h"
#include "sim/fair_share.h"
#include "sim/flow_instants.h"

namespace foretrain::sim {

struct FlowSpec {
  std::span<const LinkUse> route;
  Bytes bytes;              // of each copy, or
  Time latency;             // before the first byte; meanwhile it uses no link
  std::int64_t copies = 1;  // equal flows that this one stands for
  Rate cap = kUnlimited;    // of each copy
  std::int64_t parts = 1;   // bytes / parts: a chunk of a small buffer is less than a byte
  bool is_endless = false;  // of no bytes and no latency: it takes its share and is never under way to an end
};

// One thread. Time does not go back.
//
//   network.start(...);
//   while (!network.empty()) {
//     const Time now = network.next();
//     for (const FlowIndex flow : network.advance(now)) { ... network.start(..., now) ... }
//   }
class FlowNetwork {
 public:
  // Throws InputError for a bandwidth outside 1 B/s to 100 TB/s.
  explicit FlowNetwork(const std::vector<Bandwidth>& capacities);

  // The index is used again once the flow has ended. Requires: not before the last instant, and not after next().
  FlowIndex start(const FlowSpec& flow, Time now);
  void set_capacity(LinkIndex link, Bandwidth capacity, Time now);
  // Requires: flow under way, with a cap of its own so far.
  void set_cap(FlowIndex flow, Rate cap, Time now);

  bool empty() const { return under_way_ == 0; }

  // The next instant at which anything happens; flows need not end then: a latency may. Requires: not empty.
  // Throws InfeasibleError when it is beyond 106 days.
  Time next();

  // Moves to `now` and returns the flows that end then, ascending; valid until the next call. Requires: now <= next().
  const std::vector<FlowIndex>& advance(Time now);

  // Picoseconds at a rate that carry so many bytes.
  static Wide work_of(Bytes bytes);

  // Rates are those since the last instant. Requires: flow under way; 0 during its latency.
  Rate rate(FlowIndex flow);

 private:
  // Picoseconds times rate units: what a flow of one byte needs is kWorkOfByte.
  using Work = Wide;
  struct Transfer {
    Work due = 0;  // of its bottleneck's count; before it has one, its own bytes
    LinkIndex bottleneck = kNoLink;
    std::uint32_t generation = 0;
    FlowIndex share = -1;  // in share_, after the latency
    std::int64_t copies = 1;
    Rate cap = kUnlimited;
    std::vector<LinkUse> route;  // during the latency
  };
  struct Due {
    Work due;
    FlowIndex flow;
    std::uint32_t generation;  // of the transfer; another: void
  };
  struct Clock {
    Work count = 0;  // what each flow held back here has had, up to `since`
    Time since;
    Rate level = kUnlimited;
    bool is_touched = false;
    std::int32_t held = 0;
    std::vector<Due> heap;
  };

  static std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }
  void move_to(Time now);
  void join(FlowIndex flow, std::span<const LinkUse> route);
  void settle();
  void move_flow(FlowIndex share);
  Work count_now(const Clock& clock) const;
  bool is_void(const Due& due, LinkIndex link) const;
  void touch(LinkIndex link);
  void set_instant(LinkIndex link);
  void drop_void(Clock& clock, LinkIndex link);
  void end(FlowIndex flow);

  FairShare share_;
  bool has_changed_ = false;
  Time now_;
  std::size_t under_way_ = 0;
  EventQueue latencies_;
  FlowInstants instants_;      // by link: the next end among the flows it holds back
  std::vector<Clock> clocks_;  // by link
  std::vector<Transfer> transfers_;
  std::vector<FlowIndex> free_;
  std::vector<FlowIndex> transfer_of_;  // by flow of share_
  std::vector<LinkIndex> touched_, due_links_;
  std::vector<FlowIndex> ended_;
};

}  // namespace foretrain::sim
