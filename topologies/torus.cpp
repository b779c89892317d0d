// A torus with dimension-order routing: the coordinates are corrected one after the other, each the shorter way round.
// Router r has the coordinate (r / (size of the dimensions before)) mod k in a dimension of k; port p hangs on router p
// / ports. Where both ways are equally long (k even, k / 2 steps), sprayed: half of the flow each way (shares of 2);
// hashed: the hash decides, one bit per dimension. Two routers in a dimension of 2 are joined by two links, one for
// each way round. Links: adapters (up 2 p, down 2 p + 1), then (router d + dimension) 2 + way, way 0 towards higher
// coordinates, over the d dimensions of more than one router.
#include <algorithm>

#include "base/error.h"
#include "topologies/interconnect.h"

namespace foretrain::topologies {

namespace {

class TorusNetwork : public Interconnect {
 public:
  TorusNetwork(const Torus& t, const Ports& ports) : ports_(ports), per_router_(t.ports) {
    for (const int size : t.dims) {
      if (size > 1) {
        dims_.push_back({size, routers_});
      }
      routers_ *= size;
    }
    if (routers_ * per_router_ < ports.count) {
      throw InputError(fmt::format("a torus of {} routers with {} adapters each joins {}; {} are asked for", routers_,
                                   per_router_, routers_ * per_router_, ports.count));
    }
    const Bandwidth rate = t.bandwidth.value > 0 ? t.bandwidth : ports.bandwidth;
    classes_ = {{"adapter up", ports.bandwidth, ports.latency, ports.cables},
                {"adapter down", ports.bandwidth, Time{}, ports.cables},
                {"torus", rate, ports.switch_latency}};
  }

  std::int64_t link_count() const override { return 2 * ports_.count + routers_ * 2 * dimensions(); }
  const std::vector<LinkClass>& classes() const override { return classes_; }
  int link_class(std::int64_t link) const override { return link < 2 * ports_.count ? static_cast<int>(link % 2) : 2; }

  LinkEnds ends(std::int64_t link) const override {
    if (link < 2 * ports_.count) {
      const std::int64_t port = link / 2, router = ports_.count + port / per_router_;
      return link % 2 == 0 ? LinkEnds{port, router} : LinkEnds{router, port};
    }
    const std::int64_t i = (link - 2 * ports_.count) / 2, router = i / dimensions();
    const Dimension& d = dims_[static_cast<std::size_t>(i % dimensions())];
    return {ports_.count + router, ports_.count + step(router, d, link % 2 == 0)};
  }

  std::int64_t vertex_count() const override { return ports_.count + routers_; }
  std::string vertex_name(std::int64_t v) const override {
    if (v < ports_.count) {
      return fmt::format("port {}", v);
    }
    std::string text = "router ";
    for (const Dimension& d : dims_) {
      text += fmt::format("{}{}", text.back() == ' ' ? "" : ",", coordinate(v - ports_.count, d));
    }
    return dims_.empty() ? "router" : text;
  }

  void route(std::int64_t from, std::int64_t to, std::uint64_t hash, Route& out) const override {
    const std::int64_t b = to / per_router_;
    std::int64_t at = from / per_router_, steps = 0;
    if (ports_.routing == Routing::sprayed) {
      for (const Dimension& d : dims_) {
        out.whole = 2 * distance(at, b, d) == d.size ? 2 : out.whole;
      }
    }
    push(out, 2 * from, out.whole);
    for (const Dimension& d : dims_) {
      const std::int64_t forward = distance(at, b, d);
      const bool tie = 2 * forward == d.size;
      bool up = 2 * forward < d.size;
      if (tie && out.whole == 2) {
        go(out, at, d, forward, false, 1);
        up = true;
      } else if (tie) {
        up = (hash & 1) == 0;
        hash >>= 1;
      }
      const std::int64_t count = up ? forward : d.size - forward;
      steps += count;
      at = go(out, at, d, count, up, tie && out.whole == 2 ? 1 : out.whole);
    }
    push(out, 2 * to + 1, out.whole);
    out.latency += {ports_.latency.value + steps * ports_.switch_latency.value};
  }

  // Across the longest dimension, which both halves meet twice.
  Bandwidth bisection() const override {
    const double ports = static_cast<double>(ports_.count / 2) * ports_.bandwidth.value;
    std::int64_t longest = 1;
    for (const Dimension& d : dims_) {
      longest = std::max(longest, d.size);
    }
    return {longest > 1 ? std::min(ports, 2 * static_cast<double>(routers_ / longest) * classes_[2].capacity.value)
                        : ports};
  }

  std::string shape() const override {
    std::string text;
    for (const Dimension& d : dims_) {
      text += fmt::format("{}{}", text.empty() ? "" : " x ", d.size);
    }
    return text.empty() ? "one router" : text + " routers";
  }

 private:
  struct Dimension {
    std::int64_t size, stride;
  };

  std::int64_t dimensions() const { return static_cast<std::int64_t>(dims_.size()); }
  static std::int64_t coordinate(std::int64_t router, const Dimension& d) { return router / d.stride % d.size; }
  // Steps towards higher coordinates.
  static std::int64_t distance(std::int64_t from, std::int64_t to, const Dimension& d) {
    return (coordinate(to, d) - coordinate(from, d) + d.size) % d.size;
  }
  static std::int64_t step(std::int64_t router, const Dimension& d, bool up) {
    const std::int64_t here = coordinate(router, d);
    return router + ((here + (up ? 1 : d.size - 1)) % d.size - here) * d.stride;
  }
  std::int64_t go(Route& out, std::int64_t router, const Dimension& d, std::int64_t count, bool up,
                  std::int32_t share) const {
    const std::int64_t dimension = &d - dims_.data();
    for (; count > 0; --count) {
      push(out, 2 * ports_.count + (router * dimensions() + dimension) * 2 + (up ? 0 : 1), share);
      router = step(router, d, up);
    }
    return router;
  }
  static void push(Route& out, std::int64_t link, std::int32_t share) {
    out.hops.push_back({static_cast<LinkId>(link), share});
  }

  Ports ports_;
  std::int64_t per_router_, routers_ = 1;
  std::vector<Dimension> dims_;  // of more than one router
  std::vector<LinkClass> classes_;
};

}  // namespace

std::unique_ptr<Interconnect> make_torus(const Torus& torus, const Ports& ports) {
  return std::make_unique<TorusNetwork>(torus, ports);
}

}  // namespace foretrain::topologies
