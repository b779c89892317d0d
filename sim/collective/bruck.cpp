// Bruck, the shape of NCCL's PAT (parallel aggregated trees).  all_gather: ceil(log2 n) rounds; with d = 1, 2, 4, ...
// rank r hands its min(d, n-d) blocks to rank r-d. reduce_scatter: the same backwards, adding.
//   t = sum over d of hop(d) with S min(d, n-d) / n bytes
// Source: Bruck et al. 1997; NCCL 2.23 release notes (PAT).
#include <algorithm>

#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class Bruck final : public Algorithm {
 public:
  std::string_view name() const override { return "bruck"; }
  std::string_view card() const override { return "blocks to doubling distances; log2 n rounds for any n (as PAT)"; }
  std::vector<Kind> kinds() const override { return {Kind::reduce_scatter, Kind::all_gather}; }
  std::string refusal(Kind, const Layout&) const override { return ""; }

  Shape shape(const Request& r) const override {
    int rounds = 0;
    for (int d = 1; d < r.layout->ranks(); d *= 2) {
      ++rounds;
    }
    return {rounds, r.layout->ranks(), 1};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const int n = r.layout->ranks();
    const bool gather = r.kind == Kind::all_gather;
    const int d = 1 << (gather ? index : shape(r).steps - 1 - index);
    for (int rank = 0; rank < n; ++rank) {
      const int other = (rank + n - d) % n;
      out.push_back(gather ? Transfer{rank, other, rank, std::min(d, n - d), 1, false}
                           : Transfer{other, rank, rank, std::min(d, n - d), 1, true});
    }
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const Layout& layout = *r.layout;
    const int n = layout.ranks();
    double sum = 0;
    for (int d = 1; d < n; d *= 2) {
      Reach reach;
      for (int rank = 0; rank < n; ++rank) {
        reach.add(layout, rank, (rank + n - d) % n);
      }
      sum += reach.seconds(bytes * std::min(d, n - d) / n, f);
    }
    return sum;
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_bruck() {
  return std::make_unique<Bruck>();
}

}  // namespace foretrain::sim::collective
