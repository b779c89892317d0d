#include "search/crew.h"

#include "base/error.h"
#include "base/parallel.h"

namespace foretrain::search {

bool spread(const Crew& crew, const Pieces& pieces, const std::function<bool()>& ends) {
  const auto first = static_cast<std::size_t>(crew.number), step = static_cast<std::size_t>(crew.count);
  const std::size_t own = first < pieces.count ? (pieces.count - first - 1) / step + 1 : 0;
  in_parallel(own, [&](std::size_t i) { pieces.work(first + i * step); });
  bool any = ends();
  if (crew.count == 1) {
    return any;
  }
  // A letter for the end, then each result behind its length.
  std::string mine(1, any ? 'e' : '.');
  for (std::size_t i = first; i < pieces.count; i += step) {
    const std::string packed = pieces.pack(i);
    mine += std::to_string(packed.size()) + ":" + packed;
  }
  const std::vector<std::string> all = crew.all_gather(mine);
  for (std::size_t p = 0; p < all.size(); ++p) {
    CHECK(!all[p].empty(), "process {} gave nothing", p);
    any = any || all[p].front() == 'e';
    std::size_t at = 1;
    for (std::size_t i = p; i < pieces.count && p != first; i += step) {
      const std::size_t colon = all[p].find(':', at), size = std::stoul(all[p].substr(at, colon - at));
      pieces.unpack(i, all[p].substr(colon + 1, size));
      at = colon + 1 + size;
    }
  }
  return any;
}

}  // namespace foretrain::search
