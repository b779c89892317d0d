#include "search/axis_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "plan/mesh.h"
#include "plan/strategy.h"

namespace foretrain::search {

namespace {

constexpr std::int64_t kMostExtent = 1'000'000;  // as in a job's strategy

template <class... Kinds>
std::vector<std::string> names(Kinds... kinds) {
  return {std::string(plan::name(kinds))...};
}

const std::map<std::string, std::vector<std::string>>& words_of_axes() {
  using plan::CpKind, plan::Recompute;
  using S = plan::ScheduleKind;
  static const std::map<std::string, std::vector<std::string>> all{
      {"schedule",  // interleaved: 1f1b with virtual stages
       names(S::gpipe, S::one_f_one_b, S::zb_h1, S::zb_h2, S::zb_v, S::dualpipe_v, S::dualpipe)},
      {"recompute", names(Recompute::none, Recompute::selective, Recompute::full)},
      {"cp_kind", names(CpKind::ring, CpKind::all_to_all, CpKind::all_gather)},
  };
  return all;
}

// As a job's strategy tells it from a name.
bool is_schedule_file(const std::string& key, const nlohmann::json& value) {
  return key == "schedule" && value.is_string() && value.get<std::string>().find_first_of("/.") != std::string::npos;
}

bool is_between(const nlohmann::json& value, std::int64_t low, std::int64_t high) {
  return value.is_number_integer() && value >= low && value <= high;
}

}  // namespace

std::string expected_instead(const std::string& key, const nlohmann::json& value) {
  if (const auto words = words_of_axes().find(key); words != words_of_axes().end()) {
    const bool known = is_schedule_file(key, value) ||
                       (value.is_string() && std::count(words->second.begin(), words->second.end(), value) > 0);
    return known ? "" : fmt::format("one of: {}", fmt::join(words->second, ", "));
  }
  if (key == "rank_order") {
    try {
      plan::parse_rank_order(value.is_string() ? value.get<std::string>() : "");
      return "";
    } catch (const InputError&) {
      return "a list of orders, as [\"dp,pp,cp,tp\"]";
    }
  }
  if (key == "sequence_parallel" || key.starts_with("overlap_")) {
    return value.is_boolean() ? "" : "true or false";
  }
  if (key == "zero") {
    return is_between(value, 0, 3) ? "" : "an integer from 0 to 3";
  }
  if (key == "shard") {
    return value == 0 || is_between(value, 2, kMostExtent) ? "" : "0, or an integer from 2 to 1000000";
  }
  return is_between(value, 1, kMostExtent) ? "" : "an integer from 1 to 1000000";
}

}  // namespace foretrain::search
