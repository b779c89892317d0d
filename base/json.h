// Strict JSON reading: every value knows its file, line and JSON path; all mistakes of a document are collected and
// reported at once. Parsing is bounded (depth 64, 64 MB), so that hostile input ends in an error, not in a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace foretrain {

// A parsed document that remembers on which line each value stood. Movable; cursors point into it.
class JsonDocument {
 public:
  // Reads and parses; throws InputError with "file:line: what" for a missing, truncated, binary, too deep or too large
  // file.
  static JsonDocument from_file(const std::string& path);
  // `origin` stands in messages where a file name would ("command line", "inline").
  static JsonDocument from_text(std::string_view text, std::string origin);

  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();

  const nlohmann::json& root() const;
  const std::string& origin() const;
  // Line of the value at a JSON pointer ("/workload/model"); 0 when it came from an override or is absent.
  int line(const std::string& pointer) const;

  // Sets the value at a dotted path from "strategy.tp=4" of the command line; the value is JSON where it parses as
  // JSON, else a string. Objects on the way are made where absent. Throws InputError for malformed text and for a path
  // that leads through something other than an object.
  void override_value(const std::string& key_equals_value);
  // Whether the value at a pointer, or one that holds it, came from override_value.
  bool overridden(const std::string& pointer) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  JsonDocument();
};

// What stood there, on one line and not too long, for messages.
std::string shown(const nlohmann::json& value);

// Collects the mistakes of one or several documents; `throw_if_any` throws one InputError with a line for each. Only
// the first kShown are kept, the others counted: hostile input must not cost more than an honest one.
class Mistakes {
 public:
  static constexpr std::size_t kShown = 100;
  void add(std::string message);
  bool empty() const { return messages_.empty(); }
  bool full() const { return messages_.size() >= kShown; }
  std::size_t count() const { return messages_.size() + unshown_; }
  const std::vector<std::string>& messages() const { return messages_; }
  void throw_if_any() const;

 private:
  std::vector<std::string> messages_;
  std::size_t unshown_ = 0;
};

// A view of one object, read key by key. A reader never throws for content: it records a mistake
// ("job.json:12: /strategy/tp: \"two\" is not allowed; expected an integer >= 1") and returns the fallback.
// finish() records every key that nobody asked for, with the nearest known one.
class ObjectReader {
 public:
  ObjectReader(const JsonDocument& document, Mistakes& mistakes);  // the root; records a mistake if it is not an object

  bool present() const { return object_ != nullptr; }  // false: the object was absent or no object
  bool has(const std::string& key);                    // marks the key as known
  std::int64_t integer(const std::string& key, std::optional<std::int64_t> fallback, std::int64_t low,
                       std::int64_t high = INT64_MAX);
  double number(const std::string& key, std::optional<double> fallback, double low, double high);
  bool boolean(const std::string& key, std::optional<bool> fallback);
  std::string text(const std::string& key, std::optional<std::string> fallback);
  // One of `allowed`; the message names the nearest. A word of `planned` is known to the format but refused by name as
  // "not built yet".
  std::string word(const std::string& key, std::optional<std::string> fallback, const std::vector<std::string>& allowed,
                   const std::vector<std::string>& planned = {});
  std::vector<std::int64_t> integers(const std::string& key, std::int64_t low);
  std::vector<std::string> words(const std::string& key, const std::vector<std::string>& allowed);
  std::vector<std::string> texts(const std::string& key);  // a list of strings; absent: empty
  // Quantities, units in the value.
  Time time(const std::string& key, std::optional<Time> fallback);
  Bytes bytes(const std::string& key, std::optional<Bytes> fallback);
  Bandwidth bandwidth(const std::string& key, std::optional<Bandwidth> fallback);
  FlopRate flop_rate(const std::string& key, std::optional<FlopRate> fallback);

  // A nested object; an absent optional one reads as {}, an absent required one too (and no key of it is then missing).
  ObjectReader object(const std::string& key, bool required = true);
  std::vector<ObjectReader> objects(const std::string& key, bool required = true);
  const nlohmann::json* value() const { return object_; }                              // all of it; nullptr when absent
  ObjectReader absent() const { return {*document_, *mistakes_, nullptr, pointer_}; }  // in place of an unreadable one
  const nlohmann::json* raw(const std::string& key);  // marks the key as known; nullptr when absent

  // A file that the value at `key` names: relative to the folder of its document (of the process, where it came from
  // the command line), made absolute.
  std::string file_path(const std::string& key, const std::string& value) const;

  // A mistake at /this/object/key (key may be ""): "file:line: /path: what".
  void mistake(const std::string& key, const std::string& what);
  void finish();
  std::vector<std::string> unread() const;           // keys that nobody asked for
  Mistakes& mistakes() const { return *mistakes_; }  // for a document that this one points to
  std::string place(const std::string& key) const;   // "file:line: /path"

 private:
  ObjectReader(const JsonDocument& document, Mistakes& mistakes, const nlohmann::json* object, std::string pointer);
  const nlohmann::json* find(const std::string& key, bool required);
  template <class Q>
  Q quantity(const std::string& key, std::optional<Q> fallback, Q (*parse)(std::string_view), const char* example);
  const JsonDocument* document_;
  Mistakes* mistakes_;
  const nlohmann::json* object_;
  std::string pointer_;
  std::vector<std::string> known_;
};

}  // namespace foretrain
