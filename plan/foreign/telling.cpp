#include "plan/foreign/telling.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "workloads/workload_file.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

json::json_pointer pointer(std::string_view path) {
  std::string text = "/" + std::string(path);
  std::replace(text.begin(), text.end(), '.', '/');
  return json::json_pointer(text);
}

json parts(const workloads::Workload& workload, const Strategy& strategy) {
  return {{"workload", workloads::to_json(workload)}, {"strategy", to_json(strategy)}};
}

const json kNothing;

}  // namespace

Telling::Telling(const Job& job, std::string target) : target_(std::move(target)) {
  if (job.workload.model.architecture != workloads::Architecture::decoder) {
    throw InputError(fmt::format("{}: workload.model.architecture: \"{}\" is none of {}'s; expected decoder",
                                 job.origin, name(job.workload.model.architecture), target_));
  }
  document_ = std::make_unique<const json>(parts(job.workload, job.strategy));
  workloads::Workload plain;
  plain.precision = job.workload.precision;
  plain.precision.rounding = workloads::Rounding::nearest;
  plain.model.rotary_dim = job.workload.model.head_dim;
  Strategy strategy;
  strategy.expert_tp = job.strategy.tp;
  strategy.zero = job.strategy.zero;  // what goes with it has defaults then
  defaults_ = std::make_unique<const json>(parts(plain, strategy));
  pass({"workload.model.name", "workload.model.architecture", "workload.model.head", "workload.model.rotary_dim",
        "strategy.dp"});
  if (job.workload.model.moe.experts == 0) {
    pass({"strategy.expert_tp"});  // without experts it says nothing
  }
}

const json& Telling::at(std::string_view path) {
  told_.emplace(path);
  const auto place = pointer(path);
  return document_->contains(place) ? document_->at(place) : kNothing;
}

Telling::~Telling() = default;

std::int64_t Telling::integer(std::string_view path) {
  return at(path).get<std::int64_t>();
}
double Telling::number(std::string_view path) {
  return at(path).get<double>();
}
bool Telling::flag(std::string_view path) {
  return at(path).get<bool>();
}
std::string Telling::word(std::string_view path) {
  return at(path).get<std::string>();
}

void Telling::pass(const std::vector<std::string>& paths) {
  told_.insert(paths.begin(), paths.end());
}

void Telling::refuse(std::string_view path, std::string_view instead) {
  refused_.push_back(fmt::format("{} {}: {} has no word for it{}", path, shown(at(path)), target_,
                                 instead.empty() ? "" : fmt::format("; written is {}", instead)));
}

std::vector<std::string> Telling::warnings() const {
  std::vector<std::string> out = refused_;
  // By field, not deeper than its name: a list is one value.
  const auto walk = [&](const auto& self, const json& value, const json& fallback, const std::string& path) -> void {
    if (told_.contains(path)) {
      return;
    }
    if (value.is_object()) {
      for (const auto& [key, inner] : value.items()) {
        const bool known = fallback.is_object() && fallback.contains(key);
        self(self, inner, known ? fallback.at(key) : kNothing, path.empty() ? key : path + "." + key);
      }
    } else if (value != fallback) {
      out.push_back(fmt::format("{} {}: {} has no word for it", path, shown(value), target_));
    }
  };
  walk(walk, *document_, *defaults_, "");
  return out;
}

std::string shortest(double value) {
  std::string text = fmt::format("{}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

void FlagLines::add(std::string_view flag, std::int64_t value) {
  text_ += fmt::format("{} {}\n", flag, value);
}

void FlagLines::add(std::string_view flag, double value) {
  text_ += fmt::format("{} {}\n", flag, shortest(value));
}

}  // namespace foretrain::plan
