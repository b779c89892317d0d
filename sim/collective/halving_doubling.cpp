// Recursive halving and doubling.  m = the largest power of two <= n. reduce_scatter: log2 m rounds, in which pairs at
// distance m/2, m/4, ... 1 exchange the half that the other keeps; all_gather is the same backwards; all_reduce does
// both. Ranks beyond m hand their buffer to a neighbour before and get the result after (all_reduce only).
//   t = sum over distances d of hop(d) with S d/m bytes, twice for all_reduce, plus two hops of S where n > m;
//   hop = the slower of node and fabric, if pairs at that distance share a node, cross nodes
// Source: Thakur, Rabenseifner and Gropp 2005.
#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class HalvingDoubling final : public Algorithm {
 public:
  std::string_view name() const override { return "halving_doubling"; }
  std::string_view card() const override { return "pairs at doubling distances; least bytes, 2 log2 n rounds"; }
  std::vector<Kind> kinds() const override { return {Kind::all_reduce, Kind::reduce_scatter, Kind::all_gather}; }
  std::string refusal(Kind kind, const Layout& layout) const override {
    return kind == Kind::all_reduce || power(layout.ranks()) == layout.ranks()
               ? ""
               : "it scatters and gathers over a power of two of ranks only";
  }

  Shape shape(const Request& r) const override {
    const int n = r.layout->ranks(), m = power(n);
    const int rounds = log2(m) * (r.kind == Kind::all_reduce ? 2 : 1);
    return {rounds + (n > m ? 2 : 0), m, 1};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const int n = r.layout->ranks(), m = power(n), extra = n - m, rounds = log2(m);
    const Shape s = shape(r);
    if (extra > 0 && (index == 0 || index == s.steps - 1)) {
      for (int i = 0; i < extra; ++i) {
        const int helper = 2 * i, guest = 2 * i + 1;
        out.push_back(index == 0 ? Transfer{guest, helper, 0, m, 1, true} : Transfer{helper, guest, 0, m, 1, false});
      }
      return;
    }
    const int round = extra > 0 ? index - 1 : index;
    const bool halving = r.kind == Kind::reduce_scatter || (r.kind == Kind::all_reduce && round < rounds);
    const int doubling_round = r.kind == Kind::all_reduce ? round - rounds : round;
    const int distance = halving ? m >> (round + 1) : 1 << doubling_round;
    for (int v = 0; v < m; ++v) {
      const int other = v ^ distance;
      // Halving: the other's part of what both hold. Doubling: all that v holds.
      const int first = (halving ? other : v) / distance * distance;
      out.push_back({real(v, extra), real(other, extra), first, distance, 1, halving});
    }
  }

  // Doubling goes over the same pairs as halving.
  int same_round(const Request& r, int index) const override {
    const int n = r.layout->ranks(), m = power(n), rounds = log2(m), first = n > m ? 1 : 0, round = index - first;
    const bool doubling = r.kind == Kind::all_reduce && round >= rounds && round < 2 * rounds;
    return doubling ? first + 2 * rounds - 1 - round : index;
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const Layout& layout = *r.layout;
    const int n = layout.ranks(), m = power(n), extra = n - m;
    double sum = 0;
    for (int distance = 1; distance < m; distance *= 2) {
      Reach reach;
      for (int v = 0; v < m; ++v) {
        reach.add(layout, real(v, extra), real(v ^ distance, extra));
      }
      sum += reach.seconds(bytes * distance / m, f);
    }
    Reach guests;
    for (int i = 0; i < extra; ++i) {
      guests.add(layout, 2 * i, 2 * i + 1);
    }
    return (r.kind == Kind::all_reduce ? 2 * sum : sum) + 2 * guests.seconds(bytes, f);
  }

 private:
  static int power(int n) {
    int m = 1;
    while (2 * m <= n) {
      m *= 2;
    }
    return m;
  }
  static int log2(int m) { return m == 1 ? 0 : 1 + log2(m / 2); }
  // The first 2 x extra ranks are pairs of a helper and its guest; helpers and the rest take part.
  static int real(int v, int extra) { return v < extra ? 2 * v : v + extra; }
};

}  // namespace

std::unique_ptr<Algorithm> make_halving_doubling() {
  return std::make_unique<HalvingDoubling>();
}

}  // namespace foretrain::sim::collective
