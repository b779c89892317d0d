// Rates of flows that share links: max-min fair, exact, solved anew only where something changed.
//
// THE SYSTEM.  Link l has a capacity C_l. Flow f stands for m_f equal copies; each copy, at the rate x_f, uses w_lf x_f
// of link l (w a fraction: a flow sprayed over 4 links uses 1/4 of its rate on each), and may have a cap. Feasible:
//
//     sum over f of  m_f w_lf x_f  <=  C_l   for every link l,        0 <= x_f <= cap_f
//
// Max-min fair: no rate can grow without lowering one that is not larger. Progressive filling finds it: all rates grow
// together; the flows of a link that is full, and a flow at its cap, stop there; the others grow on. A cap is a link of
// the flow's own, so only links are spoken of below.
//
// WHOLE NUMBERS.  A rate is a whole number of 2^-16 bytes per second. With u_lf = m_f w_lf (made whole by multiplying
// C_l and u_l. by their common denominator, which changes no quotient) link l stops its flows at the level
//
//     L_l = the smallest L with  floor( (C_l - sum of u_lf x_f over x_f < L) / (sum of u_lf over x_f >= L) ) = L
//
// over its flows f, none (infinite) where no L is; and x_f = min over its links of L_l. Rates below L are used in full
// and rates at L count as stopped here, so a link looks at rates only, never at who stopped whom. The sums are exact
// integers: no result depends on their order, and m copies give the same bits as m flows.
//
// ONE SOLUTION.  Let x and y both satisfy the equations and differ, and let a = x_f < y_f be the smallest rate in which
// they do. Some link l of f has L_l(x) = a. Rates below a are the same in x and y, so the flows of l below a and those
// at or above a are the same, and a solves the equation of l under y too; the smallest solution is then <= a, so y_f <=
// a. Hence the rates are a function of the system alone: not of the order of arrival, nor of what was solved before.
// Progressive filling shows that there is one: before any flow of l stops, L_l = floor(C_l / sum u_l.); the links with
// the smallest L stop their flows together, and that raises or leaves the levels of all others.
// Against the solution over the reals the flows of a first bottleneck are slow by less than 2^-16 B/s each, and those
// of a later one may be fast by what that left to them.
//
// ONLY WHAT CHANGES.  A level depends on rates below it alone, so a change at level L reaches only levels >= L. solve()
// sweeps the levels upward over a queue that holds the links whose equation may no longer be satisfied, starting with
// those of flows that came and went. At level t: a link that used to stop its flows at t and will stop them higher lets
// go of them (they grow on, and their other links join the queue); then the links whose smallest solution is t stop at
// t what grows or was higher, and the links of what was lowered join the queue. A link that is never queued has the
// same rates as before and its equation still holds; at the end all equations hold, and by uniqueness this is the full
// solution.
//
// Cost of a solve: for each flow whose rate changes, its links; for each link they touch, a few passes over its flows,
// or constant time where the link is not nearly full or all its settled flows are slower. A flow costs 32 bytes per
// link on its route.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/units.h"

namespace foretrain::sim {

using LinkIndex = std::int32_t;
using FlowIndex = std::int32_t;
using Rate = std::int64_t;  // whole multiples of 1/kRateUnits bytes per second
__extension__ using Wide = __int128;

constexpr std::int64_t kRateUnits = 1 << 16;
constexpr Rate kUnlimited = INT64_MAX;
constexpr LinkIndex kNoLink = -1;

// To the nearest unit. Requires: from 1 B/s to 100 TB/s (else InputError).
Rate rate_of(Bandwidth bandwidth);

// A flow at the rate x uses x numerator/denominator of the link. A link may occur more than once; its uses add.
struct LinkUse {
  LinkIndex link = 0;
  std::int32_t numerator = 1;
  std::int32_t denominator = 1;
};

// One thread. Links are 0 to n-1, as given; the cap of a flow is one more link, from n on, while the flow lasts.
class FairShare {
 public:
  explicit FairShare(const std::vector<Bandwidth>& capacities);

  // Changes; nothing is computed before solve(). Each O(links of the route). Indices of removed flows are used again.
  // Requires: copies >= 1, uses positive, links known (CHECK).
  FlowIndex add(std::span<const LinkUse> route, std::int64_t copies = 1, Rate cap = kUnlimited);
  void remove(FlowIndex flow);
  void set_capacity(LinkIndex link, Bandwidth capacity);
  void set_cap(FlowIndex flow, Rate cap);  // requires: it has one

  void solve();

  // As of the last solve().
  Rate rate(FlowIndex flow) const { return rates_[index(flow)]; }  // kUnlimited: no link and no cap holds it
  LinkIndex bottleneck(FlowIndex flow) const { return flows_[index(flow)].bottleneck; }  // one whose level is the rate
  Rate level(LinkIndex link) const { return links_[index(link)].level; }                 // kUnlimited: stops nothing
  std::size_t links() const { return links_.size(); }                                    // and caps

  // What the last solve() changed: flows that are new or have another bottleneck, links that have another level; each
  // once. A flow named in neither way (its own, its bottleneck's) has its rate as before.
  const std::vector<FlowIndex>& moved() const { return moved_; }
  const std::vector<LinkIndex>& relevelled() const { return relevelled_; }

 private:
  // A flow's passage over a link stands in two lists: the link's (for its sums) and the flow's (to find its links).
  struct Passenger {
    std::int64_t use;  // m w, in 1/denominator of the link
    FlowIndex flow;
    std::int32_t leg;  // in legs_
  };
  struct Leg {
    std::int64_t use;
    LinkIndex link;
    std::int32_t seat;  // place among the link's passengers
  };
  struct Link {
    Wide capacity = 0;                    // x denominator
    Wide settled = 0;                     // sum of use x rate over the flows that do not grow
    std::int64_t total = 0, growing = 0;  // sums of use: of all flows; of those that grow
    std::int64_t denominator = 1;
    Rate level = kUnlimited;
    Rate highest = 0;    // no settled flow is faster
    Rate candidate = 0;  // the smallest solution of its equation, while is_current
    Rate key = -1;       // its place in the queue: nothing happens to it below; -1: not queued
    Rate level_before = kUnlimited;
    bool is_current = false, stops_now = false, is_pending = false, is_changed = false, is_noted = false;
    std::vector<Passenger> passengers;
  };
  struct Flow {
    std::int32_t first_leg = 0, legs = 0;
    LinkIndex bottleneck = kNoLink, bottleneck_before = kNoLink;
    LinkIndex cap = kNoLink;
    bool is_noted = false;
  };
  struct QueueNode {
    LinkIndex link;
    std::int32_t next;
  };
  struct QueueEntry {
    Rate key;
    std::int32_t node;
  };

  static std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }
  void use_denominator(Link& link, std::int64_t denominator);
  std::int32_t new_legs(std::size_t count);
  LinkIndex new_link(Rate capacity);
  void mark_changed(LinkIndex link);

  Rate stopping_level(Link& link, Rate from) const;
  bool is_growing(FlowIndex flow) const { return rates_[index(flow)] == kUnlimited; }
  void push(LinkIndex link, Rate key);
  void pop(Rate key);
  void examine(LinkIndex link, Rate now);
  void examine_pending(Rate now);
  void let_go(LinkIndex link);
  void stop(LinkIndex link, Rate now);
  void note(FlowIndex flow);
  void note_level(LinkIndex link, Rate level);
  void report();

  std::vector<Link> links_;
  std::size_t real_links_ = 0;
  std::vector<LinkIndex> free_caps_;
  std::vector<Flow> flows_;
  std::vector<Rate> rates_;  // by flow; kUnlimited while it grows
  std::vector<FlowIndex> free_flows_;
  std::vector<Leg> legs_;
  std::vector<std::vector<std::int32_t>> free_legs_;  // by count

  std::vector<LinkIndex> changed_;  // since the last solve
  std::vector<QueueEntry> queue_;   // heap by key; an entry is a list of links with that key
  std::vector<QueueNode> nodes_;
  std::int32_t last_list_ = -1;  // head of the list that was pushed to last, while it is in the queue
  Rate last_key_ = -1;
  std::vector<LinkIndex> popped_, pending_, letting_go_, stopping_;  // scratch of one level
  std::vector<FlowIndex> noted_flows_, moved_;
  std::vector<LinkIndex> noted_links_, relevelled_;
};

}  // namespace foretrain::sim
