#include "topologies/import_topology.h"

#include <cstdio>
#include <fstream>
#include <sstream>

#include "base/error.h"

namespace foretrain::topologies {

namespace {

constexpr std::size_t kMaxBytes = 16 << 20;

}  // namespace

ImportedNode import_topology_text(std::string_view text, const std::string& origin) {
  const std::size_t first = text.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  if (first == std::string_view::npos || text[first] != '<') {
    return import_smi_matrix(text, origin);
  }
  return text.find("<topology") != std::string_view::npos ? import_hwloc_xml(text, origin)
                                                          : import_nccl_xml(text, origin);
}

ImportedNode import_topology(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw InputError(fmt::format("{}: cannot be read, or is empty", path));
  }
  if (text.view().size() > kMaxBytes) {
    throw InputError(fmt::format("{}: larger than {} MB", path, kMaxBytes >> 20));
  }
  return import_topology_text(text.view(), path);
}

}  // namespace foretrain::topologies
