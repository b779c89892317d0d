#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "plan/dump.h"
#include "plan/graph_fields.h"

namespace foretrain::plan {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json written(const T& x);

class Writer {
 public:
  template <class T>
  void operator()(const char* key, const T& x) {
    object_[key] = written(x);
  }
  Json take() { return std::move(object_); }

 private:
  Json object_ = Json::object();
};

template <class List>
Json written_list(const List& list) {
  Json array = Json::array();
  for (const auto& x : list) {
    array.push_back(written(x));
  }
  return array;
}

template <class T>
Json written_as(const std::vector<T>& list) {
  return written_list(list);
}
template <class T, std::size_t n>
Json written_as(const std::array<T, n>& list) {
  return written_list(list);
}
template <class T, std::size_t n>
Json written_as(const T (&list)[n]) {
  return written_list(list);
}
template <class A, class B>
Json written_as(const std::pair<A, B>& pair) {
  return Json::array({written(pair.first), written(pair.second)});
}
template <class T>
Json written_as(const std::optional<T>& x) {
  return x ? written(*x) : Json();
}
template <class Tag, class Rep>
Json written_as(const Quantity<Tag, Rep>& x) {
  return x.value;
}
// An op's kind stands beside its shapes. (A template, because every shape converts to Work.)
template <Of<Work> W>
Json written_as(const W& work) {
  return std::visit(
      [&](const auto& shapes) {
        Json object = {{"op", kWorkWords[work.index()]}};
        object.update(written(shapes));
        return object;
      },
      work);
}

template <class T>
Json written(const T& x) {
  if constexpr (std::is_enum_v<T>) {
    return name(x);
  } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
    return x;
  } else if constexpr (requires { written_as(x); }) {
    return written_as(x);
  } else {
    Writer writer;
    fields(writer, x);
    return writer.take();
  }
}

}  // namespace

std::string to_json(const PlanGraph& g) {
  Json document = {{"schema", "foretrain.graph/1"}};
  document.update(written(g));
  return document.dump(1) + "\n";
}

}  // namespace foretrain::plan
