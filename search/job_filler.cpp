#include "search/job_filler.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "search/framework_costs.h"

namespace foretrain::search {

using nlohmann::json;

namespace {

json::json_pointer pointer_of(const std::string& path) {
  std::string pointer = "/" + path;
  std::replace(pointer.begin(), pointer.end(), '.', '/');
  return json::json_pointer(pointer);
}

}  // namespace

const json& at_path(const json& document, const std::string& path) {
  return document.at(pointer_of(path));
}

std::string shown_value(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

Filler::Filler(const TrainingRow& row, const TrainingRules& rules, Reading& reading)
    : row_(row),
      rules_(rules),
      framework_(rules.framework(row.plan.framework)),
      reading_(reading),
      document_(std::make_unique<json>(json{{"version", 1}})) {}

Filler::~Filler() = default;

void Filler::state(const char* path, json value) {
  set(path, value, Origin::stated, "");
}

void Filler::by_rule(const char* path, const json& value, std::string source) {
  set(path, value, Origin::rule, std::move(source));
}

const FieldRule* Filler::by_rule(const char* path, const char* field) {
  const FieldRule* rule = find(field);
  if (rule != nullptr) {
    set(path, json::parse(rule->value), Origin::rule, source_of_);
  }
  return rule;
}

std::map<std::string, double> Filler::costs() {
  std::map<std::string, double> result;
  for (const std::string& kind : cost_kinds()) {
    const std::string field = kCost + kind;
    if (const FieldRule* rule = find(field)) {
      reading_.fields.push_back({field, rule->value, Origin::rule, source_of_});
      result[kind] = json::parse(rule->value).get<double>();
    }
  }
  return result;
}

std::map<std::string, double, std::less<>> Filler::held() {
  std::map<std::string, double, std::less<>> result;
  for (const std::string& buffer : held_buffers()) {
    if (const auto times = word((kHeld + buffer).c_str())) {
      result[buffer] = json::parse(*times).get<double>();
    }
  }
  return result;
}

std::optional<std::string> Filler::word(const char* field) {
  const FieldRule* rule = find(field);
  if (rule == nullptr) {
    return std::nullopt;
  }
  const json value = json::parse(rule->value);
  reading_.fields.push_back({field, shown_value(value), Origin::rule, source_of_});
  return shown_value(value);
}

const FieldRule* Filler::find(std::string_view field) {
  for (const FrameworkRules* f : {framework_, &rules_.any}) {
    for (std::size_t i = 0; f != nullptr && i < f->rules.size(); ++i) {
      if (f->rules[i].field == field && f->rules[i].applies_to(row_)) {
        source_of_ = f->name + ": " + f->rules[i].source;
        return &f->rules[i];
      }
    }
  }
  return nullptr;
}

void Filler::set(const char* path, const json& value, Origin origin, std::string source) {
  reading_.fields.push_back({path, shown_value(value), origin, std::move(source)});
  (*document_)[pointer_of(path)] = value;
}

}  // namespace foretrain::search
