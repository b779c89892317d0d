// The sweep of FairShare: levels upward, each link as often as what it sees changes (fair_share.h).
#include <algorithm>

#include "base/error.h"
#include "sim/fair_share.h"

namespace foretrain::sim {
namespace {

// Cut off below kUnlimited; so high a level is no link's in the end.
Rate quotient(Wide room, std::int64_t use) {
  if (room <= INT64_MAX) {
    return std::min(static_cast<std::int64_t>(room) / use, kUnlimited - 1);
  }
  return static_cast<Rate>(std::min<Wide>(room / use, kUnlimited - 1));
}

}  // namespace

// The smallest solution of the link's equation; requires: none is below `from`. Growing flows count as infinitely fast.
Rate FairShare::stopping_level(Link& link, Rate from) const {
  // No L up to `highest` can be a solution where all flows could go one step faster than that needs.
  const Wide room = link.capacity - link.settled;
  if (link.growing == 0) {
    if (room >= link.total) {
      return kUnlimited;
    }
  } else if (room - (link.total - link.growing) >= static_cast<Wide>(link.highest + 1) * link.growing) {
    return quotient(room, link.growing);
  }
  // From below, each pass settles the flows under the level of the pass before; that never passes a solution.
  for (Rate level = from;;) {
    Wide left = link.capacity;
    std::int64_t stopped = 0;
    Rate highest = 0;
    for (const Passenger& p : link.passengers) {
      const Rate rate = rates_[index(p.flow)];
      if (rate < level) {
        left -= static_cast<Wide>(p.use) * rate;
      } else {
        stopped += p.use;
      }
      highest = std::max(highest, rate == kUnlimited ? 0 : rate);
    }
    link.highest = highest;
    if (stopped == 0) {
      return kUnlimited;
    }
    const Rate next = quotient(left, stopped);
    CHECK(left >= 0 && next >= level, "a link's level falls from {} to {}", level, next);
    if (next == level) {
      return level;
    }
    level = next;
  }
}

void FairShare::push(LinkIndex link, Rate key) {
  Link& l = links_[index(link)];
  if (l.key == key) {
    return;
  }
  l.key = key;
  const auto node = static_cast<std::int32_t>(nodes_.size());
  if (key == last_key_) {  // equal links have equal levels: one heap entry for all of them
    nodes_.push_back({link, nodes_[index(last_list_)].next});
    nodes_[index(last_list_)].next = node;
    return;
  }
  nodes_.push_back({link, -1});
  last_key_ = key;
  last_list_ = node;
  queue_.push_back({key, node});
  std::push_heap(queue_.begin(), queue_.end(), [](auto& a, auto& b) { return a.key > b.key; });
}

// All links with that key, which is the smallest.
void FairShare::pop(Rate key) {
  if (last_key_ == key) {
    last_key_ = -1;
  }
  while (!queue_.empty() && queue_.front().key == key) {
    for (std::int32_t node = queue_.front().node; node >= 0; node = nodes_[index(node)].next) {
      Link& link = links_[index(nodes_[index(node)].link)];
      if (link.key == key) {  // else it was pushed again elsewhere
        link.key = -1;
        popped_.push_back(nodes_[index(node)].link);
      }
    }
    std::pop_heap(queue_.begin(), queue_.end(), [](auto& a, auto& b) { return a.key > b.key; });
    queue_.pop_back();
  }
}

// What the link does at the level `now`, or from which level on it must be looked at again.
void FairShare::examine(LinkIndex link, Rate now) {
  Link& l = links_[index(link)];
  if (!l.is_current) {
    l.candidate = stopping_level(l, std::max<Rate>(now, 0));
    l.is_current = true;
  }
  if (l.candidate == now) {
    l.stops_now = true;
    stopping_.push_back(link);
  } else if (l.level == now) {
    letting_go_.push_back(link);
  } else if (l.candidate == l.level && l.growing == 0) {
    l.key = -1;
  } else {
    push(link, std::min(l.candidate, l.level));
  }
}

void FairShare::examine_pending(Rate now) {
  for (const LinkIndex link : pending_) {
    links_[index(link)].is_pending = false;
    if (!links_[index(link)].stops_now) {
      examine(link, now);
    }
  }
  pending_.clear();
}

// The flows that it stops grow on.
void FairShare::let_go(LinkIndex link) {
  const auto pend = [&](LinkIndex m) {
    links_[index(m)].is_current = false;
    if (!links_[index(m)].is_pending) {
      links_[index(m)].is_pending = true;
      pending_.push_back(m);
    }
  };
  for (const Passenger& p : links_[index(link)].passengers) {
    Flow& flow = flows_[index(p.flow)];
    if (flow.bottleneck != link) {
      continue;
    }
    note(p.flow);
    Rate& rate = rates_[index(p.flow)];
    for (std::int32_t i = flow.first_leg; i < flow.first_leg + flow.legs; ++i) {
      const Leg& leg = legs_[index(i)];
      Link& m = links_[index(leg.link)];
      m.settled -= static_cast<Wide>(leg.use) * rate;
      m.growing += leg.use;
      pend(leg.link);
    }
    rate = kUnlimited;
    flow.bottleneck = kNoLink;
  }
  note_level(link, kUnlimited);
  pend(link);
}

// No flow of the link is faster than `now`.
void FairShare::stop(LinkIndex link, Rate now) {
  for (const Passenger& p : links_[index(link)].passengers) {
    Rate& rate = rates_[index(p.flow)];
    if (rate <= now) {
      continue;
    }
    note(p.flow);
    Flow& flow = flows_[index(p.flow)];
    flow.bottleneck = link;
    const bool grew = rate == kUnlimited;
    const Rate less = grew ? 0 : rate - now;
    rate = now;
    for (std::int32_t i = flow.first_leg; i < flow.first_leg + flow.legs; ++i) {
      const Leg& leg = legs_[index(i)];
      Link& m = links_[index(leg.link)];
      m.is_current = false;
      if (grew) {  // m is in the queue, as all links of growing flows are
        m.growing -= leg.use;
        m.settled += static_cast<Wide>(leg.use) * now;
        m.highest = std::max(m.highest, now);
        continue;
      }
      m.settled -= static_cast<Wide>(leg.use) * less;
      if (!m.stops_now && m.key < 0 && m.level != kUnlimited) {
        push(leg.link, m.level);  // it may stop its flows higher now, not lower
      }
    }
  }
  note_level(link, now);
}

void FairShare::solve() {
  for (const LinkIndex link : changed_) {
    links_[index(link)].is_changed = false;
    examine(link, -1);
  }
  changed_.clear();
  while (!queue_.empty()) {
    const Rate now = queue_.front().key;
    pop(now);
    for (const LinkIndex link : popped_) {
      examine(link, now);
    }
    popped_.clear();
    while (!letting_go_.empty()) {
      for (const LinkIndex link : letting_go_) {
        let_go(link);
      }
      letting_go_.clear();
      examine_pending(now);
    }
    for (const LinkIndex link : stopping_) {
      stop(link, now);
    }
    for (const LinkIndex link : stopping_) {
      links_[index(link)].stops_now = false;
    }
    stopping_.clear();
  }
  nodes_.clear();
  last_key_ = -1;
  report();
}

void FairShare::note(FlowIndex flow) {
  Flow& f = flows_[index(flow)];
  if (!f.is_noted) {
    f.is_noted = true;
    f.bottleneck_before = f.bottleneck;
    noted_flows_.push_back(flow);
  }
}

void FairShare::note_level(LinkIndex link, Rate level) {
  Link& l = links_[index(link)];
  if (!l.is_noted) {
    l.is_noted = true;
    l.level_before = l.level;
    noted_links_.push_back(link);
  }
  l.level = level;
}

void FairShare::report() {
  moved_.clear();
  for (const FlowIndex flow : noted_flows_) {
    Flow& f = flows_[index(flow)];
    f.is_noted = false;
    if (f.bottleneck != f.bottleneck_before) {
      moved_.push_back(flow);
    }
  }
  noted_flows_.clear();
  relevelled_.clear();
  for (const LinkIndex link : noted_links_) {
    Link& l = links_[index(link)];
    l.is_noted = false;
    if (l.level != l.level_before) {
      relevelled_.push_back(link);
    }
  }
  noted_links_.clear();
}

}  // namespace foretrain::sim
