#include "plan/foreign/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace foretrain::plan {

namespace {

using nlohmann::ordered_json;

// "workload.model.layers" as a JSON pointer.
ordered_json::json_pointer pointer(std::string_view path) {
  std::string text = "/" + std::string(path);
  std::replace(text.begin(), text.end(), '.', '/');
  return ordered_json::json_pointer(text);
}

template <class T>
std::optional<T> parsed(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc{} && result.ptr == end ? std::optional(value) : std::nullopt;
}

// A value that is no plain text of the file: a shell variable that nobody sets, a command's output.
std::string hint(const std::string& text) {
  return text.find('$') == std::string::npos && text.find('`') == std::string::npos
             ? ""
             : "; the script does not say it: give it with --set NAME=VALUE";
}

// Whether one is the other, mistyped: they differ in two neighbouring letters at most.
bool is_slip(const std::string& a, const std::string& b) {
  const std::size_t shorter = std::min(a.size(), b.size()), longer = std::max(a.size(), b.size());
  std::size_t begin = 0, end = 0;
  while (begin < shorter && a[begin] == b[begin]) {
    ++begin;
  }
  while (end < shorter - begin && a[a.size() - 1 - end] == b[b.size() - 1 - end]) {
    ++end;
  }
  return begin + end + 2 >= longer;
}

}  // namespace

SettingReader::SettingReader(std::string format, std::string origin, std::vector<Setting> settings,
                             const std::vector<std::string>& given)
    : origin_(std::move(origin)),
      settings_(std::move(settings)),
      known_(settings_.size(), false),
      given_(JsonDocument::from_text("{}", "command line")),
      document_(std::make_unique<ordered_json>()) {
  job_.format = std::move(format);
  *document_ = {{"version", 1},
                {"workload", ordered_json::object()},
                {"cluster", ordered_json::object()},
                {"strategy", ordered_json::object()}};
  for (const std::string& field : given) {
    given_.override_value(field);
    given_fields_.push_back(field.substr(0, field.find('=')));
  }
}

SettingReader::~SettingReader() = default;

std::string SettingReader::place(const Setting* setting) const {
  return setting == nullptr || setting->line == 0 ? origin_ : fmt::format("{}:{}", origin_, setting->line);
}

const Setting* SettingReader::find(std::string_view name) {
  if (std::find(asked_.begin(), asked_.end(), name) == asked_.end()) {
    asked_.emplace_back(name);
  }
  const Setting* found = nullptr;
  for (std::size_t i = 0; i < settings_.size(); ++i) {
    if (settings_[i].name == name) {
      known_[i] = true;
      found = &settings_[i];
    }
  }
  return found;
}

bool SettingReader::flag(std::string_view name, bool fallback) {
  const Setting* s = find(name);
  if (s == nullptr) {
    return fallback;
  }
  const std::string value = s->values.empty() ? "true" : s->values.front();
  for (const char* yes : {"true", "True", "1"}) {
    if (value == yes) {
      return true;
    }
  }
  if (value != "false" && value != "False" && value != "0") {
    mistake(name, fmt::format("\"{}\" is not allowed; expected no value, true or false{}", value, hint(value)));
  }
  return false;
}

std::optional<std::int64_t> SettingReader::integer(std::string_view name, std::int64_t low) {
  const auto value = text(name);
  const auto number = value ? parsed<std::int64_t>(*value) : std::nullopt;
  if (value && (!number || *number < low)) {
    mistake(name, fmt::format("\"{}\" is not allowed; expected an integer >= {}{}", *value, low, hint(*value)));
    return std::nullopt;
  }
  return number;
}

std::optional<double> SettingReader::number(std::string_view name, double low) {
  const auto value = text(name);
  const auto number = value ? parsed<double>(*value) : std::nullopt;
  if (value && (!number || !std::isfinite(*number) || *number < low)) {
    mistake(name, fmt::format("\"{}\" is not allowed; expected a number >= {}{}", *value, low, hint(*value)));
    return std::nullopt;
  }
  return number;
}

std::optional<std::string> SettingReader::text(std::string_view name) {
  const Setting* s = find(name);
  if (s == nullptr) {
    return std::nullopt;
  }
  if (s->values.empty()) {
    mistake(name, "a value is missing");
    return std::nullopt;
  }
  return s->values.front();
}

std::optional<std::string> SettingReader::word(std::string_view name, const std::vector<std::string>& allowed) {
  const auto value = text(name);
  if (value && std::find(allowed.begin(), allowed.end(), *value) == allowed.end()) {
    const std::string near = nearest_word(*value, allowed);
    mistake(name, fmt::format("\"{}\" is not known; expected one of: {}{}{}", *value, fmt::join(allowed, ", "),
                              near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near), hint(*value)));
    return std::nullopt;
  }
  return value;
}

void SettingReader::set(std::string_view path, nlohmann::json value, std::string_view by) {
  const auto said = std::find_if(settings_.rbegin(), settings_.rend(), [&](const Setting& s) { return s.name == by; });
  if (said == settings_.rend()) {
    assume(path, std::move(value), fmt::format("{} is not given", by));
    return;
  }
  set_as(path, std::move(value),
         fmt::format("{}{}{}", by, said->values.empty() ? "" : " ", fmt::join(said->values, " ")));
}

void SettingReader::set_as(std::string_view path, nlohmann::json value, std::string_view words) {
  job_.read.push_back(is_given(path) ? fmt::format("{}: {} is what the command line says", words, path)
                                     : fmt::format("{}: {} {}", words, path, shown(value)));
  (*document_)[pointer(path)] = std::move(value);
}

bool SettingReader::assume(std::string_view path, nlohmann::json value, std::string_view why) {
  if (is_given(path)) {
    return false;
  }
  job_.assumed.push_back(fmt::format("{} {}: {}", path, shown(value), why));
  (*document_)[pointer(path)] = std::move(value);
  return true;
}

void SettingReader::set_quietly(std::string_view path, nlohmann::json value) {
  (*document_)[pointer(path)] = std::move(value);
}

nlohmann::json SettingReader::value(std::string_view path) const {
  const auto at = pointer(path);
  const nlohmann::json& given = given_.root();
  if (given.contains(at)) {
    return given.at(at);
  }
  const auto part = at.parent_pointer();
  if (is_given(path) && given.contains(part) && given.at(part).is_object()) {
    return {};  // a part that is given whole; what a name in its place stands for is not known here
  }
  return document_->contains(at) ? nlohmann::json(document_->at(at)) : nlohmann::json();
}

bool SettingReader::is_given(std::string_view path) const {
  return std::any_of(given_fields_.begin(), given_fields_.end(), [&](const std::string& field) {
    return path.starts_with(field) && (path.size() == field.size() || path[field.size()] == '.');
  });
}

std::int64_t SettingReader::integer_at(std::string_view path, std::int64_t fallback) const {
  const nlohmann::json found = value(path);
  return found.is_number_integer() ? found.get<std::int64_t>() : fallback;
}

void SettingReader::warn(std::string_view name, std::string_view what) {
  job_.warnings.push_back(fmt::format("{}: {}: {}", place(find(name)), name, what));
}

void SettingReader::mistake(std::string_view name, std::string_view what) {
  mistakes_.add(fmt::format("{}: {}: {}", place(find(name)), name, what));
}

void SettingReader::ignore(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (has(name)) {
      job_.ignored.push_back(name);
    }
  }
}

ImportedJob SettingReader::finish(const std::vector<std::string>& telling) {
  for (std::size_t i = 0; i < settings_.size(); ++i) {
    const Setting& s = settings_[i];
    if (known_[i]) {
      continue;
    }
    const bool tells = std::any_of(telling.begin(), telling.end(),
                                   [&](const std::string& part) { return s.name.find(part) != std::string::npos; });
    const auto slip = std::find_if(asked_.begin(), asked_.end(), [&](const auto& a) { return is_slip(a, s.name); });
    const std::string near = slip == asked_.end() ? "" : *slip;
    const bool off = s.values == std::vector<std::string>{"false"};
    if ((tells && !off) || !near.empty()) {
      const std::string values = s.values.empty() ? "" : fmt::format(" {}", fmt::join(s.values, " "));
      job_.warnings.push_back(
          fmt::format("{}: {}{}: not known here, and left out{}", place(&s), s.name, values,
                      near.empty() ? "; it may change the forecast" : fmt::format("; did you mean {}?", near)));
    } else if (std::find(job_.ignored.begin(), job_.ignored.end(), s.name) == job_.ignored.end()) {
      job_.ignored.push_back(s.name);
    }
  }
  mistakes_.throw_if_any();
  job_.document = document_->dump(2) + "\n";
  return std::move(job_);
}

}  // namespace foretrain::plan
