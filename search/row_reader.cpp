#include "search/row_reader.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace foretrain::search {

using nlohmann::json;

namespace {

constexpr std::int64_t kMost = 1 << 24;  // of an integer: beyond any count of devices, layers or sequences

const json& nothing() {
  static const json object = json::object();
  return object;
}

}  // namespace

json parse_row(std::string_view line, const std::string& place, Mistakes& mistakes) {
  constexpr int kDepth = 32;  // rows are objects in an object; hostile ones must not cost the stack
  bool deep = false;
  std::string twice;
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      twice = parsed.get<std::string>();
    }
    deep = deep || depth > kDepth;
    return depth <= kDepth;
  };
  json object = json::parse(line, watch, false);
  if (deep) {
    mistakes.add(fmt::format("{}: nested deeper than {} levels", place, kDepth));
  } else if (!object.is_object()) {
    mistakes.add(fmt::format("{}: expected one JSON object on the line", place));
  } else if (!twice.empty()) {
    mistakes.add(fmt::format("{}: the key {} stands twice in an object", place, shown(twice)));
  } else {
    return object;
  }
  return nullptr;
}

RowReader::RowReader(const json& object, std::string place, Mistakes& mistakes, std::string prefix)
    : object_(object), place_(std::move(place)), mistakes_(mistakes), prefix_(std::move(prefix)) {}

std::string RowReader::text(const char* key, bool required) const {
  const json* v = find(key, required);
  if (v == nullptr) {
    return "";
  }
  if (!v->is_string()) {
    wrong(key, *v, "a text");
    return "";
  }
  return v->get<std::string>();
}

std::optional<double> RowReader::number(const char* key) const {
  const json* v = find(key, false);
  if (v == nullptr) {
    return std::nullopt;
  }
  if (!v->is_number() || !std::isfinite(v->get<double>()) || v->get<double>() < 0) {
    wrong(key, *v, "a number >= 0");
    return std::nullopt;
  }
  return v->get<double>();
}

std::optional<std::int64_t> RowReader::integer(const char* key, std::int64_t low) const {
  const json* v = find(key, false);
  if (v == nullptr) {
    return std::nullopt;
  }
  if (!v->is_number_integer() || v->get<double>() < static_cast<double>(low) ||
      v->get<double>() > static_cast<double>(kMost)) {
    wrong(key, *v, fmt::format("an integer from {} to {}", low, kMost));
    return std::nullopt;
  }
  return v->get<std::int64_t>();
}

std::optional<bool> RowReader::boolean(const char* key) const {
  const json* v = find(key, false);
  if (v == nullptr) {
    return std::nullopt;
  }
  if (!v->is_boolean()) {
    wrong(key, *v, "true or false");
    return std::nullopt;
  }
  return v->get<bool>();
}

std::string RowReader::word(const char* key) const {
  const json* v = find(key, false);
  if (v == nullptr) {
    return "";
  }
  if (v->is_structured()) {
    wrong(key, *v, "a text, a number, true or false");
    return "";
  }
  return v->is_string() ? v->get<std::string>() : v->dump();
}

std::size_t RowReader::list_size(const char* key) const {
  const json* v = find(key, false);
  if (v == nullptr) {
    return 0;
  }
  if (!v->is_array()) {
    wrong(key, *v, "a list");
    return 0;
  }
  return v->size();
}

RowReader RowReader::object(const char* key, bool required) const {
  const json* v = find(key, required);
  if (v != nullptr && !v->is_object()) {
    wrong(key, *v, "an object");
    v = nullptr;
  }
  return {v == nullptr ? nothing() : *v, place_, mistakes_, prefix_ + "/" + key};
}

const json* RowReader::find(const char* key, bool required) const {
  const auto found = object_.find(key);
  if (found != object_.end() && !found->is_null()) {
    return &*found;
  }
  if (required) {
    mistakes_.add(fmt::format("{}: {}/{} is missing", place_, prefix_, key));
  }
  return nullptr;
}

void RowReader::wrong(const char* key, const json& value, const std::string& expected) const {
  mistakes_.add(fmt::format("{}: {}/{}: {} is not allowed; expected {}", place_, prefix_, key, shown(value), expected));
}

}  // namespace foretrain::search
