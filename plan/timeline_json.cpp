#include <fmt/format.h>

#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "plan/timeline.h"

namespace foretrain::plan {
namespace {

constexpr const char* kSchema = "foretrain.timeline/1";
constexpr const char* kFields = "role, instance, position, step, stream, multiplicity, rank, start_ps, end_ps";
constexpr std::size_t kFieldCount = 9;

// Reads with a message that says where: "run.json: /spans/3/7: …".
struct Reader {
  const std::string& origin;

  [[noreturn]] void fail(const std::string& place, const std::string& what) const {
    throw InputError(fmt::format("{}: {}: {}", origin, place, what));
  }

  const nlohmann::json& member(const nlohmann::json& object, const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) {
      fail(std::string("/") + key, "missing");
    }
    return *found;
  }

  template <class Int>
  Int integer(const nlohmann::json& value, std::int64_t low, const std::string& place) const {
    // Half of the range: sums of two never wrap.
    const std::int64_t high = std::numeric_limits<Int>::max() / 2;
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX) ||
        value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
      fail(place, fmt::format("{} is not allowed; expected an integer from {} to {}", shown(value), low, high));
    }
    return static_cast<Int>(value.get<std::int64_t>());
  }
};

Span read_span(const Reader& reader, const nlohmann::json& row, std::size_t index) {
  if (!row.is_array() || row.size() != kFieldCount) {
    reader.fail(fmt::format("/spans/{}", index), fmt::format("expected [{}]", kFields));
  }
  std::size_t field = 0;
  const auto next = [&](auto& target, std::int64_t low) {
    const std::string place = fmt::format("/spans/{}/{}", index, field);
    target = reader.integer<std::remove_reference_t<decltype(target)>>(row[field], low, place);
    ++field;
  };
  Span s;
  next(s.op.role, 0);
  next(s.op.instance, 0);
  next(s.op.position, 0);
  next(s.step, 0);
  next(s.stream, 0);
  next(s.multiplicity, 1);
  next(s.rank, 0);
  next(s.start.value, 0);
  next(s.end.value, s.start.value);
  return s;
}

}  // namespace

std::string to_json(const Timeline& t) {
  std::string text = fmt::format("{{\"schema\":\"{}\",\n\"machine\":{},\n\"step_ends_ps\":[", kSchema,
                                 nlohmann::json(t.machine).dump());
  const auto out = std::back_inserter(text);
  const auto add_times = [&](const std::vector<Time>& times) {
    for (std::size_t i = 0; i < times.size(); ++i) {
      fmt::format_to(out, "{}{}", i == 0 ? "" : ",", times[i].value);
    }
  };
  add_times(t.step_ends);
  if (!t.stolen.empty()) {
    text += "],\n\"stolen_ps\":[";
    add_times(t.stolen);
  }
  fmt::format_to(out, "],\n\"fields\":\"{}\",\n\"spans\":[", kFields);
  for (std::size_t i = 0; i < t.spans.size(); ++i) {
    const Span& s = t.spans[i];
    fmt::format_to(out, "{}\n[{},{},{},{},{},{},{},{},{}]", i == 0 ? "" : ",", s.op.role, s.op.instance, s.op.position,
                   s.step, static_cast<int>(s.stream), s.multiplicity, s.rank, s.start.value, s.end.value);
  }
  text += "]}\n";
  return text;
}

Timeline timeline_from_json(const std::string& text, const std::string& origin) {
  const Reader reader{origin};
  const JsonDocument parsed = JsonDocument::from_text(text, origin);
  const nlohmann::json& document = parsed.root();
  if (!document.is_object()) {
    reader.fail("/", "expected an object");
  }
  const nlohmann::json& schema = reader.member(document, "schema");
  if (schema != kSchema) {
    reader.fail("/schema", fmt::format("{} is not allowed; expected \"{}\"", shown(schema), kSchema));
  }
  const nlohmann::json& machine = reader.member(document, "machine");
  const nlohmann::json& step_ends = reader.member(document, "step_ends_ps");
  const nlohmann::json& spans = reader.member(document, "spans");
  if (!machine.is_string() || !step_ends.is_array() || !spans.is_array()) {
    reader.fail("/", "expected a text \"machine\" and arrays \"step_ends_ps\" and \"spans\"");
  }
  Timeline t;
  t.machine = machine.get<std::string>();
  const auto times = [&](const nlohmann::json& values, const char* where) {
    std::vector<Time> out;
    for (std::size_t i = 0; i < values.size(); ++i) {
      out.push_back(Time{reader.integer<std::int64_t>(values[i], 0, fmt::format("/{}/{}", where, i))});
    }
    return out;
  };
  t.step_ends = times(step_ends, "step_ends_ps");
  if (const auto stolen = document.find("stolen_ps"); stolen != document.end()) {
    if (!stolen->is_array() || stolen->size() != step_ends.size()) {
      reader.fail("/stolen_ps", "expected an array as long as \"step_ends_ps\"");
    }
    t.stolen = times(*stolen, "stolen_ps");
  }
  t.spans.reserve(spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    t.spans.push_back(read_span(reader, spans[i], i));
  }
  return t;
}

}  // namespace foretrain::plan
