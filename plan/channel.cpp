#include "plan/channel.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace foretrain::plan {

namespace {

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// splitmix64.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

}  // namespace

std::int64_t ChannelClocks::take(int worker) {
  drop(worker);
  return version_++ - has_[at(worker)];
}

void ChannelClocks::drop(int worker) {
  CHECK(!waits_[at(worker)], "worker {} sends twice without a release", worker);
  ++clock_[at(worker)];
  waits_[at(worker)] = !is_left_out(worker);
}

std::vector<int> ChannelClocks::release(std::int64_t staleness, const Meets& all_meet) {
  std::int64_t slowest = std::numeric_limits<std::int64_t>::max();
  for (int w = 0; w < workers(); ++w) {
    slowest = is_left_out(w) ? slowest : std::min(slowest, clock(w));
  }
  std::vector<int> released;
  for (int w = 0; w < workers(); ++w) {
    const std::int64_t bound = staleness < 0 ? clock_[at(w)] : slowest + staleness;
    const bool meets = all_meet && all_meet(clock_[at(w)]);
    if (waits_[at(w)] && !is_left_out(w) && clock_[at(w)] <= (meets ? slowest : bound)) {
      released.push_back(w);
      waits_[at(w)] = false;
      has_[at(w)] = version_;
    }
  }
  return released;
}

int ChannelClocks::overdue(std::int64_t step) const {
  int worker = 0;
  while (worker < workers() && (!is_left_out(worker) || clock(worker) > step)) {
    ++worker;
  }
  return worker < workers() ? worker : -1;
}

int worker_in_turn(int workers, std::int64_t step, std::int64_t nth) {
  std::vector<int> order(at(workers));
  std::iota(order.begin(), order.end(), 0);
  std::uint64_t state = mixed(static_cast<std::uint64_t>(step));
  for (std::size_t i = order.size(); i > 1; --i) {
    state = mixed(state);
    std::swap(order[i - 1], order[state % i]);
  }
  return order[at(nth)];
}

StalenessCount::StalenessCount(const PlanGraph& graph, std::int64_t first_step, Meets all_meet)
    : graph_(graph), first_step_(first_step), all_meet_(std::move(all_meet)) {
  for (std::size_t r = 0; r < graph.roles.size(); ++r) {
    const Role& role = graph.roles[r];
    for (ProgramCursor c(role, static_cast<int>(r), role.program.body, first_body_instance(role.program)); c;
         c.next()) {
      const auto* channel = std::get_if<Channel>(&c.op().work);
      if (channel != nullptr && channel->step == ChannelStep::release) {
        channels_[{c.id().role, c.id().instance}] = channel;
      }
    }
  }
}

void StalenessCount::span(const Span& s) {
  if (s.sender == -1) {
    return;
  }
  const Channel& release = *channels_.at({s.op.role, s.op.instance});
  const int workers = group_size(graph_.mesh, graph_.groups[at(release.group)]) - 1;
  ChannelClocks& clocks = clocks_.try_emplace(s.rank, workers, first_step_).first->second;
  const int worker = is_update(s.sender) ? s.sender : (-2 - s.sender) / 2;
  if (is_update(s.sender)) {
    ++updates_[clocks.take(worker)];
  } else if (s.sender == dropped(worker)) {
    clocks.drop(worker);
  } else {
    clocks.leave_out(worker);
    clocks.pass_over(worker);
  }
  clocks.release(release.staleness, all_meet_);
}

}  // namespace foretrain::plan
