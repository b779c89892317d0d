// Network environments. What is accepted prices every collective of every group: a time that is finite and not
// negative.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "sim/collective_price.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using foretrain::sim::collective::Kind;
  std::vector<foretrain::topologies::NetworkEnvironment> all;
  try {
    all = foretrain::topologies::network_environments_from_text({reinterpret_cast<const char*>(data), size}, "input");
  } catch (const foretrain::InputError&) {
    return 0;
  }
  foretrain::topologies::environment_of(all, "a-table-of-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
  const auto& nccl = foretrain::topologies::newest_nccl();
  for (const auto& environment : all) {
    const foretrain::sim::CollectivePricer pricer(environment, nccl, nccl);
    for (const auto* side : {&environment.node, &environment.fabric}) {
      for (const auto& [word, constants] : *side) {
        foretrain::sim::PriceRequest request;
        request.sendrecv = word == "sendrecv";
        request.kind = request.sendrecv ? Kind::all_reduce : foretrain::sim::collective::kind_from_name(word);
        for (const auto group :
             {foretrain::sim::nccl::Group{2, 1, 2}, {8, 1, 8}, {16, 2, 8}, {3, 3, 1}, {999, 125, 8}}) {
          request.group = group;
          for (const double bytes : {0.0, 1.0, 1e6, 1e12}) {
            const double seconds = pricer.price(request, bytes, constants).seconds;
            CHECK(std::isfinite(seconds) && seconds >= 0, "{} of {} bytes over {} ranks takes {} s", word, bytes,
                  group.ranks, seconds);
          }
        }
      }
    }
  }
  return 0;
}
