// Overrides by key, so that two strategies can be joined where they do not contradict each other.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/support/tiny_jobs.h"

namespace foretrain::testing {

using Overrides = std::map<std::string, std::string>;

inline std::vector<std::string> words(const Overrides& overrides) {
  std::vector<std::string> list;
  for (const auto& [key, value] : overrides) {
    list.push_back(key + "=" + value);
  }
  return list;
}

// `b` over `a`.
inline Overrides joined(const Overrides& a, const Overrides& b) {
  Overrides both = b;
  both.insert(a.begin(), a.end());
  return both;
}

// Small, with sizes that are no powers of two; 12 sequences in 12 microbatches. The head is kept as small as it may be.
inline const Overrides kBase = {{"global_batch", "12"},
                                {"seq_len", "12"},
                                {"workload.model.hidden", "40"},
                                {"workload.model.heads", "8"},
                                {"workload.model.head_dim", "6"},
                                {"workload.model.ffn_hidden", "56"},
                                {"padded_vocab", "72"}};

inline const char* const kModels[] = {kTinyGpt, kTinyLlama};

}  // namespace foretrain::testing
