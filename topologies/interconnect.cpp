// Several sites around equal fabrics, and the choice among the kinds.
//   links: those of site 0, of site 1, ..., then long links, site (sites - 1) + index of the other site
//   vertices: the ports of all sites, then the switches of site 0, of site 1, ...
#include "topologies/interconnect.h"

#include <algorithm>

#include "base/error.h"

namespace foretrain::topologies {

void Interconnect::leave(std::int64_t, std::uint64_t, Route&) const {
  CHECK(false, "this fabric has no gateway");
}
void Interconnect::enter(std::int64_t, std::uint64_t, Route&) const {
  CHECK(false, "this fabric has no gateway");
}
std::int64_t Interconnect::gateway() const {
  CHECK(false, "this fabric has no gateway");
  return 0;
}
bool Interconnect::non_blocking() const {
  return false;
}
bool Interconnect::same_rail(std::int64_t, std::int64_t) const {
  return true;
}

namespace {

class JoinedSites : public Interconnect {
 public:
  JoinedSites(std::unique_ptr<Interconnect> site, const Sites& sites, const Ports& ports)
      : site_(std::move(site)), sites_(sites), ports_(ports), per_site_(ports.count / sites.count) {
    classes_ = site_->classes();
    classes_.push_back({"long link", sites.bandwidth, sites.latency});
  }

  std::int64_t link_count() const override { return first_long() + sites_.count * (sites_.count - 1); }
  const std::vector<LinkClass>& classes() const override { return classes_; }
  int link_class(std::int64_t link) const override {
    return link < first_long() ? site_->link_class(link % site_->link_count()) : static_cast<int>(classes_.size()) - 1;
  }
  LinkEnds ends(std::int64_t link) const override {
    if (link >= first_long()) {
      const std::int64_t i = link - first_long(), from = i / (sites_.count - 1), other = i % (sites_.count - 1);
      return {vertex(from, site_->gateway()), vertex(other + (other >= from ? 1 : 0), site_->gateway())};
    }
    const LinkEnds e = site_->ends(link % site_->link_count());
    const std::int64_t site = link / site_->link_count();
    return {vertex(site, e.from), vertex(site, e.to)};
  }
  std::int64_t vertex_count() const override { return ports_.count + sites_.count * switches(); }
  std::string vertex_name(std::int64_t v) const override {
    const std::int64_t i = v - ports_.count;
    return i < 0 ? fmt::format("port {}", v)
                 : fmt::format("site {} {}", i / switches(), site_->vertex_name(per_site_ + i % switches()));
  }

  void route(std::int64_t from, std::int64_t to, std::uint64_t hash, Route& out) const override {
    const std::int64_t a = from / per_site_, b = to / per_site_;
    if (a == b) {
      moved(a, out, [&] { site_->route(from % per_site_, to % per_site_, hash, out); });
      return;
    }
    moved(a, out, [&] { site_->leave(from % per_site_, hash, out); });
    const std::int64_t link = first_long() + a * (sites_.count - 1) + (b < a ? b : b - 1);
    out.hops.push_back({static_cast<LinkId>(link), 1});
    out.latency += sites_.latency;
    moved(b, out, [&] { site_->enter(to % per_site_, hash, out); });
  }
  bool same_rail(std::int64_t a, std::int64_t b) const override {
    return site_->same_rail(a % per_site_, b % per_site_);
  }
  Bandwidth bisection() const override {
    const double pairs = static_cast<double>((sites_.count / 2) * (sites_.count - sites_.count / 2));
    return {std::min(pairs * sites_.bandwidth.value, static_cast<double>(ports_.count / 2) * ports_.bandwidth.value)};
  }
  std::string shape() const override { return fmt::format("{} sites, each {}", sites_.count, site_->shape()); }

 private:
  std::int64_t first_long() const { return sites_.count * site_->link_count(); }
  std::int64_t switches() const { return site_->vertex_count() - per_site_; }
  std::int64_t vertex(std::int64_t site, std::int64_t v) const {
    return v < per_site_ ? site * per_site_ + v : ports_.count + site * switches() + v - per_site_;
  }
  // What `append` adds are links of `site`.
  template <class Append>
  void moved(std::int64_t site, Route& out, Append append) const {
    const std::size_t begin = out.hops.size();
    append();
    for (std::size_t i = begin; i < out.hops.size(); ++i) {
      out.hops[i].link += static_cast<LinkId>(site * site_->link_count());
    }
  }

  std::unique_ptr<Interconnect> site_;
  Sites sites_;
  Ports ports_;
  std::int64_t per_site_;
  std::vector<LinkClass> classes_;
};

std::unique_ptr<Interconnect> make_site(const Fabric& fabric, const Ports& ports, bool gateway) {
  if (const auto* tree = std::get_if<FatTree>(&fabric.network)) {
    return make_fat_tree(*tree, ports, gateway);
  }
  if (const auto* dragonfly = std::get_if<Dragonfly>(&fabric.network)) {
    return make_dragonfly(*dragonfly, ports);
  }
  if (const auto* torus = std::get_if<Torus>(&fabric.network)) {
    return make_torus(*torus, ports);
  }
  return make_non_blocking(ports, gateway);
}

}  // namespace

std::unique_ptr<Interconnect> make_interconnect(const Fabric& fabric, const Ports& ports) {
  if (fabric.sites.count == 1) {
    return make_site(fabric, ports, false);
  }
  Ports one = ports;
  one.count = ports.count / fabric.sites.count;
  return std::make_unique<JoinedSites>(make_site(fabric, one, true), fabric.sites, ports);
}

}  // namespace foretrain::topologies
