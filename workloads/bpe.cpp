#include "workloads/bpe.h"

#include <algorithm>
#include <queue>

namespace foretrain::workloads {

namespace {

constexpr std::int32_t kNone = -1;

// Symbols in a chain; a joined one stands at its left part's place, the right part's is gone.
struct Link {
  std::int32_t id = kNone;
  std::int64_t before = kNone, after = kNone;
};

struct Candidate {
  std::int64_t rank = 0, place = 0;
  std::int32_t left = kNone, right = kNone, joined = kNone;

  bool operator<(const Candidate& o) const { return rank != o.rank ? rank > o.rank : place > o.place; }
};

}  // namespace

bool Bpe::add_merge(Id left, Id right, Id joined, std::int64_t rank) {
  return merges_.emplace(key(left, right), Merge{rank, joined}).second;
}

void Bpe::merge(const std::vector<Id>& symbols, std::vector<Id>& out) const {
  std::vector<Link> chain(symbols.size());
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    chain[i] = {symbols[i], static_cast<std::int64_t>(i) - 1,
                i + 1 < symbols.size() ? static_cast<std::int64_t>(i) + 1 : kNone};
  }
  std::priority_queue<Candidate> queue;
  const auto consider = [&](std::int64_t place) {
    if (place == kNone || chain[static_cast<std::size_t>(place)].after == kNone) {
      return;
    }
    const Id left = chain[static_cast<std::size_t>(place)].id;
    const Id right = chain[static_cast<std::size_t>(chain[static_cast<std::size_t>(place)].after)].id;
    if (const auto found = merges_.find(key(left, right)); found != merges_.end()) {
      queue.push({found->second.rank, place, left, right, found->second.joined});
    }
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    consider(static_cast<std::int64_t>(i));
  }
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Link& left = chain[static_cast<std::size_t>(best.place)];
    if (left.id != best.left || left.after == kNone || chain[static_cast<std::size_t>(left.after)].id != best.right) {
      continue;  // one of the two has been joined meanwhile
    }
    Link& right = chain[static_cast<std::size_t>(left.after)];
    left.id = best.joined;
    left.after = right.after;
    right = {};
    if (left.after != kNone) {
      chain[static_cast<std::size_t>(left.after)].before = best.place;
    }
    consider(left.before);
    consider(best.place);
  }
  for (std::int64_t at = symbols.empty() ? kNone : 0; at != kNone; at = chain[static_cast<std::size_t>(at)].after) {
    out.push_back(chain[static_cast<std::size_t>(at)].id);
  }
}

}  // namespace foretrain::workloads
