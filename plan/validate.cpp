#include "plan/validate.h"

#include "plan/validate_internal.h"

namespace foretrain::plan {

void Findings::add(std::string line) {
  if (!full()) {
    lines_.push_back(std::move(line));
  }
}

void Findings::add_once(const std::string& key, std::string line) {
  if (!full() && known_.insert(key).second) {
    lines_.push_back(std::move(line));
  }
}

std::vector<std::string> validate(const PlanGraph& graph) {
  Findings findings;
  check_structure(graph, findings);
  if (findings.empty()) {
    check_order(graph, findings);
  }
  return findings.take();
}

}  // namespace foretrain::plan
