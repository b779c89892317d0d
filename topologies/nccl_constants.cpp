#include "topologies/nccl_constants.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/json.h"

namespace foretrain::topologies {
namespace {

constexpr double kMost = 1e6;

// Exactly `size` numbers >= 0.
std::vector<double> numbers(ObjectReader& reader, const std::string& key, std::size_t size) {
  std::vector<double> result;
  const nlohmann::json* value = reader.raw(key);
  bool good = value != nullptr && value->is_array() && value->size() == size;
  for (std::size_t i = 0; good && i < size; ++i) {
    const nlohmann::json& x = (*value)[i];
    good = x.is_number() && x.get<double>() >= 0 && x.get<double>() <= kMost;
    result.push_back(good ? x.get<double>() : 0);
  }
  if (!good) {
    reader.mistake(key, (value == nullptr ? std::string("is missing") : shown(*value) + " is not allowed") +
                            "; expected a list of " + std::to_string(size) + " numbers >= 0");
    result.assign(size, 0);
  }
  return result;
}

template <std::size_t N>
std::array<double, N> fixed(ObjectReader& reader, const std::string& key) {
  std::array<double, N> result{};
  const std::vector<double> list = numbers(reader, key, N);
  std::copy(list.begin(), list.end(), result.begin());
  return result;
}

std::array<NcclConstants::PerNodes, 4> limits(ObjectReader& parent, const std::string& key) {
  std::array<NcclConstants::PerNodes, 4> result{};
  ObjectReader reader = parent.object(key);
  for (std::size_t g = 0; g < result.size() && reader.present(); ++g) {
    result[g] = fixed<3>(reader, kGenerationNames[g]);
  }
  reader.finish();
  return result;
}

NcclConstants read(const JsonDocument& document) {
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  NcclConstants c;
  reader.word("schema", std::nullopt, {"foretrain.nccl/1"});
  c.version = reader.text("version", std::nullopt);
  c.source = reader.text("source", std::nullopt);
  if (reader.texts("protocols") != std::vector<std::string>{"LL", "LL128", "Simple"}) {
    reader.mistake("protocols", "expected [\"LL\", \"LL128\", \"Simple\"], the order of every list of three");
  }
  ObjectReader base = reader.object("base_us"), nvlink = reader.object("nvlink_hop_us"),
               pci = reader.object("pci_hop_us"), net = reader.object("net_hop_us");
  if (base.present() && nvlink.present() && pci.present() && net.present()) {
    for (const char* a : {"tree", "ring", "collnet_direct", "collnet_chain", "nvls", "nvls_tree", "pat"}) {
      c.hops[a] = {fixed<3>(base, a), fixed<3>(nvlink, a), fixed<3>(pci, a), fixed<3>(net, a)};
    }
  }
  for (ObjectReader* r : {&base, &nvlink, &pci, &net}) {
    r->finish();
  }
  c.ll_limit = limits(reader, "ll_limit");
  c.ring_ll128_limit = limits(reader, "ring_ll128_limit");
  c.tree_ll128_limit = limits(reader, "tree_ll128_limit");
  c.tree_limit = limits(reader, "tree_limit");
  c.nvls_tree_limit = limits(reader, "nvls_tree_limit");
  ObjectReader nvls = reader.object("nvls_efficiency");
  for (std::size_t g = 0; g < c.nvls_efficiency.size(); ++g) {
    c.nvls_efficiency[g] = nvls.number(kGenerationNames[g], 0, 0, 1);
  }
  nvls.finish();
  ObjectReader correction = reader.object("tree_correction");
  if (correction.present()) {
    constexpr std::array<const char*, kProtocols> kWords{"LL", "LL128", "Simple"};
    for (std::size_t p = 0; p < kProtocols; ++p) {
      c.tree_correction[p] = numbers(correction, kWords[p], 24);
    }
  }
  correction.finish();
  const auto factor = [&reader](const char* key) { return reader.number(key, std::nullopt, 1e-3, 100); };
  c.ring_ll = factor("ring_ll");
  c.ring_ll128 = factor("ring_ll128");
  c.tree = factor("tree");
  c.tree_ll = factor("tree_ll");
  c.tree_ll128_node = factor("tree_ll128_node");
  c.tree_ll128_fabric = factor("tree_ll128_fabric");
  c.plain_tree = factor("plain_tree");
  c.pat = factor("pat");
  c.ring_plateau = factor("ring_plateau");
  c.ring_plateau_volta = factor("ring_plateau_volta");
  c.post_overhead_intel = factor("post_overhead_intel_us");
  c.post_overhead_amd = factor("post_overhead_amd_us");
  c.has_pat = reader.boolean("has_pat", std::nullopt);
  reader.finish();
  mistakes.throw_if_any();
  return c;
}

// "2.22.3" and NCCL's own code 22203 as one comparable number; -1 for anything else.
int version_number(const std::string& text) {
  std::array<int, 3> part{};
  std::size_t parts = 0;
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end && parts < part.size()) {
    const auto [next, error] = std::from_chars(p, end, part[parts]);
    if (error != std::errc{} || part[parts] < 0 || part[parts] > 99999) {
      return -1;
    }
    ++parts;
    p = next < end && *next == '.' ? next + 1 : end;
  }
  return parts == 0 ? -1 : (parts == 1 ? part[0] : part[0] * 10000 + part[1] * 100 + part[2]);
}

}  // namespace

NcclConstants load_nccl_constants(const std::string& version_or_path) {
  const bool is_file = version_or_path.find('/') != std::string::npos ||
                       (version_or_path.size() > 5 && version_or_path.substr(version_or_path.size() - 5) == ".json");
  return read(JsonDocument::from_file(is_file ? version_or_path
                                              : catalogue_path(kNcclFolder, "NCCL version", version_or_path)));
}

const NcclConstants& newest_nccl() {
  static const NcclConstants constants = load_nccl_constants(kNewestNccl);
  return constants;
}

NcclConstants nccl_constants_from_text(std::string_view text, const std::string& origin) {
  return read(JsonDocument::from_text(text, origin));
}

std::string nccl_constants_for(const std::string& version) {
  const int wanted = version_number(version);
  if (wanted < 0) {
    return kNewestNccl;
  }
  std::vector<std::string> known = catalogue_names(kNcclFolder);
  std::sort(known.begin(), known.end(),
            [](const std::string& a, const std::string& b) { return version_number(a) < version_number(b); });
  std::string best = known.empty() ? kNewestNccl : known.front();
  for (const std::string& k : known) {
    if (version_number(k) <= wanted) {
      best = k;
    }
  }
  return best;
}

}  // namespace foretrain::topologies
