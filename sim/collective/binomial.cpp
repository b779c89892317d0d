// Binomial tree.  broadcast: with d = 2^k falling from the largest below n, every rank that is a multiple of 2d hands
// all to the rank d further: ceil(log2 n) rounds. reduce: the same backwards, adding.
//   t = sum over d of hop(d) with S bytes
// Source: Thakur, Rabenseifner and Gropp 2005.
#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class Binomial final : public Algorithm {
 public:
  std::string_view name() const override { return "binomial"; }
  std::string_view card() const override { return "holders double every round; log2 n rounds of the whole buffer"; }
  std::vector<Kind> kinds() const override { return {Kind::broadcast, Kind::reduce}; }
  std::string refusal(Kind, const Layout&) const override { return ""; }

  Shape shape(const Request& r) const override {
    int rounds = 0;
    while ((1 << rounds) < r.layout->ranks()) {
      ++rounds;
    }
    return {rounds, 1, 1};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const bool reduce = r.kind == Kind::reduce;
    const int n = r.layout->ranks(), d = 1 << (reduce ? index : shape(r).steps - 1 - index);
    for (int rank = 0; rank + d < n; rank += 2 * d) {
      out.push_back(reduce ? Transfer{rank + d, rank, 0, 1, 1, true} : Transfer{rank, rank + d, 0, 1, 1, false});
    }
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    double sum = 0;
    for (int d = 1; d < r.layout->ranks(); d *= 2) {
      Reach reach;
      for (int rank = 0; rank + d < r.layout->ranks(); rank += 2 * d) {
        reach.add(*r.layout, rank, rank + d);
      }
      sum += reach.seconds(bytes, f);
    }
    return sum;
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_binomial() {
  return std::make_unique<Binomial>();
}

}  // namespace foretrain::sim::collective
