#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "plan/dump.h"
#include "plan/graph_fields.h"

namespace foretrain::plan {
namespace {

using Json = nlohmann::json;

// A value and where it stands: messages are "file: /roles/0/blocks/3: what".
struct Source {
  const Json& value;
  const std::string& origin;
  std::string path;

  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("{}: {}: {}", origin, path.empty() ? "/" : path, what));
  }
  [[noreturn]] void expected(const std::string& what) const {
    fail(fmt::format("{} is not allowed; expected {}", shown(value), what));
  }
  Source at(const Json& inner, const std::string& key) const { return {inner, origin, path + "/" + key}; }
};

// null where there is none.
const Json& member(const Json& object, const char* key) {
  static const Json none;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? none : *found;
}

template <class T>
void read(const Source& s, T& x);

// Reads an object's members by name; done() refuses what nobody asked for.
class Reader {
 public:
  Reader(const Source& source, std::size_t known) : source_(source), asked_(known) {
    if (!source.value.is_object()) {
      source.expected("an object");
    }
  }
  template <class T>
  void operator()(const char* key, T& x) {
    const auto found = source_.value.find(key);
    if (found == source_.value.end()) {
      source_.fail(fmt::format("\"{}\" is missing", key));
    }
    read(source_.at(*found, key), x);
    keys_.emplace_back(key);
  }
  void done() const {
    if (source_.value.size() == keys_.size() + asked_) {
      return;
    }
    for (const auto& item : source_.value.items()) {
      if (item.key() != "schema" && item.key() != "op" &&
          std::find(keys_.begin(), keys_.end(), item.key()) == keys_.end()) {
        source_.fail(fmt::format("unknown key \"{}\"; known: {}", item.key(), fmt::join(keys_, ", ")));
      }
    }
  }

 private:
  const Source& source_;
  std::size_t asked_;  // keys that the caller has read itself
  std::vector<std::string> keys_;
};

template <class T>
void read_object(const Source& s, T& x, std::size_t known = 0) {
  Reader reader(s, known);
  fields(reader, x);
  reader.done();
}

void need_array(const Source& s, std::size_t size) {
  if (!s.value.is_array() || s.value.size() != size) {
    s.expected(fmt::format("an array of {}", size));
  }
}

template <class T>
void read_as(const Source& s, std::vector<T>& list) {
  if (!s.value.is_array()) {
    s.expected("an array");
  }
  list.resize(s.value.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    read(s.at(s.value[i], std::to_string(i)), list[i]);
  }
}
template <class T, std::size_t n>
void read_as(const Source& s, std::array<T, n>& list) {
  need_array(s, n);
  for (std::size_t i = 0; i < n; ++i) {
    read(s.at(s.value[i], std::to_string(i)), list[i]);
  }
}
template <class T, std::size_t n>
void read_as(const Source& s, T (&list)[n]) {
  need_array(s, n);
  for (std::size_t i = 0; i < n; ++i) {
    read(s.at(s.value[i], std::to_string(i)), list[i]);
  }
}
template <class A, class B>
void read_as(const Source& s, std::pair<A, B>& pair) {
  need_array(s, 2);
  read(s.at(s.value[0], "0"), pair.first);
  read(s.at(s.value[1], "1"), pair.second);
}
template <class T>
void read_as(const Source& s, std::optional<T>& x) {
  if (!s.value.is_null()) {
    read(s, x.emplace());
  }
}
template <class Tag, class Rep>
void read_as(const Source& s, Quantity<Tag, Rep>& x) {
  read(s, x.value);
}

template <std::size_t index = 0>
void read_work(const Source& s, std::size_t wanted, Work& work) {
  if constexpr (index < std::variant_size_v<Work>) {
    if (index == wanted) {
      read_object(s, work.emplace<index>(), 1);
    } else {
      read_work<index + 1>(s, wanted, work);
    }
  }
}
void read_as(const Source& s, Work& work) {
  const Json& kind = member(s.value, "op");
  const auto found = std::find_if(std::begin(kWorkWords), std::end(kWorkWords),
                                  [&](std::string_view word) { return kind.is_string() && kind == word; });
  if (found == std::end(kWorkWords)) {
    s.fail(fmt::format("\"op\" is {}; expected one of {}", shown(kind), fmt::join(kWorkWords, ", ")));
  }
  read_work(s, static_cast<std::size_t>(found - std::begin(kWorkWords)), work);
}

template <class E>
void read_enum(const Source& s, E& x) {
  std::string words;
  for (int i = 0; i <= static_cast<int>(kLast<E>); ++i) {
    const std::string_view word = name(static_cast<E>(i));
    if (s.value.is_string() && s.value == word) {
      x = static_cast<E>(i);
      return;
    }
    words += (i == 0 ? "" : ", ") + std::string(word);
  }
  s.expected("one of " + words);
}

template <class Int>
void read_integer(const Source& s, Int& x) {
  constexpr std::int64_t low = std::numeric_limits<Int>::min();
  constexpr std::int64_t high =
      sizeof(Int) == 8 ? INT64_MAX : static_cast<std::int64_t>(std::numeric_limits<Int>::max());
  const bool is_huge = s.value.is_number_unsigned() && s.value.get<std::uint64_t>() > INT64_MAX;
  if (!s.value.is_number_integer() || is_huge || s.value.get<std::int64_t>() < low ||
      s.value.get<std::int64_t>() > high) {
    s.expected(fmt::format("an integer from {} to {}", low, high));
  }
  x = static_cast<Int>(s.value.get<std::int64_t>());
}

template <class T>
void read(const Source& s, T& x) {
  if constexpr (std::is_enum_v<T>) {
    read_enum(s, x);
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!s.value.is_boolean()) {
      s.expected("true or false");
    }
    x = s.value.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    read_integer(s, x);
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!s.value.is_number()) {
      s.expected("a number");
    }
    x = s.value.get<T>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!s.value.is_string()) {
      s.expected("a text");
    }
    x = s.value.get<std::string>();
  } else if constexpr (requires { read_as(s, x); }) {
    read_as(s, x);
  } else {
    read_object(s, x);
  }
}

void check_mesh(const Source& s, const Mesh& mesh) {
  std::array<Axis, kAxes> order = mesh.order;
  std::sort(order.begin(), order.end());
  if (std::adjacent_find(order.begin(), order.end()) != order.end()) {
    s.fail("/mesh/order names an axis twice; expected each of pp, dp, cp, tp once");
  }
  constexpr std::int64_t kMost = 1 << 24;
  std::int64_t ranks = 1;
  for (const int extent : mesh.extent) {
    if (extent < 1 || extent > kMost / ranks) {
      s.fail(fmt::format("/mesh/extent: expected integers from 1 on with a product of at most {}", kMost));
    }
    ranks *= extent;
  }
  if (mesh.beside < 0 || mesh.beside > kMost - ranks) {
    s.fail(fmt::format("/mesh/beside: expected an integer from 0 on, and at most {} ranks in all", kMost));
  }
}

}  // namespace

PlanGraph graph_from_json(const std::string& text, const std::string& origin) {
  const JsonDocument document = JsonDocument::from_text(text, origin);
  const Source root{document.root(), origin, ""};
  const Json& schema = member(document.root(), "schema");
  if (schema != "foretrain.graph/1") {
    root.fail(fmt::format("\"schema\" is {}; expected \"foretrain.graph/1\"", shown(schema)));
  }
  PlanGraph g;
  read_object(root, g, 1);
  check_mesh(root, g.mesh);
  return g;
}

}  // namespace foretrain::plan
