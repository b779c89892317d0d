#include "sim/fair_share.h"

#include <cmath>
#include <numeric>

#include "base/error.h"

namespace foretrain::sim {
namespace {

std::int64_t product(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) {
    fail_overflow();
  }
  return result;
}

}  // namespace

Rate rate_of(Bandwidth bandwidth) {
  constexpr double kLowest = 1, kHighest = 1e14;
  if (!(bandwidth.value >= kLowest && bandwidth.value <= kHighest)) {
    throw InputError(fmt::format("a bandwidth of {} B/s: flows need 1 B/s to 100 TB/s", bandwidth.value));
  }
  return std::llround(bandwidth.value * static_cast<double>(kRateUnits));
}

FairShare::FairShare(const std::vector<Bandwidth>& capacities) {
  for (const Bandwidth capacity : capacities) {
    new_link(rate_of(capacity));
  }
  real_links_ = links_.size();
}

LinkIndex FairShare::new_link(Rate capacity) {
  links_.emplace_back().capacity = capacity;
  return static_cast<LinkIndex>(links_.size() - 1);
}

void FairShare::mark_changed(LinkIndex link) {
  links_[index(link)].is_current = false;
  if (!links_[index(link)].is_changed) {
    links_[index(link)].is_changed = true;
    changed_.push_back(link);
  }
}

// Makes `denominator` divide the link's own, and scales what stands in it.
void FairShare::use_denominator(Link& link, std::int64_t denominator) {
  const std::int64_t factor = denominator / std::gcd(denominator, link.denominator);
  if (factor == 1) {
    return;
  }
  link.denominator = product(link.denominator, factor);
  CHECK(link.denominator < std::int64_t{1} << 40, "uses of a link with the common denominator {}", link.denominator);
  link.capacity *= factor;
  link.settled *= factor;
  link.total = product(link.total, factor);
  link.growing *= factor;
  for (Passenger& p : link.passengers) {
    p.use *= factor;
    legs_[index(p.leg)].use = p.use;
  }
}

std::int32_t FairShare::new_legs(std::size_t count) {
  if (count < free_legs_.size() && !free_legs_[count].empty()) {
    const std::int32_t first = free_legs_[count].back();
    free_legs_[count].pop_back();
    return first;
  }
  const std::size_t first = legs_.size();
  CHECK(first + count < std::size_t{INT32_MAX}, "the routes of all flows have more than {} links", INT32_MAX);
  legs_.resize(first + count);
  return static_cast<std::int32_t>(first);
}

FlowIndex FairShare::add(std::span<const LinkUse> route, std::int64_t copies, Rate cap) {
  CHECK(copies >= 1 && cap >= 1, "a flow of {} copies, cap {}", copies, cap);
  if (free_flows_.empty()) {
    free_flows_.push_back(static_cast<FlowIndex>(flows_.size()));
    flows_.emplace_back();
    rates_.emplace_back();
  }
  const FlowIndex flow = free_flows_.back();
  free_flows_.pop_back();
  rates_[index(flow)] = kUnlimited;
  Flow& f = flows_[index(flow)];
  f = {};
  const std::size_t legs = route.size() + (cap != kUnlimited ? 1 : 0);
  f.first_leg = new_legs(legs);
  std::int32_t leg = f.first_leg;
  const auto pass = [&](LinkIndex l, std::int64_t numerator, std::int64_t denominator, std::int64_t times) {
    Link& link = links_[index(l)];
    const std::int64_t common = std::gcd(numerator, denominator);
    use_denominator(link, denominator / common);
    const std::int64_t use = product(product(times, numerator / common), link.denominator / (denominator / common));
    legs_[index(leg)] = {use, l, static_cast<std::int32_t>(link.passengers.size())};
    link.passengers.push_back({use, flow, leg++});
    if (__builtin_add_overflow(link.total, use, &link.total)) {
      fail_overflow();
    }
    link.growing += use;
    mark_changed(l);
  };
  for (const LinkUse& use : route) {
    CHECK(use.link >= 0 && index(use.link) < real_links_ && use.numerator > 0 && use.denominator > 0,
          "a flow uses {}/{} of link {} of {}", use.numerator, use.denominator, use.link, real_links_);
    pass(use.link, use.numerator, use.denominator, copies);
  }
  if (cap != kUnlimited) {
    if (free_caps_.empty()) {
      free_caps_.push_back(new_link(cap));
    }
    f.cap = free_caps_.back();
    free_caps_.pop_back();
    links_[index(f.cap)].capacity = cap;
    pass(f.cap, 1, 1, 1);
  }
  f.legs = static_cast<std::int32_t>(legs);
  return flow;
}

void FairShare::remove(FlowIndex flow) {
  Flow& f = flows_[index(flow)];
  const Rate rate = rates_[index(flow)];
  for (std::int32_t i = f.first_leg; i < f.first_leg + f.legs; ++i) {
    const Leg leg = legs_[index(i)];
    Link& link = links_[index(leg.link)];
    link.total -= leg.use;
    if (rate == kUnlimited) {
      link.growing -= leg.use;
    } else {
      link.settled -= static_cast<Wide>(leg.use) * rate;
    }
    const Passenger last = link.passengers.back();
    link.passengers.pop_back();
    if (last.leg != i) {
      link.passengers[index(leg.seat)] = last;
      legs_[index(last.leg)].seat = leg.seat;
    }
    mark_changed(leg.link);
  }
  if (f.cap != kNoLink) {
    free_caps_.push_back(f.cap);
  }
  const auto legs = index(f.legs);
  if (legs >= free_legs_.size()) {
    free_legs_.resize(legs + 1);
  }
  free_legs_[legs].push_back(f.first_leg);
  f = {};
  free_flows_.push_back(flow);
}

void FairShare::set_cap(FlowIndex flow, Rate cap) {
  const LinkIndex link = flows_[index(flow)].cap;
  CHECK(cap >= 1 && link != kNoLink, "a cap of {} for flow {}, which has none", cap, flow);
  links_[index(link)].capacity = cap;
  mark_changed(link);
}

void FairShare::set_capacity(LinkIndex link, Bandwidth capacity) {
  CHECK(link >= 0 && index(link) < real_links_, "capacity of link {} of {}", link, real_links_);
  links_[index(link)].capacity = static_cast<Wide>(rate_of(capacity)) * links_[index(link)].denominator;
  mark_changed(link);
}

}  // namespace foretrain::sim
