#include "exec/checkpoint_manifest.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "exec/checkpoint_shard.h"

namespace foretrain::exec {

namespace {

using nlohmann::json;

constexpr const char* kSchema = "foretrain.checkpoint/1";
constexpr std::int64_t kMost = std::int64_t{1} << 48;

std::uint32_t checksum(const json& content) {
  const std::string text = content.dump();
  return crc32(text.data(), static_cast<std::int64_t>(text.size()));
}

std::string read_name(ObjectReader& reader) {
  const std::string name = reader.text("name", {});
  if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..") {
    reader.mistake("name", fmt::format("\"{}\" is not allowed; expected a file of this folder", name));
  }
  return name;
}

// "/model/layers: 4 in the checkpoint, 2 in this job" for each value that differs.
void add_differences(const json& before, const json& now, const std::string& place, std::vector<std::string>& all) {
  if (before == now) {
    return;
  }
  if (!before.is_object() || !now.is_object()) {
    all.push_back(fmt::format("{}: {} in the checkpoint, {} in this job", place, shown(before), shown(now)));
    return;
  }
  for (const auto& [key, value] : before.items()) {
    add_differences(value, now.value(key, json()), place + "/" + key, all);
  }
  for (const auto& [key, value] : now.items()) {
    if (!before.contains(key)) {
      add_differences(json(), value, place + "/" + key, all);
    }
  }
}

json part(const json& whole, const char* key) {
  return whole.is_object() ? whole.value(key, json()) : json();
}

// What decides which state there is: not what it is called.
json model_of(const json& workload) {
  json model = part(workload, "model");
  if (model.is_object()) {
    model.erase("name");
  }
  return model;
}

// What another way to exchange makes of what ranks had each their own of.
void add_exchange_changes(const json& before, const plan::Strategy& now, std::vector<std::string>& all) {
  if (!before.is_object()) {
    return;
  }
  const auto number = [&](const char* key) { return before.value(key, std::int64_t{1}); };
  const bool drifted = before.value("data_parallel", "") == name(plan::DataParallel::local_sgd);
  const std::int64_t replicas = drifted ? number("dp") / number("local_group") : 1;
  if (replicas > 1 && replicas != now.drifting()) {
    all.push_back(fmt::format("weights and optimizer state of {} replicas are averaged", replicas));
  }
  const std::string coding = before.value("compression", "none");
  const std::int64_t ways = before.value("schedule", "") == name(plan::ScheduleKind::dualpipe) ? 2 : 1;
  const bool had_residuals =
      (coding == "int8" || coding.starts_with("topk:")) && number("dp") * number("cp") * ways > replicas;
  if (had_residuals && !(now.compression.is_coded() && now.replicas() > now.drifting())) {
    all.push_back(fmt::format("what compression {} had put off to later steps is dropped", coding));
  }
}

}  // namespace

Manifest manifest_of_first_step(const plan::Job& job, std::uint64_t seed, const std::string& data) {
  return {1, seed, data, job.workload.global_batch, plan::resolved(job).dump(), {}};
}

std::string to_json(const Manifest& m) {
  json shards = json::array();
  for (const ShardFile& s : m.shards) {
    shards.push_back({{"name", s.name}, {"bytes", s.bytes}, {"header_crc32", s.header_crc}});
  }
  const json content = {{"step", m.step},
                        {"seed", m.seed},
                        {"data", m.data},
                        {"sequences", m.sequences},
                        {"job", json::parse(m.job)},
                        {"shards", std::move(shards)}};
  return json{{"schema", kSchema}, {"crc32", checksum(content)}, {"content", content}}.dump(1) + "\n";
}

Manifest manifest_from_json(std::string_view text, const std::string& origin) {
  const JsonDocument document = JsonDocument::from_text(text, origin);
  Mistakes mistakes;
  ObjectReader root(document, mistakes);
  root.word("schema", {}, {kSchema});
  const std::int64_t crc = root.integer("crc32", {}, 0, UINT32_MAX);
  const json* const raw = root.raw("content");
  if (raw != nullptr && checksum(*raw) != crc) {
    root.mistake("content", fmt::format("its checksum is not {}", crc));
  }
  mistakes.throw_if_any();
  Manifest m;
  ObjectReader content = root.object("content");
  m.step = content.integer("step", {}, 0, kMost);
  if (const json* const seed = content.raw("seed"); seed != nullptr && seed->is_number_unsigned()) {
    m.seed = seed->get<std::uint64_t>();
  } else {
    content.mistake("seed", "expected an integer >= 0");
  }
  m.data = content.text("data", {});
  m.sequences = content.integer("sequences", {}, 0, INT64_MAX);
  if (const json* const job = content.raw("job"); job != nullptr && job->is_object()) {
    m.job = job->dump();
  } else {
    content.mistake("job", "expected a job");
  }
  for (ObjectReader& shard : content.objects("shards")) {
    ShardFile file;
    file.name = read_name(shard);
    file.bytes = shard.integer("bytes", {}, kShardPreamble, kMost);
    file.header_crc = static_cast<std::uint32_t>(shard.integer("header_crc32", {}, 0, UINT32_MAX));
    shard.finish();
    m.shards.push_back(std::move(file));
  }
  content.finish();
  root.finish();
  mistakes.throw_if_any();
  return m;
}

void check_same_state(const Manifest& manifest, const plan::Job& job, const std::string& origin) {
  const json before = part(json::parse(manifest.job), "workload"), now = part(plan::resolved(job), "workload");
  std::vector<std::string> all;
  add_differences(model_of(before), model_of(now), "/workload/model", all);
  add_differences(part(before, "precision"), part(now, "precision"), "/workload/precision", all);
  add_differences(part(part(before, "optimizer"), "name"), part(part(now, "optimizer"), "name"),
                  "/workload/optimizer/name", all);
  if (!all.empty()) {
    throw InputError(fmt::format("{}: is of another run:\n{}", origin, fmt::join(all, "\n")));
  }
}

std::vector<std::string> changes(const Manifest& manifest, const plan::Job& job, std::uint64_t seed,
                                 const std::string& data) {
  std::vector<std::string> all;
  const json before = part(json::parse(manifest.job), "workload"), now = part(plan::resolved(job), "workload");
  for (const char* const key : {"seq_len", "target_len", "global_batch", "optimizer", "attention", "document_length",
                                "masked_share", "loss_scaling"}) {
    add_differences(part(before, key), part(now, key), std::string("/workload/") + key, all);
  }
  const auto data_of = [](const json& workload) {
    json settings = part(workload, "data");
    if (settings.is_object()) {
      settings.erase("path");  // `data` says what is there
    }
    return settings;
  };
  add_differences(data_of(before), data_of(now), "/workload/data", all);
  add_exchange_changes(part(json::parse(manifest.job), "strategy"), job.strategy, all);
  add_differences(manifest.seed, seed, "seed", all);
  add_differences(manifest.data, data, "data", all);
  return all;
}

}  // namespace foretrain::exec
