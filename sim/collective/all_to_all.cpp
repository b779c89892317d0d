// All-to-all, two ways of sending to everybody.  direct: all n-1 messages at once, as NCCL's grouped sends;
// pairwise: n-1 rounds, in round s everybody sends to the rank s places further. Every rank's buffer has S bytes.
//   direct    t = max( node((p-1) S/n), fabric((n-p') S/n) ),  p most, p' least ranks on a node
//   pairwise  t = sum over s of hop(s) with S/n bytes
// Source: Thakur, Rabenseifner and Gropp 2005 (pairwise exchange).
#include <algorithm>

#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

void send_to(int n, int distance, std::vector<Transfer>& out) {
  for (int rank = 0; rank < n; ++rank) {
    const int other = (rank + distance) % n;
    out.push_back({rank, other, std::int64_t{rank} * n + other, 1, 1, false});
  }
}

class Direct final : public Algorithm {
 public:
  std::string_view name() const override { return "direct"; }
  std::string_view card() const override { return "every pair's message at once, as grouped sends"; }
  std::vector<Kind> kinds() const override { return {Kind::all_to_all}; }
  std::string refusal(Kind, const Layout&) const override { return ""; }
  Shape shape(const Request& r) const override {
    const int n = r.layout->ranks();
    return {1, std::int64_t{n} * n, n};
  }
  void step(const Request& r, int, std::vector<Transfer>& out) const override {
    for (int distance = 1; distance < r.layout->ranks(); ++distance) {
      send_to(r.layout->ranks(), distance, out);
    }
  }
  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const Layout& layout = *r.layout;
    const int n = layout.ranks();
    int least = n;
    for (int v = 0; v < layout.nodes(); ++v) {
      least = std::min(least, layout.on_node(v));
    }
    const double block = bytes / n;
    const double inside = layout.most_on_node() > 1 ? f.node_seconds((layout.most_on_node() - 1) * block) : 0;
    return std::max(inside, layout.nodes() > 1 ? f.fabric_seconds((n - least) * block) : 0);
  }
};

class Pairwise final : public Algorithm {
 public:
  std::string_view name() const override { return "pairwise"; }
  std::string_view card() const override { return "n-1 rounds, each with one partner to send to"; }
  std::vector<Kind> kinds() const override { return {Kind::all_to_all}; }
  std::string refusal(Kind, const Layout&) const override { return ""; }
  Shape shape(const Request& r) const override {
    const int n = r.layout->ranks();
    return {n - 1, std::int64_t{n} * n, n};
  }
  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    send_to(r.layout->ranks(), index + 1, out);
  }
  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const int n = r.layout->ranks(), most = r.layout->most_on_node();
    double sum = 0;
    for (int distance = 1; distance < n; ++distance) {
      const bool all_leave = std::min(distance, n - distance) >= most;  // a node's ranks are neighbours
      Reach reach;
      for (int rank = 0; rank < n && !((reach.node || all_leave) && reach.fabric); ++rank) {
        reach.add(*r.layout, rank, (rank + distance) % n);
      }
      sum += reach.seconds(bytes / n, f);
    }
    return sum;
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_direct() {
  return std::make_unique<Direct>();
}
std::unique_ptr<Algorithm> make_pairwise() {
  return std::make_unique<Pairwise>();
}

}  // namespace foretrain::sim::collective
