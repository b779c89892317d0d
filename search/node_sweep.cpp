#include "search/node_sweep.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace foretrain::search {

namespace {

std::optional<Found> fits_on(const plan::OpenJob& open, const SearchOptions& options, std::int64_t nodes) {
  try {
    return smallest_that_fits(on_nodes(open, nodes), options);
  } catch (const InputError&) {  // a network that cannot have so many
    return std::nullopt;
  }
}

}  // namespace

plan::OpenJob on_nodes(const plan::OpenJob& open, std::int64_t nodes) {
  plan::OpenJob other = open;
  other.job.cluster.nodes = nodes;
  nlohmann::ordered_json document = *open.document;
  document["cluster"]["nodes"] = nodes;
  other.document = std::make_shared<nlohmann::ordered_json>(std::move(document));
  return other;
}

std::optional<std::size_t> knee(const std::vector<double>& x, const std::vector<double>& y) {
  if (x.size() < 3 || !(x.back() > x.front()) || !(y.back() > y.front())) {
    return std::nullopt;
  }
  std::size_t farthest = 0;
  double most = kLeastBend;
  for (std::size_t i = 1; i + 1 < x.size(); ++i) {
    const double above = (y[i] - y.front()) / (y.back() - y.front()) - (x[i] - x.front()) / (x.back() - x.front());
    if (above > most) {
      most = above;
      farthest = i;
    }
  }
  return farthest == 0 ? std::nullopt : std::optional(farthest);
}

std::optional<std::pair<std::int64_t, Found>> smallest_cluster(const plan::OpenJob& open, const SearchOptions& options,
                                                               std::int64_t most) {
  constexpr std::int64_t kParts = 8;
  for (std::int64_t nodes = 2 * open.job.cluster.nodes; nodes <= most; nodes *= 2) {
    auto found = fits_on(open, options, nodes);
    if (!found) {
      continue;
    }
    for (std::int64_t part = kParts / 2 + 1; part < kParts; ++part) {
      const std::int64_t fewer = nodes * part / kParts;
      if (nodes % kParts == 0) {
        if (auto smaller = fits_on(open, options, fewer)) {
          return std::pair{fewer, *std::move(smaller)};
        }
      }
    }
    return std::pair{nodes, *std::move(found)};
  }
  return std::nullopt;
}

}  // namespace foretrain::search
