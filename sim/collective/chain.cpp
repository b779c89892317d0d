// Chain: a ring without its last hop.  broadcast: rank q hands piece j to q+1 in round q+j, K pieces: n-2+K rounds.
// reduce: the same towards rank 0, adding.
//   t = sum over rounds of the slower of node and fabric hop with S/K bytes, of the hops that have a piece then:
//   those round i with i-K < q <= i
#include <algorithm>
#include <vector>

#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class Chain final : public Algorithm {
 public:
  std::string_view name() const override { return "chain"; }
  std::string_view card() const override { return "pieces passed from rank to rank (NCCL's ring of rooted kinds)"; }
  std::vector<Kind> kinds() const override { return {Kind::broadcast, Kind::reduce}; }
  std::string refusal(Kind, const Layout&) const override { return ""; }
  Shape shape(const Request& r) const override { return {r.layout->ranks() - 2 + r.pieces, r.pieces, 1}; }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const int n = r.layout->ranks();
    for (int hop = std::max(0, index - r.pieces + 1); hop <= std::min(index, n - 2); ++hop) {
      const int from = hop_start(r, hop);
      out.push_back({from, r.kind == Kind::reduce ? from - 1 : from + 1, index - hop, 1, 1, r.kind == Kind::reduce});
    }
  }

  int same_round(const Request& r, int index) const override {
    const int full = r.layout->ranks() - 2;  // from here on every hop has a piece
    return index > full && index < r.pieces ? full : index;
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const int n = r.layout->ranks(), steps = shape(r).steps;
    // Hops inside nodes among the first q hops.
    std::vector<int> inside(static_cast<std::size_t>(n), 0);
    for (int hop = 0; hop < n - 1; ++hop) {
      const int from = hop_start(r, hop), to = r.kind == Kind::reduce ? from - 1 : from + 1;
      inside[static_cast<std::size_t>(hop) + 1] =
          inside[static_cast<std::size_t>(hop)] + (r.layout->node(from) == r.layout->node(to) ? 1 : 0);
    }
    double sum = 0;
    for (int i = 0; i < steps; ++i) {
      const int low = std::max(0, i - r.pieces + 1), high = std::min(i, n - 2) + 1;
      const int node_hops = inside[static_cast<std::size_t>(high)] - inside[static_cast<std::size_t>(low)];
      const Reach reach{node_hops > 0, node_hops < high - low};
      sum += reach.seconds(bytes / r.pieces, f);
    }
    return sum;
  }

 private:
  static int hop_start(const Request& r, int hop) { return r.kind == Kind::reduce ? r.layout->ranks() - 1 - hop : hop; }
};

}  // namespace

std::unique_ptr<Algorithm> make_chain() {
  return std::make_unique<Chain>();
}

}  // namespace foretrain::sim::collective
