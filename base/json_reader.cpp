#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace foretrain {

using nlohmann::json;

std::string shown(const json& value) {
  constexpr std::size_t kShown = 60;
  if (value.is_structured() && value.size() > kShown) {
    return value.is_array() ? "[...]" : "{...}";
  }
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > kShown) {
    text.resize(kShown);
    text += "...";
  }
  return text;
}

namespace {

std::string list(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

// Long words are never near a known one, and the distance costs their product.
std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  constexpr std::size_t kLongest = 100;
  const std::string nearest = word.size() > kLongest ? "" : nearest_word(word, known);
  return nearest.empty() ? "" : fmt::format("did you mean \"{}\"? ", nearest);
}

std::string range_of(std::int64_t low, std::int64_t high) {
  if (low == high) {
    return fmt::format("{}", low);
  }
  return high == INT64_MAX ? fmt::format("an integer >= {}", low) : fmt::format("an integer from {} to {}", low, high);
}

std::optional<std::int64_t> integer_in(const json& value, std::int64_t low, std::int64_t high) {
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
    return std::nullopt;
  }
  const auto v = value.get<std::int64_t>();
  return v >= low && v <= high ? std::optional(v) : std::nullopt;
}

}  // namespace

void Mistakes::add(std::string message) {
  if (full()) {
    ++unshown_;
  } else {
    messages_.push_back(std::move(message));
  }
}

void Mistakes::throw_if_any() const {
  if (messages_.empty()) {
    return;
  }
  std::string text;
  for (const std::string& message : messages_) {
    text += (text.empty() ? "" : "\n") + message;
  }
  if (unshown_ > 0) {
    text += fmt::format("\n... and {} more mistakes", unshown_);
  }
  throw InputError(text);
}

ObjectReader::ObjectReader(const JsonDocument& document, Mistakes& mistakes)
    : ObjectReader(document, mistakes, &document.root(), "") {
  if (!object_->is_object()) {
    mistake("", fmt::format("{} is not allowed; expected an object", shown(*object_)));
    object_ = nullptr;
  }
}

ObjectReader::ObjectReader(const JsonDocument& document, Mistakes& mistakes, const json* object, std::string pointer)
    : document_(&document), mistakes_(&mistakes), object_(object), pointer_(std::move(pointer)) {}

std::string ObjectReader::place(const std::string& key) const {
  std::string pointer = pointer_;
  if (!key.empty()) {
    pointer += "/" + nlohmann::detail::escape(key);
  }
  const std::string path = pointer.empty() ? "/" : pointer;
  if (document_->overridden(pointer)) {
    return fmt::format("command line: {}", path);
  }
  int line = document_->line(pointer);
  if (line == 0) {
    line = document_->line(pointer_);  // an absent key: where its object starts
  }
  return line == 0 ? fmt::format("{}: {}", document_->origin(), path)
                   : fmt::format("{}:{}: {}", document_->origin(), line, path);
}

std::string ObjectReader::file_path(const std::string& key, const std::string& value) const {
  namespace fs = std::filesystem;
  const bool from_command_line = document_->overridden(pointer_ + "/" + nlohmann::detail::escape(key));
  const fs::path folder = from_command_line ? fs::path() : fs::path(document_->origin()).parent_path();
  std::error_code error;  // an unreadable working directory leaves the path relative
  return (fs::current_path(error) / folder / value).lexically_normal().string();
}

void ObjectReader::mistake(const std::string& key, const std::string& what) {
  // The place costs a scan of the text, which a message that is only counted does not need.
  mistakes_->add(mistakes_->full() ? what : fmt::format("{}: {}", place(key), what));
}

bool ObjectReader::has(const std::string& key) {
  return raw(key) != nullptr;
}

const json* ObjectReader::raw(const std::string& key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
    known_.push_back(key);
  }
  if (object_ == nullptr) {
    return nullptr;
  }
  const auto found = object_->find(key);
  return found == object_->end() ? nullptr : &*found;
}

const json* ObjectReader::find(const std::string& key, bool required) {
  const json* value = raw(key);
  if (value == nullptr && required && object_ != nullptr) {
    mistake(key, "missing, and has no default");
  }
  return value;
}

std::int64_t ObjectReader::integer(const std::string& key, std::optional<std::int64_t> fallback, std::int64_t low,
                                   std::int64_t high) {
  const json* value = find(key, !fallback);
  if (value != nullptr) {
    if (const auto v = integer_in(*value, low, high)) {
      return *v;
    }
    mistake(key, fmt::format("{} is not allowed; expected {}", shown(*value), range_of(low, high)));
  }
  return fallback.value_or(low);
}

double ObjectReader::number(const std::string& key, std::optional<double> fallback, double low, double high) {
  const json* value = find(key, !fallback);
  if (value != nullptr) {
    if (value->is_number() && value->get<double>() >= low && value->get<double>() <= high) {
      return value->get<double>();
    }
    mistake(key, fmt::format("{} is not allowed; expected {}", shown(*value),
                             std::isinf(high) ? fmt::format("a number >= {}", low)
                                              : fmt::format("a number from {} to {}", low, high)));
  }
  return fallback.value_or(low);
}

bool ObjectReader::boolean(const std::string& key, std::optional<bool> fallback) {
  const json* value = find(key, !fallback);
  if (value != nullptr) {
    if (value->is_boolean()) {
      return value->get<bool>();
    }
    mistake(key, fmt::format("{} is not allowed; expected true or false", shown(*value)));
  }
  return fallback.value_or(false);
}

std::string ObjectReader::text(const std::string& key, std::optional<std::string> fallback) {
  const json* value = find(key, !fallback);
  if (value != nullptr) {
    if (value->is_string()) {
      return value->get<std::string>();
    }
    mistake(key, fmt::format("{} is not allowed; expected a string", shown(*value)));
  }
  return fallback.value_or("");
}

std::string ObjectReader::word(const std::string& key, std::optional<std::string> fallback,
                               const std::vector<std::string>& allowed, const std::vector<std::string>& planned) {
  const json* value = find(key, !fallback);
  if (value != nullptr) {
    const std::string word = value->is_string() ? value->get<std::string>() : "";
    const auto among = [&](const std::vector<std::string>& words) {
      return value->is_string() && std::find(words.begin(), words.end(), word) != words.end();
    };
    if (among(allowed)) {
      return word;
    }
    if (among(planned)) {
      mistake(key, fmt::format("{} is not built yet; built: {}", shown(*value), list(allowed)));
    } else {
      mistake(key, fmt::format("{} is not allowed; {}expected one of: {}", shown(*value), suggestion(word, allowed),
                               list(allowed)));
    }
  }
  return fallback.value_or(allowed.front());
}

std::vector<std::int64_t> ObjectReader::integers(const std::string& key, std::int64_t low) {
  std::vector<std::int64_t> result;
  const json* value = raw(key);
  if (value == nullptr) {
    return result;
  }
  if (!value->is_array()) {
    mistake(key, fmt::format("{} is not allowed; expected a list, each {}", shown(*value), range_of(low, INT64_MAX)));
    return result;
  }
  for (const json& item : *value) {
    if (const auto v = integer_in(item, low, INT64_MAX)) {
      result.push_back(*v);
    } else {
      mistake(key, fmt::format("{} in the list is not allowed; expected {}", shown(item), range_of(low, INT64_MAX)));
    }
  }
  return result;
}

std::vector<std::string> ObjectReader::words(const std::string& key, const std::vector<std::string>& allowed) {
  std::vector<std::string> result;
  const json* value = raw(key);
  if (value == nullptr) {
    return result;
  }
  if (!value->is_array()) {
    mistake(key, fmt::format("{} is not allowed; expected a list of: {}", shown(*value), list(allowed)));
    return result;
  }
  for (const json& item : *value) {
    const std::string word = item.is_string() ? item.get<std::string>() : "";
    if (item.is_string() && std::find(allowed.begin(), allowed.end(), word) != allowed.end()) {
      result.push_back(word);
    } else {
      mistake(key, fmt::format("{} in the list is not allowed; {}expected: {}", shown(item), suggestion(word, allowed),
                               list(allowed)));
    }
  }
  return result;
}

std::vector<std::string> ObjectReader::texts(const std::string& key) {
  std::vector<std::string> result;
  const json* value = raw(key);
  if (value == nullptr) {
    return result;
  }
  if (!value->is_array()) {
    mistake(key, fmt::format("{} is not allowed; expected a list of strings", shown(*value)));
    return result;
  }
  for (const json& item : *value) {
    if (item.is_string()) {
      result.push_back(item.get<std::string>());
    } else {
      mistake(key, fmt::format("{} in the list is not allowed; expected a string", shown(item)));
    }
  }
  return result;
}

template <class Q>
Q ObjectReader::quantity(const std::string& key, std::optional<Q> fallback, Q (*parse)(std::string_view),
                         const char* example) {
  const json* value = find(key, !fallback);
  if (value != nullptr) {
    if (value->is_string()) {
      try {
        return parse(value->get_ref<const std::string&>());
      } catch (const InputError& e) {
        mistake(key, e.what());
      }
    } else {
      mistake(key, fmt::format("{} is not allowed; expected a quantity with its unit, such as \"{}\"", shown(*value),
                               example));
    }
  }
  return fallback.value_or(Q{});
}

Time ObjectReader::time(const std::string& key, std::optional<Time> fallback) {
  return quantity(key, fallback, parse_time, "1.2 us");
}

Bytes ObjectReader::bytes(const std::string& key, std::optional<Bytes> fallback) {
  return quantity(key, fallback, parse_bytes, "80 GB");
}

Bandwidth ObjectReader::bandwidth(const std::string& key, std::optional<Bandwidth> fallback) {
  return quantity(key, fallback, parse_bandwidth, "450 GB/s");
}

FlopRate ObjectReader::flop_rate(const std::string& key, std::optional<FlopRate> fallback) {
  return quantity(key, fallback, parse_flop_rate, "312 TFLOP/s");
}

ObjectReader ObjectReader::object(const std::string& key, bool required) {
  const json* value = find(key, required);
  if (value != nullptr && !value->is_object()) {
    mistake(key, fmt::format("{} is not allowed; expected an object", shown(*value)));
    value = nullptr;
  }
  return {*document_, *mistakes_, value, pointer_ + "/" + nlohmann::detail::escape(key)};
}

std::vector<ObjectReader> ObjectReader::objects(const std::string& key, bool required) {
  std::vector<ObjectReader> result;
  const json* value = find(key, required);
  if (value == nullptr) {
    return result;
  }
  if (!value->is_array()) {
    mistake(key, fmt::format("{} is not allowed; expected a list of objects", shown(*value)));
    return result;
  }
  const std::string pointer = pointer_ + "/" + nlohmann::detail::escape(key) + "/";
  for (std::size_t i = 0; i < value->size(); ++i) {
    const json& item = (*value)[i];
    ObjectReader reader(*document_, *mistakes_, &item, pointer + std::to_string(i));
    if (item.is_object()) {
      result.push_back(std::move(reader));
    } else {
      reader.mistake("", fmt::format("{} is not allowed; expected an object", shown(item)));
    }
  }
  return result;
}

std::vector<std::string> ObjectReader::unread() const {
  std::vector<std::string> keys;
  if (object_ == nullptr) {
    return keys;
  }
  for (const auto& [key, value] : object_->items()) {
    if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
      keys.push_back(key);
    }
  }
  return keys;
}

void ObjectReader::finish() {
  for (const std::string& key : unread()) {
    if (mistakes_->full()) {
      mistakes_->add("");
      continue;
    }
    mistake(key, fmt::format("unknown key {}; {}known: {}", shown(key), suggestion(key, known_), list(known_)));
  }
}

}  // namespace foretrain
