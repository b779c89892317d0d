#include "search/validate.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "search/row_reader.h"
#include "search/training_forecast.h"
#include "sim/collective_price.h"

namespace foretrain::search {
namespace {

using nlohmann::json;
using reports::ValidationRow;

const std::map<std::string, std::string>& words() {
  static const std::map<std::string, std::string> table{
      {"all_reduce", "all_reduce"}, {"all_gather", "all_gather"}, {"reduce_scatter", "reduce_scatter"},
      {"broadcast", "broadcast"},   {"reduce", "reduce"},         {"alltoall", "all_to_all"},
      {"all_to_all", "all_to_all"}, {"sendrecv", "sendrecv"}};
  return table;
}

std::string unknown_word(const char* kind, const std::string& word, std::vector<std::string> known) {
  known.erase(std::unique(known.begin(), known.end()), known.end());
  const std::string nearest = nearest_word(word, known);
  return fmt::format("no {} \"{}\" among the rows{}", kind, word,
                     nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest));
}

class Collectives {
 public:
  explicit Collectives(const std::string& constants)
      : environments_(topologies::load_network_environments(constants)),
        newest_(topologies::load_nccl_constants(topologies::kNewestNccl)) {}

  ValidationRow row(const RowReader& line) {
    ValidationRow r;
    r.id = line.text("id", true);
    r.group = line.text("table", true);
    r.unit = "us";
    const std::string kind = line.text("collective", true), version = line.text("nccl_version", false);
    const std::optional<double> bytes = line.number("bytes"), time = line.number("time_us");
    const std::optional<std::int64_t> ranks = line.integer("ranks", 1), nodes = line.integer("nodes", 1);
    const bool healthy = line.boolean("healthy").value_or(true);
    r.what = kind;
    r.bytes = bytes.value_or(0);
    r.measured = time;
    const topologies::NetworkEnvironment* environment = topologies::environment_of(environments_, r.group);
    const auto word = words().find(kind);
    if (!healthy) {
      r.skipped = "the source calls the system unhealthy";
    } else if (!time || *time == 0) {
      r.skipped = "no time";
    } else if (!bytes) {
      r.skipped = "no size";
    } else if (!ranks || !nodes) {
      r.skipped = "the number of ranks or nodes is not stated";
    } else if (*ranks < 2 || *nodes > *ranks) {
      r.skipped = fmt::format("{} ranks on {} nodes", *ranks, *nodes);
    } else if (word == words().end()) {
      r.skipped = fmt::format("{} is no collective that the model knows", kind);
    } else if (environment == nullptr) {
      r.skipped = "topologies/network_environments.json has no system for this table";
    } else {
      predict(*environment, word->second, version, static_cast<int>(*ranks), static_cast<int>(*nodes), r);
    }
    return r;
  }

 private:
  void predict(const topologies::NetworkEnvironment& e, const std::string& word, const std::string& version, int ranks,
               int nodes, ValidationRow& r) {
    sim::PriceRequest request;
    request.sendrecv = word == "sendrecv";
    if (!request.sendrecv) {
      request.kind = sim::collective::kind_from_name(word);
    }
    nodes = e.domain > 0 ? (ranks + e.domain - 1) / e.domain : nodes;
    request.group = {ranks, nodes, (ranks + nodes - 1) / nodes};
    const auto& table = nodes == 1 ? e.node : e.fabric;
    const auto found = table.find(word);
    const sim::CollectivePricer pricer(e, newest_, chooser(version));
    r.system = e.name;
    r.fitted = found != table.end();
    r.predicted =
        1e6 * pricer.price(request, r.bytes, r.fitted ? found->second : topologies::CollectiveConstants{}).seconds;
  }
  const topologies::NcclConstants& chooser(const std::string& version) {
    const std::string known = topologies::nccl_constants_for(version);
    const auto found = chooser_.find(known);
    return found != chooser_.end() ? found->second
                                   : chooser_.emplace(known, topologies::load_nccl_constants(known)).first->second;
  }

  std::vector<topologies::NetworkEnvironment> environments_;
  topologies::NcclConstants newest_;
  std::map<std::string, topologies::NcclConstants> chooser_;
};

// Calls fn(place, object) for each row of all files. Mistakes are recorded.
void for_each_row(const std::vector<std::string>& paths, Mistakes& mistakes,
                  const std::function<void(const std::string&, const json&)>& fn) {
  for (const std::string& path : paths) {
    std::ifstream in(path);
    if (!in) {
      throw InputError(fmt::format("{}: cannot be read; expected a file of one JSON object per line", path));
    }
    std::string text;
    for (int number = 1; std::getline(in, text) && !mistakes.full(); ++number) {
      if (text.find_first_not_of(" \t\r") == std::string::npos) {
        continue;
      }
      const std::string place = fmt::format("{}:{}", path, number);
      const json object = json::parse(text, nullptr, false);
      if (!object.is_object()) {
        mistakes.add(fmt::format("{}: expected one JSON object on the line", place));
      } else if (!object.contains("collective") && !object.contains("measured")) {
        mistakes.add(
            fmt::format("{}: what kind of row is it? expected \"collective\" or \"measured\" among its keys", place));
      } else {
        fn(place, object);
      }
    }
  }
}

}  // namespace

reports::Validation validate(const std::vector<std::string>& paths, const ValidateOptions& options) {
  Mistakes mistakes;
  Collectives collectives(options.constants);
  reports::Validation result;
  std::vector<TrainingRow> trainings;
  std::vector<std::size_t> places;  // of the trainings in the result
  std::vector<std::string> groups;
  for_each_row(paths, mistakes, [&](const std::string& place, const json& object) {
    const RowReader line(object, place, mistakes);
    ValidationRow row;
    TrainingRow training;
    const bool is_collective = object.contains("collective");
    if (is_collective) {
      row = collectives.row(line);
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
    throw InputError(fmt::format("{}: holds no row; expected one JSON object per line", fmt::join(paths, ", ")));
  }
  if (result.rows.empty()) {
    throw InputError(unknown_word("group", options.group, groups));
  }
  if (!trainings.empty()) {
    std::vector<ValidationRow> rows = forecast_all(trainings, load_training_rules(options.rules));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      result.rows[places[i]] = std::move(rows[i]);
    }
  }
  return result;
}

std::string explain_row(const std::vector<std::string>& paths, const std::string& id, const ValidateOptions& options,
                        bool colour) {
  Mistakes mistakes;
  std::vector<std::string> ids;
  std::optional<TrainingRow> wanted;
  for_each_row(paths, mistakes, [&](const std::string& place, const json& object) {
    if (!object.contains("collective")) {
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
