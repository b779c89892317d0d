#include "sim/cache.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "plan/cursor.h"

namespace foretrain::sim {
namespace {

// When each byte of an arena was last touched; time is bytes of traffic. Neighbouring bytes of one age are one range.
class Ages {
 public:
  // Bytes of [begin, end) touched since `since`; all are touched at `now`.
  std::int64_t touch(std::int64_t begin, std::int64_t end, std::int64_t since, std::int64_t now) {
    split(begin);
    split(end);
    std::int64_t recent = 0;
    auto it = ranges_.lower_bound(begin);
    while (it != ranges_.end() && it->first < end) {
      if (it->second.touched >= since) {
        recent += it->second.end - it->first;
      }
      it = ranges_.erase(it);
    }
    ranges_[begin] = {end, now};
    return recent;
  }

 private:
  struct Range {
    std::int64_t end = 0, touched = 0;
  };
  void split(std::int64_t at) {
    const auto after = ranges_.lower_bound(at);
    if (after == ranges_.begin()) {
      return;
    }
    Range& before = std::prev(after)->second;
    if (before.end > at) {
      ranges_[at] = before;
      before.end = at;
    }
  }

  std::map<std::int64_t, Range> ranges_;  // by begin; disjoint
};

struct Span {
  std::int64_t begin = 0, end = 0;
  friend auto operator<=>(const Span&, const Span&) = default;
};

}  // namespace

std::vector<std::vector<double>> cached_parts(const plan::PlanGraph& graph, int role_index, Bytes capacity) {
  const plan::Role& role = graph.roles[static_cast<std::size_t>(role_index)];
  const plan::Rank rank = plan::first_rank(graph.mesh, role.ranks);
  struct Sum {
    double cached = 0, touched = 0;
  };
  std::vector<std::vector<Sum>> sums;
  for (const plan::Block& block : role.blocks) {
    sums.emplace_back(block.ops.size());
  }
  Ages ages;
  std::int64_t now = 0;
  std::vector<Span> spans;
  // The first step finds memory as no later one does; the second counts.
  for (const bool counts : {false, true}) {
    for (plan::ProgramCursor c(role, role_index, role.program.body, plan::first_body_instance(role.program)); c;
         c.next()) {
      spans.clear();
      for (const auto* operands : {&c.op().reads, &c.op().writes}) {
        for (const plan::Operand& o : *operands) {
          const std::int64_t begin = plan::operand_offset(graph, role, o, c.binding(), rank);
          const Dtype dtype = role.buffers[static_cast<std::size_t>(o.buffer)].dtype;
          spans.push_back({begin, begin + size_bytes(dtype, o.elements)});
        }
      }
      std::sort(spans.begin(), spans.end());
      spans.erase(std::unique(spans.begin(), spans.end()), spans.end());
      std::int64_t touched = 0, cached = 0;
      for (const Span& s : spans) {
        touched += s.end - s.begin;
      }
      for (const Span& s : spans) {
        if (s.begin < s.end) {
          cached += ages.touch(s.begin, s.end, now - capacity.value, now + touched);
        }
      }
      now += touched;
      if (counts) {
        Sum& sum = sums[static_cast<std::size_t>(c.block())][static_cast<std::size_t>(c.op_in_block())];
        sum.cached += static_cast<double>(std::min(cached, capacity.value));
        sum.touched += static_cast<double>(touched);
      }
    }
  }
  std::vector<std::vector<double>> parts;
  for (const std::vector<Sum>& block : sums) {
    std::vector<double>& of_block = parts.emplace_back();
    for (const Sum& sum : block) {
      of_block.push_back(sum.touched > 0 ? sum.cached / sum.touched : 1.0);
    }
  }
  return parts;
}

}  // namespace foretrain::sim
