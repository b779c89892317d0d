#include "sim/collective/transfer_classes.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <span>

#include "base/error.h"

namespace foretrain::sim::collective {
namespace {

constexpr int kMostRefinements = 64;

// The finaliser of SplitMix64.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

std::size_t at(std::int32_t i) {
  return static_cast<std::size_t>(i);
}

// Gives equal keys equal numbers, in order of first appearance.
class Numbering {
 public:
  explicit Numbering(std::size_t expected) : slots_(std::bit_ceil(2 * expected + 2), Slot{0, -1}) {}
  std::int32_t of(std::uint64_t key) {
    std::size_t i = key & (slots_.size() - 1);
    while (slots_[i].number >= 0 && slots_[i].key != key) {
      i = (i + 1) & (slots_.size() - 1);
    }
    if (slots_[i].number < 0) {
      slots_[i] = {key, count_++};
      if (2 * at(count_) > slots_.size()) {
        grow();
        return count_ - 1;
      }
    }
    return slots_[i].number;
  }
  std::int32_t count() const { return count_; }

 private:
  struct Slot {
    std::uint64_t key;
    std::int32_t number;
  };
  void grow() {
    std::vector<Slot> old(2 * slots_.size(), Slot{0, -1});
    old.swap(slots_);
    for (const Slot& s : old) {
      std::size_t i = s.key & (slots_.size() - 1);
      while (s.number >= 0 && slots_[i].number >= 0) {
        i = (i + 1) & (slots_.size() - 1);
      }
      if (s.number >= 0) {
        slots_[i] = s;
      }
    }
  }
  std::vector<Slot> slots_;
  std::int32_t count_ = 0;
};

class Refinement {
 public:
  explicit Refinement(const RoutedTransfers& round) : round_(round) {
    for (const RoutedTransfer& t : round.transfers) {
      const std::uint64_t size = mixed(static_cast<std::uint64_t>(t.count)) + static_cast<std::uint64_t>(t.copies);
      transfers_.push_back(mixed(size) + static_cast<std::uint64_t>(t.latency.value));
    }
    for (const Bandwidth capacity : round.capacities) {
      links_.push_back(mixed(std::bit_cast<std::uint64_t>(capacity.value)));
    }
  }

  // False where colours still split in the end.
  bool refine() {
    std::int32_t before = 0;
    for (int i = 0; i < kMostRefinements; ++i) {
      pass();
      Numbering numbers(64);
      for (const std::uint64_t colour : transfers_) {
        numbers.of(colour);
      }
      if (numbers.count() == before) {
        return true;
      }
      before = numbers.count();
    }
    return false;
  }

  // Throws nothing; empty classes where the partition is not equitable.
  TransferClasses classes();

 private:
  std::span<const LinkUse> route(const RoutedTransfer& t) const {
    return {round_.route.data() + t.first_hop, at(t.hops)};
  }
  static std::uint64_t fraction(const LinkUse& use) {
    return (static_cast<std::uint64_t>(use.numerator) << 32) + static_cast<std::uint64_t>(use.denominator);
  }
  void pass() {
    sums_.assign(links_.size(), 0);
    for (std::size_t t = 0; t < transfers_.size(); ++t) {
      for (const LinkUse& use : route(round_.transfers[t])) {
        sums_[at(use.link)] += mixed(transfers_[t] ^ fraction(use));
      }
    }
    for (std::size_t l = 0; l < links_.size(); ++l) {
      links_[l] = mixed(links_[l] + sums_[l]);
    }
    for (std::size_t t = 0; t < transfers_.size(); ++t) {
      std::uint64_t sum = 0;
      for (const LinkUse& use : route(round_.transfers[t])) {
        sum += mixed(links_[at(use.link)] ^ fraction(use));
      }
      transfers_[t] = mixed(transfers_[t] + sum);
    }
  }
  bool same_links(const RoutedTransfer& a, const RoutedTransfer& b) const;
  void list_passengers();
  // What each class of transfers uses of a link, by class: (class, numerator, denominator), common terms added up.
  struct ClassUse {
    std::int32_t transfer_class;
    std::int64_t numerator;
    std::int32_t denominator;
    friend bool operator==(const ClassUse&, const ClassUse&) = default;
  };
  void uses_of(std::size_t link, std::vector<ClassUse>& out) const;
  static void merge_last(std::vector<ClassUse>& uses);

  const RoutedTransfers& round_;
  std::vector<std::uint64_t> transfers_, links_, sums_;  // colours
  std::vector<std::int32_t> class_of_, link_class_of_;
  std::vector<std::int32_t> first_passenger_, passengers_, passenger_hops_;  // by link: transfers, and their hops
};

void Refinement::list_passengers() {
  first_passenger_.assign(links_.size() + 1, 0);
  for (const LinkUse& use : round_.route) {
    ++first_passenger_[at(use.link) + 1];
  }
  std::partial_sum(first_passenger_.begin(), first_passenger_.end(), first_passenger_.begin());
  passengers_.resize(round_.route.size());
  passenger_hops_.resize(round_.route.size());
  std::vector<std::int32_t> next(first_passenger_.begin(), first_passenger_.end() - 1);
  for (std::size_t t = 0; t < transfers_.size(); ++t) {
    const RoutedTransfer& transfer = round_.transfers[t];
    for (std::int32_t hop = transfer.first_hop; hop < transfer.first_hop + transfer.hops; ++hop) {
      const std::size_t place = at(next[at(round_.route[at(hop)].link)]++);
      passengers_[place] = static_cast<std::int32_t>(t);
      passenger_hops_[place] = hop;
    }
  }
}

void Refinement::uses_of(std::size_t link, std::vector<ClassUse>& out) const {
  out.clear();
  for (std::int32_t i = first_passenger_[link]; i < first_passenger_[link + 1]; ++i) {
    const std::size_t t = at(passengers_[at(i)]);
    const LinkUse& use = round_.route[at(passenger_hops_[at(i)])];
    const std::int64_t numerator = use.numerator * round_.transfers[t].copies;
    out.push_back({class_of_[t], numerator, use.denominator});
    merge_last(out);
  }
  if (out.size() > 1) {
    std::sort(out.begin(), out.end(), [](const ClassUse& a, const ClassUse& b) {
      return std::pair{a.transfer_class, a.denominator} < std::pair{b.transfer_class, b.denominator};
    });
    std::vector<ClassUse> merged;
    for (const ClassUse& use : out) {
      merged.push_back(use);
      merge_last(merged);
    }
    out.swap(merged);
  }
}

void Refinement::merge_last(std::vector<ClassUse>& uses) {
  if (uses.size() < 2) {
    return;
  }
  const ClassUse last = uses.back();
  ClassUse& before = uses[uses.size() - 2];
  if (before.transfer_class == last.transfer_class && before.denominator == last.denominator) {
    before.numerator += last.numerator;
    uses.pop_back();
  }
}

bool Refinement::same_links(const RoutedTransfer& a, const RoutedTransfer& b) const {
  if (a.count != b.count || a.copies != b.copies || a.latency != b.latency || a.hops != b.hops) {
    return false;
  }
  const auto same = [this](const LinkUse& x, const LinkUse& y) {
    return link_class_of_[at(x.link)] == link_class_of_[at(y.link)] && x.numerator == y.numerator &&
           x.denominator == y.denominator;
  };
  const std::span<const LinkUse> x = route(a), y = route(b);
  return std::equal(x.begin(), x.end(), y.begin(), same) || std::is_permutation(x.begin(), x.end(), y.begin(), same);
}

TransferClasses Refinement::classes() {
  TransferClasses out;
  Numbering transfer_classes(64), link_classes(64);
  for (const std::uint64_t colour : transfers_) {
    class_of_.push_back(transfer_classes.of(colour));
  }
  for (const std::uint64_t colour : links_) {
    link_class_of_.push_back(link_classes.of(colour));
  }
  std::vector<std::int32_t> first_of(at(transfer_classes.count()), -1), link_first_of(at(link_classes.count()), -1);
  for (std::size_t t = 0; t < transfers_.size(); ++t) {
    const RoutedTransfer& transfer = round_.transfers[t];
    std::int32_t& first = first_of[at(class_of_[t])];
    if (first < 0) {
      first = static_cast<std::int32_t>(t);
      out.classes.push_back({transfer.count, transfer.latency, {}, 0});
    }
    if (!same_links(round_.transfers[at(first)], transfer)) {
      return {};
    }
    out.classes[at(class_of_[t])].members += transfer.copies;
  }
  list_passengers();
  std::vector<std::vector<ClassUse>> uses(link_first_of.size());
  std::vector<ClassUse> now;
  for (std::size_t l = 0; l < links_.size(); ++l) {
    const std::size_t c = at(link_class_of_[l]);
    std::int32_t& first = link_first_of[c];
    uses_of(l, now);
    if (first < 0) {
      first = static_cast<std::int32_t>(l);
      uses[c] = now;
      out.capacities.push_back(round_.capacities[l]);
    }
    if (uses[c] != now || out.capacities[c] != round_.capacities[l]) {
      return {};
    }
  }
  for (std::size_t c = 0; c < uses.size(); ++c) {
    for (const ClassUse& use : uses[c]) {
      CHECK(use.numerator <= INT32_MAX, "a link is used {} times", use.numerator);
      out.classes[at(use.transfer_class)].route.push_back(
          {static_cast<LinkIndex>(c), static_cast<std::int32_t>(use.numerator), use.denominator});
    }
  }
  return out;
}

}  // namespace

TransferClasses fold(const RoutedTransfers& round) {
  Refinement refinement(round);
  if (refinement.refine()) {
    TransferClasses classes = refinement.classes();
    if (!classes.classes.empty()) {
      return classes;
    }
  }
  return unfolded(round);
}

TransferClasses unfolded(const RoutedTransfers& round) {
  TransferClasses out;
  out.capacities = round.capacities;
  for (const RoutedTransfer& t : round.transfers) {
    TransferClasses::Class& c = out.classes.emplace_back();
    c.count = t.count;
    c.latency = t.latency;
    c.members = t.copies;
    for (std::int32_t hop = t.first_hop; hop < t.first_hop + t.hops; ++hop) {
      c.route.push_back(round.route[at(hop)]);
      CHECK(c.route.back().numerator * t.copies <= INT32_MAX, "a link is used {} times", t.copies);
      c.route.back().numerator *= static_cast<std::int32_t>(t.copies);
    }
  }
  return out;
}

}  // namespace foretrain::sim::collective
