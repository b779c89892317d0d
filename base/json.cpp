#include "base/json.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/kept_files.h"

namespace foretrain {

namespace {

constexpr std::size_t kMaxBytes = 64'000'000;
constexpr std::size_t kMaxDepth = 64;

// Characters of the text, counted as the parser takes them, so that a handler knows where it stands.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** position) : at_(at), position_(position) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *position_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  const char** position_;
};

int line_at(std::string_view text, std::size_t offset) {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n'));
}

bool is_utf8(const std::string& text) {
  using Handler = nlohmann::json::error_handler_t;
  const nlohmann::json value = text;
  return value.dump(-1, ' ', false, Handler::ignore) == value.dump(-1, ' ', false, Handler::replace);
}

std::string printable(std::string_view text, std::size_t shown) {
  std::string clean;
  for (const char c : text.substr(0, shown)) {
    clean += (c >= 0x20 && c < 0x7f) ? c : '?';
  }
  return clean + (text.size() > shown ? "..." : "");
}

// Builds the tree, and stops at the first thing that is not strict, bounded JSON.
class TreeBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  TreeBuilder(std::string_view text, const char* const* position) : text_(text), position_(position) {}

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(v); }
  bool number_unsigned(number_unsigned_t v) override { return put(v); }
  bool number_float(number_float_t v, const string_t&) override { return put(v); }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return stop("binary value"); }  // the text format has none
  bool start_object(std::size_t) override { return open(nlohmann::json::object()); }
  bool start_array(std::size_t) override { return open(nlohmann::json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& v) override {
    if (stack_.back()->contains(v)) {
      return stop(fmt::format("the key \"{}\" stands twice in one object", printable(v, 60)));
    }
    key_ = v;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) override {
    std::string what = e.what();
    // "[json.exception.parse_error.101] parse error at line 3, column 8: syntax error while …": ours names the line.
    if (const std::size_t bracket = what.find("] "); bracket != std::string::npos) {
      what.erase(0, bracket + 2);
    }
    if (const std::size_t colon = what.find(": "); what.starts_with("parse error") && colon != std::string::npos) {
      what.erase(0, colon + 2);
    }
    line = line_at(text_, std::min(text_.size(), position == 0 ? 0 : position - 1));
    failure = "not valid JSON: " + printable(what, 160);
    return false;
  }

  nlohmann::json root;
  std::string failure;
  int line = 0;

 private:
  bool stop(std::string what) {
    line = line_at(text_, static_cast<std::size_t>(*position_ - text_.data()));
    failure = std::move(what);
    return false;
  }

  nlohmann::json* place(nlohmann::json value) {
    if (stack_.empty()) {
      root = std::move(value);
      return &root;
    }
    nlohmann::json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool put(nlohmann::json value) {
    place(std::move(value));
    return true;
  }
  bool open(nlohmann::json value) {
    if (stack_.size() == kMaxDepth) {
      return stop(fmt::format("nested deeper than {} levels", kMaxDepth));
    }
    stack_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  std::string_view text_;
  const char* const* position_;
  std::vector<nlohmann::json*> stack_;  // open containers; a child's address is stable while it is open
  std::string key_;
};

// Finds where the value at a pointer starts in text that is known to be valid JSON, without building anything.
class Locator {
 public:
  explicit Locator(std::string_view text) : text_(text) {}

  std::optional<std::size_t> find(const nlohmann::json& root, const std::string& pointer) {
    space();
    const nlohmann::json* value = &root;
    std::size_t from = 0;
    while (from < pointer.size()) {
      const std::size_t end = std::min(pointer.find('/', from + 1), pointer.size());
      std::string token = pointer.substr(from + 1, end - from - 1);
      nlohmann::detail::unescape(token);
      from = end;
      if (value->is_object() && value->contains(token)) {
        value = &(*value)[token];
        if (!enter_key(token)) {
          return std::nullopt;
        }
      } else if (value->is_array() && enter_index(token)) {
        value = &(*value)[std::stoul(token)];
      } else {
        return std::nullopt;
      }
    }
    return at_;
  }

 private:
  void space() {
    if (at_ == 0 && text_.starts_with("\xef\xbb\xbf")) {
      at_ = 3;
    }
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) {
      ++at_;
    }
  }

  std::size_t string_end(std::size_t quote) const {
    std::size_t end = quote + 1;
    while (text_[end] != '"') {
      end += text_[end] == '\\' ? 2 : 1;
    }
    return end + 1;
  }

  void skip_value() {
    int depth = 0;
    do {
      const char c = text_[at_];
      if (c == '"') {
        at_ = string_end(at_);
        continue;
      }
      depth += (c == '{' || c == '[') ? 1 : (c == '}' || c == ']') ? -1 : 0;
      ++at_;
      if (depth == 0 && c != '}' && c != ']') {
        while (at_ < text_.size() && std::string_view(",]} \t\r\n").find(text_[at_]) == std::string_view::npos) {
          ++at_;
        }
      }
    } while (depth > 0);
    space();
  }

  // From '{' or '[' or from behind a value to the start of the next one; false at the end of the container.
  bool next() {
    const char c = text_[at_];
    if (c == '}' || c == ']') {
      return false;
    }
    ++at_;
    space();
    return text_[at_] != '}' && text_[at_] != ']';
  }

  bool enter_key(const std::string& key) {
    if (text_[at_] != '{') {
      return false;  // replaced by an override
    }
    while (next()) {
      const std::size_t quote = at_;
      at_ = string_end(quote);
      const std::string_view raw = text_.substr(quote + 1, at_ - quote - 2);
      const bool found =
          raw.find('\\') == std::string_view::npos
              ? raw == key
              : nlohmann::json::parse(text_.substr(quote, at_ - quote)).get_ref<const std::string&>() == key;
      space();
      ++at_;  // the colon
      space();
      if (found) {
        return true;
      }
      skip_value();
    }
    return false;
  }

  bool enter_index(const std::string& index) {
    if (text_[at_] != '[' || index.empty() || index.size() > 9 || !std::all_of(index.begin(), index.end(), ::isdigit)) {
      return false;
    }
    std::size_t left = std::stoul(index);
    while (next()) {
      if (left == 0) {
        return true;
      }
      --left;
      skip_value();
    }
    return false;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

struct Parsed {
  nlohmann::json root;
  std::string failure;  // empty: parsed
  int line = 0;
};

Parsed parse(std::string_view text) {
  if (text.size() > kMaxBytes) {
    return {{}, fmt::format("larger than {}", to_string(Bytes{kMaxBytes})), 1};
  }
  if (text.substr(0, 4096).find('\0') != std::string_view::npos) {
    return {{}, "binary data, not JSON text", 1};
  }
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return {{}, "empty; expected JSON text", 1};
  }
  const char* position = text.data();
  TreeBuilder builder(text, &position);
  const bool ok = nlohmann::json::sax_parse(CountingIterator(text.data(), &position),
                                            CountingIterator(text.data() + text.size(), &position), &builder);
  if (!ok) {
    return {{}, std::move(builder.failure), builder.line};
  }
  return {std::move(builder.root), {}, 0};
}

std::string read_bounded(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    throw InputError(fmt::format("{}: no such file", path));
  }
  if (fs::is_directory(status)) {
    throw InputError(fmt::format("{}: a directory; expected a JSON file", path));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw InputError(fmt::format("{}: cannot be opened for reading", path));
  }
  // In pieces and bounded: the path may name a pipe or an endless device.
  std::string text;
  std::string piece(1 << 16, '\0');
  while (text.size() <= kMaxBytes && file) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    text.append(piece, 0, static_cast<std::size_t>(file.gcount()));
  }
  if (file.bad()) {
    throw InputError(fmt::format("{}: reading failed after {}", path, to_string(Bytes{std::ssize(text)})));
  }
  return text;
}

// What stands in a file, or in a text.
struct Content {
  std::string text;
  nlohmann::json root;
};

Content content_of(std::string text, const std::string& origin) {
  Parsed parsed = parse(text);
  if (!parsed.failure.empty()) {
    throw InputError(fmt::format("{}:{}: {}", origin, parsed.line, parsed.failure));
  }
  return {std::move(text), std::move(parsed.root)};
}

}  // namespace

struct JsonDocument::Impl {
  std::string origin;
  std::shared_ptr<const Content> content;  // as it was read
  nlohmann::json root;                     // its own, which overrides change under readers that have begun
  std::set<std::string> overrides;         // pointers
};

JsonDocument::JsonDocument() : impl_(std::make_unique<Impl>()) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

JsonDocument JsonDocument::from_file(const std::string& path) {
  static KeptFiles<Content> files;
  JsonDocument document;
  document.impl_->origin = path;
  document.impl_->content = files.get(path, [](const std::string& p) { return content_of(read_bounded(p), p); });
  document.impl_->root = document.impl_->content->root;
  return document;
}

JsonDocument JsonDocument::from_text(std::string_view text, std::string origin) {
  JsonDocument document;
  Content content = content_of(std::string(text), origin);
  document.impl_->root = std::move(content.root);
  document.impl_->content = std::make_shared<const Content>(std::move(content));
  document.impl_->origin = std::move(origin);
  return document;
}

const nlohmann::json& JsonDocument::root() const {
  return impl_->root;
}
const std::string& JsonDocument::origin() const {
  return impl_->origin;
}

int JsonDocument::line(const std::string& pointer) const {
  if (overridden(pointer)) {
    return 0;
  }
  const std::string& text = impl_->content->text;
  const std::optional<std::size_t> offset = Locator(text).find(impl_->root, pointer);
  return offset ? line_at(text, *offset) : 0;
}

bool JsonDocument::overridden(const std::string& pointer) const {
  return std::any_of(impl_->overrides.begin(), impl_->overrides.end(), [&](const std::string& set) {
    return pointer == set || (pointer.starts_with(set) && pointer[set.size()] == '/');
  });
}

void JsonDocument::override_value(const std::string& key_equals_value) {
  const std::size_t equals = key_equals_value.find('=');
  const std::string key = key_equals_value.substr(0, equals);
  if (equals == std::string::npos || key.empty() || key.front() == '.' || key.back() == '.' ||
      key.find("..") != std::string::npos || std::count(key.begin(), key.end(), '.') >= 16) {
    throw InputError(
        fmt::format("override \"{}\": expected key=value, such as strategy.tp=4", printable(key_equals_value, 60)));
  }
  if (!is_utf8(key_equals_value)) {
    throw InputError(fmt::format("override \"{}\": not UTF-8", printable(key_equals_value, 60)));
  }
  nlohmann::json* value = &impl_->root;
  std::string pointer;
  for (std::size_t from = 0; from <= key.size();) {
    const std::size_t end = std::min(key.find('.', from), key.size());
    std::string token = key.substr(from, end - from);
    if (!value->is_object()) {
      throw InputError(fmt::format("override \"{}\": {}: {} is not an object and has no key \"{}\"",
                                   printable(key_equals_value, 60), pointer.empty() ? "/" : pointer,
                                   printable(value->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace), 60),
                                   printable(token, 60)));
    }
    value = &(*value)[token];
    pointer += "/" + nlohmann::detail::escape(std::move(token));
    if (value->is_null() && end < key.size()) {
      *value = nlohmann::json::object();
      impl_->overrides.insert(pointer);
    }
    from = end + 1;
  }
  const std::string text = key_equals_value.substr(equals + 1);
  Parsed parsed = parse(text);
  *value = parsed.failure.empty() ? std::move(parsed.root) : nlohmann::json(text);
  impl_->overrides.insert(std::move(pointer));
}

}  // namespace foretrain
