#include "search/validate.h"

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "sim/collective_price.h"

namespace foretrain::search {
namespace {

using nlohmann::json;
using reports::ValidationRow;

// One line, read strictly: mistakes name file, line and key.
class Line {
 public:
  Line(const json& object, std::string place, Mistakes& mistakes)
      : object_(object), place_(std::move(place)), mistakes_(mistakes) {}

  std::string text(const char* key, bool required) const {
    const json* v = find(key, required);
    if (v == nullptr) {
      return "";
    }
    if (!v->is_string()) {
      wrong(key, *v, "a text");
      return "";
    }
    return v->get<std::string>();
  }
  // Finite and >= 0; nothing where the key is absent or null.
  std::optional<double> number(const char* key) const {
    const json* v = find(key, false);
    if (v == nullptr) {
      return std::nullopt;
    }
    if (!v->is_number() || !std::isfinite(v->get<double>()) || v->get<double>() < 0) {
      wrong(key, *v, "a number >= 0");
      return std::nullopt;
    }
    return v->get<double>();
  }
  std::optional<int> integer(const char* key, int low) const {
    const json* v = find(key, false);
    if (v == nullptr) {
      return std::nullopt;
    }
    constexpr int kMost = 1 << 24;
    if (!v->is_number_integer() || v->get<double>() < low || v->get<double>() > kMost) {
      wrong(key, *v, fmt::format("an integer from {} to {}", low, kMost));
      return std::nullopt;
    }
    return v->get<int>();
  }
  bool boolean(const char* key, bool fallback) const {
    const json* v = find(key, false);
    if (v != nullptr && !v->is_boolean()) {
      wrong(key, *v, "true or false");
      return fallback;
    }
    return v == nullptr ? fallback : v->get<bool>();
  }

 private:
  const json* find(const char* key, bool required) const {
    const auto found = object_.find(key);
    if (found != object_.end() && !found->is_null()) {
      return &*found;
    }
    if (required) {
      mistakes_.add(fmt::format("{}: /{} is missing", place_, key));
    }
    return nullptr;
  }
  void wrong(const char* key, const json& value, const std::string& expected) const {
    mistakes_.add(fmt::format("{}: /{}: {} is not allowed; expected {}", place_, key, shown(value), expected));
  }
  const json& object_;
  std::string place_;
  Mistakes& mistakes_;
};

const std::map<std::string, std::string>& words() {
  static const std::map<std::string, std::string> table{
      {"all_reduce", "all_reduce"}, {"all_gather", "all_gather"}, {"reduce_scatter", "reduce_scatter"},
      {"broadcast", "broadcast"},   {"reduce", "reduce"},         {"alltoall", "all_to_all"},
      {"all_to_all", "all_to_all"}, {"sendrecv", "sendrecv"}};
  return table;
}

class Collectives {
 public:
  explicit Collectives(const std::string& constants)
      : environments_(topologies::load_network_environments(constants)),
        newest_(topologies::load_nccl_constants(topologies::kNewestNccl)) {}

  ValidationRow row(const Line& line) {
    ValidationRow r;
    r.id = line.text("id", true);
    r.group = line.text("table", true);
    r.unit = "us";
    const std::string kind = line.text("collective", true), version = line.text("nccl_version", false);
    const std::optional<double> bytes = line.number("bytes"), time = line.number("time_us");
    const std::optional<int> ranks = line.integer("ranks", 1), nodes = line.integer("nodes", 1);
    const bool healthy = line.boolean("healthy", true);
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
    } else if (*ranks % *nodes != 0) {
      r.skipped = fmt::format("{} ranks on {} nodes; the model knows nodes with as many ranks each", *ranks, *nodes);
    } else if (word == words().end()) {
      std::vector<std::string> known;
      for (const auto& w : words()) {
        known.push_back(w.first);
      }
      r.skipped = fmt::format("\"{}\" is no collective; known: {}", kind, fmt::join(known, ", "));
    } else if (environment == nullptr) {
      r.skipped = "topologies/network_environments.json has no system for this table";
    } else {
      predict(*environment, word->second, version, *ranks, *nodes, r);
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

}  // namespace

reports::Validation validate(const std::string& path, const std::string& constants) {
  std::ifstream in(path);
  if (!in) {
    throw InputError(fmt::format("{}: cannot be read; expected a file of one JSON object per line", path));
  }
  return validate(in, path, constants);
}

reports::Validation validate(std::istream& in, const std::string& path, const std::string& constants) {
  Collectives collectives(constants);
  reports::Validation result;
  Mistakes mistakes;
  std::string text;
  for (int number = 1; std::getline(in, text) && !mistakes.full(); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) {
      continue;
    }
    const std::string place = fmt::format("{}:{}", path, number);
    const json object = json::parse(text, nullptr, false);
    if (!object.is_object()) {
      mistakes.add(fmt::format("{}: expected one JSON object on the line", place));
      continue;
    }
    const Line line(object, place, mistakes);
    if (object.contains("collective")) {
      result.rows.push_back(collectives.row(line));
    } else if (object.contains("measured")) {
      ValidationRow r;
      r.id = line.text("id", true);
      r.group = line.text("group", true);
      r.unit = "s";
      r.skipped = "training rows are not supported yet";
      result.rows.push_back(std::move(r));
    } else {
      mistakes.add(
          fmt::format("{}: what kind of row is it? expected \"collective\" or \"measured\" among its keys", place));
    }
  }
  mistakes.throw_if_any();
  if (result.rows.empty()) {
    throw InputError(fmt::format("{}: holds no row; expected one JSON object per line", path));
  }
  return result;
}

}  // namespace foretrain::search
