#include "search/validate.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "search/collective_rows.h"
#include "search/error_band.h"
#include "search/row_reader.h"
#include "search/run_rows.h"
#include "search/training_forecast.h"

namespace foretrain::search {
namespace {

using nlohmann::json;
using reports::ValidationRow;

std::string unknown_word(const char* kind, const std::string& word, std::vector<std::string> known) {
  known.erase(std::unique(known.begin(), known.end()), known.end());
  const std::string nearest = nearest_word(word, known);
  return fmt::format("no {} \"{}\" among the rows{}", kind, word,
                     nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest));
}

using RowFunction = std::function<void(const std::string&, const json&)>;

// Calls fn(place, object) for each row. Mistakes are recorded.
void for_each_row(std::istream& in, const std::string& origin, Mistakes& mistakes, const RowFunction& fn) {
  std::string text;
  for (int number = 1; std::getline(in, text) && !mistakes.full(); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) {
      continue;
    }
    const std::string place = fmt::format("{}:{}", origin, number);
    const json object = parse_row(text, place, mistakes);
    if (object.is_null()) {
      continue;
    }
    if (!object.contains("collective") && !object.contains("measured") && !is_run_row(object)) {
      mistakes.add(fmt::format(
          "{}: what kind of row is it? expected \"collective\", \"measured\" or \"run\" among its keys", place));
    } else {
      fn(place, object);
    }
  }
}
void for_each_row(const std::vector<std::string>& paths, Mistakes& mistakes, const RowFunction& fn) {
  for (const std::string& path : paths) {
    std::ifstream in(path);
    std::error_code error;
    if (!in || std::filesystem::is_directory(path, error)) {
      throw InputError(fmt::format("{}: cannot be read; expected a file of one JSON object per line", path));
    }
    for_each_row(in, path, mistakes, fn);
  }
}

// `each` gives every row to the function it is called with; `origin` stands in messages.
reports::Validation validation_of(const std::function<void(Mistakes&, const RowFunction&)>& each,
                                  const std::string& origin, const ValidateOptions& options) {
  Mistakes mistakes;
  const CollectiveForecasts collectives(options.constants);
  const topologies::Operations operations = topologies::load_operations("");
  reports::Validation result;
  std::vector<TrainingRow> trainings;
  std::vector<std::size_t> places;  // of the trainings in the result
  std::vector<std::string> groups;
  each(mistakes, [&](const std::string& place, const json& object) {
    const RowReader line(object, place, mistakes);
    ValidationRow row;
    TrainingRow training;
    const bool is_collective = object.contains("collective");
    const bool is_run = !is_collective && !object.contains("measured");
    if (is_run) {
      const std::string group = line.text("group", true);
      groups.push_back(group);
      if (options.group.empty() || group == options.group) {
        for (ValidationRow& figure : forecast_run(line, operations)) {
          result.rows.push_back(std::move(figure));
        }
      }
      return;
    }
    if (is_collective) {
      row = collectives.forecast(line);
    } else {
      training = read_training_row(line);
      row.group = training.group;
    }
    groups.push_back(row.group);
    if (!options.group.empty() && row.group != options.group) {
      return;
    }
    if (!is_collective) {
      places.push_back(result.rows.size());
      trainings.push_back(std::move(training));
    }
    result.rows.push_back(std::move(row));
  });
  mistakes.throw_if_any();
  if (groups.empty()) {
    throw InputError(fmt::format("{}: holds no row; expected one JSON object per line", origin));
  }
  if (result.rows.empty()) {
    throw InputError(unknown_word("group", options.group, groups));
  }
  if (!trainings.empty()) {
    std::vector<ValidationRow> rows = forecast_all(trainings, load_training_rules(options.rules));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      result.rows[places[i]] = std::move(rows[i]);
    }
    add_bands(result, load_residuals(""));
  }
  return result;
}

}  // namespace

reports::Validation validate(const std::vector<std::string>& paths, const ValidateOptions& options) {
  return validation_of([&](Mistakes& mistakes, const RowFunction& fn) { for_each_row(paths, mistakes, fn); },
                       fmt::format("{}", fmt::join(paths, ", ")), options);
}

reports::Validation validate(std::istream& in, const std::string& origin, const ValidateOptions& options) {
  return validation_of([&](Mistakes& mistakes, const RowFunction& fn) { for_each_row(in, origin, mistakes, fn); },
                       origin, options);
}

std::string explain_row(const std::vector<std::string>& paths, const std::string& id, const ValidateOptions& options,
                        bool colour) {
  Mistakes mistakes;
  std::vector<std::string> ids;
  std::optional<TrainingRow> wanted;
  for_each_row(paths, mistakes, [&](const std::string& place, const json& object) {
    if (object.contains("measured") && !object.contains("collective")) {
      TrainingRow row = read_training_row(RowReader(object, place, mistakes));
      ids.push_back(row.id);
      if (row.id == id && !wanted) {
        wanted = std::move(row);
      }
    }
  });
  mistakes.throw_if_any();
  if (wanted) {
    return explain(*wanted, load_training_rules(options.rules), colour);
  }
  throw InputError(unknown_word("training run", id, ids));
}

}  // namespace foretrain::search
