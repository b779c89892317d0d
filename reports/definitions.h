// What every figure, field and exit status means: one table for `explain WORD`, JSON schemas and whoever asks.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace foretrain::reports {

enum class Defines { figure, field, status };

struct Definition {
  Defines what{};
  std::string_view name;  // "mfu", "breakdown_s.exposed_tp", "strategy.tp", "exit-3"
  std::string_view text;
};

// Of documents foretrain.estimate/1, where a name stands for every path that ends with it ("peak_bytes"); a last "*"
// for whatever key.
std::span<const Definition> figure_definitions();
// Of job files, by dotted path. Fields of objects inside are told with the object's.
std::span<const Definition> field_definitions();
std::span<const Definition> status_definitions();

// The one of a path in foretrain.estimate/1 ("memory.per_stage[].peak_bytes"): of the longest name that ends it.
const Definition* definition_of_path(std::string_view path);

// Those that a word means: a name, the end of one ("exposed_tp"), or "exit-codes" for all of these. Empty: none.
std::vector<Definition> definitions_of(std::string_view word);
// The nearest name or end of one; "" where none is near.
std::string nearest_defined(const std::string& word);

std::string to_text(const std::vector<Definition>& definitions);

}  // namespace foretrain::reports
