#include "plan/job.h"

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/catalogue.h"
#include "base/error.h"
#include "plan/job_check.h"
#include "plan/open_job.h"
#include "plan/overrides.h"
#include "topologies/cluster_file.h"
#include "workloads/workload_file.h"

namespace foretrain::plan {

namespace {

constexpr std::array<const char*, 3> kParts{"workload", "cluster", "strategy"};

// The job's document and the documents that its parts point to.
struct Documents {
  JsonDocument root;
  std::array<std::optional<JsonDocument>, 3> parts;  // by kParts; none: the part stands in the root
};

// "workload.optimizer.clip=1" into "optimizer": "adam" first makes an object of the word.
void open_optimizer(JsonDocument& document, const std::string& pointer, const std::string& dotted) {
  const nlohmann::json::json_pointer place(pointer);
  if (document.root().contains(place) && document.root().at(place).is_string()) {
    document.override_value(dotted + "=" + nlohmann::json{{"name", document.root().at(place)}}.dump());
  }
}

// Overrides that lead into a part that stands in a file of its own are applied there.
void apply(Documents& documents, const std::string& assignment) {
  const std::string key = assignment.substr(0, assignment.find('='));
  const std::size_t dot = key.find('.');
  for (std::size_t i = 0; i < kParts.size() && dot != std::string::npos; ++i) {
    if (key.substr(0, dot) == kParts[i] && documents.parts[i]) {
      if (key.starts_with("workload.optimizer.")) {
        open_optimizer(*documents.parts[i], "/optimizer", "optimizer");
      }
      documents.parts[i]->override_value(assignment.substr(dot + 1));
      return;
    }
  }
  if (key.starts_with("workload.optimizer.")) {
    open_optimizer(documents.root, "/workload/optimizer", "workload.optimizer");
  }
  documents.root.override_value(assignment);
}

void apply_all(Documents& documents, const std::vector<std::string>& assignments, bool into_parts, Mistakes& mistakes) {
  for (const std::string& assignment : assignments) {
    const bool deep = assignment.substr(0, assignment.find('=')).find('.') != std::string::npos;
    if (deep != into_parts) {
      continue;
    }
    try {
      apply(documents, assignment);
    } catch (const InputError& e) {
      mistakes.add(e.what());
    }
  }
}

void load_parts(Documents& documents, ObjectReader& root) {
  for (std::size_t i = 0; i < kParts.size(); ++i) {
    const nlohmann::json* value = root.raw(kParts[i]);
    if (value == nullptr || !value->is_string()) {
      continue;
    }
    try {
      documents.parts[i] = JsonDocument::from_file(root.file_path(kParts[i], value->get<std::string>()));
    } catch (const InputError& e) {
      root.mistake(kParts[i], e.what());
    }
  }
}

// The reader of a part, wherever it stands.
ObjectReader part_reader(Documents& documents, std::size_t part, ObjectReader& root) {
  if (documents.parts[part]) {
    ObjectReader reader(*documents.parts[part], root.mistakes());
    reader.integer("version", 1, 1, 1);
    reader.text("name", "");
    reader.text("description", "");
    return reader;
  }
  const nlohmann::json* value = root.raw(kParts[part]);
  const bool broken_file = value != nullptr && value->is_string();  // already a mistake
  return broken_file ? root.absent() : root.object(kParts[part], std::string_view(kParts[part]) != "strategy");
}

// Reads the parts and hands them to `use`. Throws InputError with every mistake, those of `use` too.
Job read_parts(JsonDocument document, const std::vector<std::string>& overrides,
               const std::function<void(Job&, const JobParts&)>& use) {
  Mistakes mistakes;
  std::vector<std::string> assignments;
  for (const std::string& text : overrides) {
    try {
      assignments.push_back(full_override(text));
    } catch (const InputError& e) {
      mistakes.add(e.what());
    }
  }
  Documents documents{std::move(document), {}};
  if (documents.root.root().is_object()) {
    apply_all(documents, assignments, /*into_parts=*/false, mistakes);
  }
  ObjectReader root(documents.root, mistakes);
  if (!root.present()) {
    mistakes.throw_if_any();
  }
  load_parts(documents, root);
  apply_all(documents, assignments, /*into_parts=*/true, mistakes);

  Job job;
  job.origin = documents.root.origin();
  root.integer("version", std::nullopt, 1, 1);
  job.name = root.text("name", "");
  job.description = root.text("description", "");
  ObjectReader workload = part_reader(documents, 0, root);
  ObjectReader cluster = part_reader(documents, 1, root);
  ObjectReader strategy = part_reader(documents, 2, root);

  auto clean = [&mistakes, before = mistakes.count()]() mutable {
    return before == std::exchange(before, mistakes.count());
  };
  job.cluster = topologies::read_cluster(cluster);
  const bool cluster_ok = clean() && cluster.present();
  job.workload = workloads::read_workload(workload, job.cluster.this_machine);
  const bool workload_ok = clean() && workload.present();
  job.strategy = read_strategy(strategy);
  const bool strategy_ok = clean();
  for (ObjectReader* reader : {&root, &workload, &cluster, &strategy}) {
    reader->finish();
  }
  use(job, {workload, cluster, strategy, workload_ok, cluster_ok, strategy_ok});
  mistakes.throw_if_any();
  return job;
}

Job read_job(JsonDocument document, const std::vector<std::string>& overrides) {
  return read_parts(std::move(document), overrides, complete_and_check);
}

}  // namespace

Job load_job(const std::string& path, const std::vector<std::string>& overrides) {
  return read_job(JsonDocument::from_file(path), overrides);
}

Job job_from_text(const std::string& text, const std::string& origin, const std::vector<std::string>& overrides) {
  return read_job(JsonDocument::from_text(text, origin), overrides);
}

namespace {

// A part as it was read, for a file that may lie elsewhere.
nlohmann::ordered_json as_given(const ObjectReader& part, const std::vector<std::string>& paths) {
  nlohmann::json given = part.value() == nullptr ? nlohmann::json::object() : *part.value();
  for (const char* key : {"version", "name", "description"}) {  // of a part in a file of its own
    given.erase(key);
  }
  for (const std::string& key : paths) {
    if (given.contains(key) && given[key].is_string() && !is_catalogue_name(given[key].get<std::string>())) {
      given[key] = part.file_path(key, given[key].get<std::string>());
    }
  }
  return given;
}

OpenJob read_open_job(JsonDocument file, const std::vector<std::string>& overrides) {
  OpenJob open;
  open.job = read_parts(std::move(file), overrides, [&](Job& job, const JobParts& parts) {
    job.cluster.nodes = std::max<std::int64_t>(1, job.cluster.nodes);
    job.strategy = {};
    open.given = std::make_shared<nlohmann::json>(as_given(parts.strategy, {}));
    nlohmann::ordered_json document{{"version", 1}};
    if (!job.name.empty()) {
      document["name"] = job.name;
    }
    document["workload"] = as_given(parts.workload, {"model"});
    document["cluster"] = as_given(parts.cluster, {"system", "profile"});
    open.document = std::make_shared<nlohmann::ordered_json>(std::move(document));
  });
  return open;
}

}  // namespace

OpenJob load_open_job(const std::string& path, const std::vector<std::string>& overrides) {
  return read_open_job(JsonDocument::from_file(path), overrides);
}

OpenJob open_job_from_text(const std::string& text, const std::string& origin,
                           const std::vector<std::string>& overrides) {
  return read_open_job(JsonDocument::from_text(text, origin), overrides);
}

nlohmann::ordered_json document_of(const OpenJob& open, const nlohmann::json& strategy) {
  nlohmann::ordered_json document = *open.document;
  document["strategy"] = strategy;
  return document;
}

Job with_strategy(const Job& open, const nlohmann::json& strategy) {
  Mistakes mistakes;
  const JsonDocument document = JsonDocument::from_text(strategy.dump(), "strategy");
  ObjectReader reader(document, mistakes);
  Job job = open;
  job.strategy = read_strategy(reader);
  reader.finish();
  ObjectReader others = reader.absent();
  complete_and_check(job, {others, others, reader, true, true, mistakes.empty()});
  mistakes.throw_if_any();
  return job;
}

nlohmann::json resolved(const Job& job) {
  nlohmann::json strategy = to_json(job.strategy);
  strategy["layers_per_stage"] = layers_per_stage(job);
  strategy["padded_vocab"] = padded_vocab(job);
  strategy["bucket_bytes"] = fmt::format("{} B", bucket_bytes(job).value);
  nlohmann::json document{{"version", 1},
                          {"workload", workloads::to_json(job.workload)},
                          {"cluster", topologies::to_json(job.cluster)},
                          {"strategy", std::move(strategy)}};
  if (!job.name.empty()) {
    document["name"] = job.name;
  }
  if (!job.description.empty()) {
    document["description"] = job.description;
  }
  return document;
}

std::int64_t Job::microbatches() const {
  const std::vector<std::int64_t>& of = strategy.microbatches_of;
  return of.empty() ? workload.global_batch / (strategy.dp * strategy.micro_batch)
                    : *std::max_element(of.begin(), of.end());
}

std::vector<std::int64_t> layers_per_stage(const Job& job) {
  if (!job.strategy.layers_per_stage.empty()) {
    return job.strategy.layers_per_stage;
  }
  return even_layers(job.workload.model.repeated_layers(), job.strategy.model_stages());
}

std::vector<std::int64_t> even_layers(std::int64_t layers, std::int64_t stages) {
  std::vector<std::int64_t> split(static_cast<std::size_t>(stages), (layers + stages - 1) / stages);
  // Stages one layer short: the last (it has the head), the first (it has the embedding), then from the end backwards.
  std::int64_t shorter = (stages - layers % stages) % stages;
  for (std::int64_t k = 0; k < shorter; ++k) {
    const std::int64_t stage = k == 0 ? stages - 1 : k == 1 ? 0 : stages - k;
    --split[static_cast<std::size_t>(stage)];
  }
  return split;
}

std::int64_t padded_vocab(const Job& job) {
  if (job.strategy.padded_vocab != 0) {
    return job.strategy.padded_vocab;
  }
  if (job.workload.model.is_dense()) {
    return job.workload.model.vocab;
  }
  const std::int64_t unit = 128 * job.strategy.tp;
  return (job.workload.model.vocab + unit - 1) / unit * unit;
}

Bytes bucket_bytes(const Job& job) {
  constexpr std::int64_t kDefaultElements = 40'000'000;
  return {job.strategy.bucket_bytes != 0 ? job.strategy.bucket_bytes
                                         : size_bytes(job.workload.precision.gradient, kDefaultElements)};
}

}  // namespace foretrain::plan
