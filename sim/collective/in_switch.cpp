// In the switch of one node (NVLink SHARP).  Ranks hand their buffers to the switch, which adds, or only collects, and
// hands out the result. all_reduce flows through in K pieces, up and down at once.
//   all_reduce t = (K+1) node(S/K);  reduce_scatter, all_gather t = node(S) + node(S/n)
// Source: NVIDIA/nccl src/transport/nvls.cc; Klenk et al. 2020 (in-network reductions for accelerators).
#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class InSwitch final : public Algorithm {
 public:
  std::string_view name() const override { return "in_switch"; }
  std::string_view card() const override { return "the node's switch adds and hands out (NVLS)"; }
  std::vector<Kind> kinds() const override { return {Kind::all_reduce, Kind::reduce_scatter, Kind::all_gather}; }
  std::string refusal(Kind, const Layout& layout) const override {
    return layout.nodes() == 1 ? "" : "a switch sees the ranks of its own node only";
  }

  Shape shape(const Request& r) const override {
    return r.kind == Kind::all_reduce ? Shape{r.pieces + 1, r.pieces, 1} : Shape{2, r.layout->ranks(), 1};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const int n = r.layout->ranks(), hub = r.layout->switch_of(0);
    for (int rank = 0; rank < n; ++rank) {
      switch (r.kind) {
        case Kind::all_reduce:
          if (index < r.pieces) {
            out.push_back({rank, hub, index, 1, 1, true});
          }
          if (index > 0) {
            out.push_back({hub, rank, index - 1, 1, 1, false});
          }
          break;
        case Kind::reduce_scatter:
          out.push_back(index == 0 ? Transfer{rank, hub, 0, n, 1, true} : Transfer{hub, rank, rank, 1, 1, false});
          break;
        default:
          out.push_back(index == 0 ? Transfer{rank, hub, rank, 1, 1, false} : Transfer{hub, rank, 0, n, 1, false});
      }
    }
  }

  int same_round(const Request& r, int index) const override {
    return r.kind == Kind::all_reduce && index > 0 && index < r.pieces ? 1 : index;
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    return r.kind == Kind::all_reduce ? (r.pieces + 1) * f.node_seconds(bytes / r.pieces)
                                      : f.node_seconds(bytes) + f.node_seconds(bytes / r.layout->ranks());
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_in_switch() {
  return std::make_unique<InSwitch>();
}

}  // namespace foretrain::sim::collective
