// A server.  gather: everybody sends rank 0 its block at once; scatter: rank 0 sends everybody theirs. The server's two
// ports carry all of it.
//   t = max( node((p0-1) S/n), fabric((n-p0) S/n) ),  p0 ranks on the server's node
#include <algorithm>

#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class Server final : public Algorithm {
 public:
  std::string_view name() const override { return "server"; }
  std::string_view card() const override { return "everybody to or from rank 0 at once; its ports carry all of it"; }
  std::vector<Kind> kinds() const override { return {Kind::gather, Kind::scatter}; }
  std::string refusal(Kind, const Layout&) const override { return ""; }
  Shape shape(const Request& r) const override { return {1, r.layout->ranks(), 1}; }

  void step(const Request& r, int, std::vector<Transfer>& out) const override {
    for (int rank = 1; rank < r.layout->ranks(); ++rank) {
      out.push_back(r.kind == Kind::gather ? Transfer{rank, 0, rank, 1, 1, false}
                                           : Transfer{0, rank, rank, 1, 1, false});
    }
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const int n = r.layout->ranks(), here = r.layout->on_node(0);
    return std::max(here > 1 ? f.node_seconds((here - 1) * bytes / n) : 0,
                    here < n ? f.fabric_seconds((n - here) * bytes / n) : 0);
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_server() {
  return std::make_unique<Server>();
}

}  // namespace foretrain::sim::collective
