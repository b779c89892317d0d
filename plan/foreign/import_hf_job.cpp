// A Hugging Face config.json as a job: the model is its, all else is assumed.
#include <algorithm>

#include "plan/foreign/finish_import.h"
#include "plan/foreign/foreign.h"
#include "workloads/hf_config.h"
#include "workloads/model_file.h"

namespace foretrain::plan {

ImportedJob import_hf_job(const std::string& text, const std::string& origin, const ImportOptions& options) {
  const JsonDocument document = JsonDocument::from_text(text, origin);
  Mistakes mistakes;
  const workloads::Model model = workloads::import_hf_config(document, mistakes);
  mistakes.throw_if_any();
  constexpr std::int64_t kUsualLength = 4096;
  const nlohmann::json& places = document.root().contains("max_position_embeddings")
                                     ? document.root().at("max_position_embeddings")
                                     : nlohmann::json(nullptr);
  const std::int64_t most = model.max_positions > 0      ? model.max_positions
                            : places.is_number_integer() ? std::max<std::int64_t>(1, places.get<std::int64_t>())
                                                         : kUsualLength;
  const std::string type = document.root().value("model_type", std::string("?"));
  SettingReader r("Hugging Face config", origin, {{"model_type", {type}, document.line("/model_type")}},
                  overridden_fields(options.overrides));
  r.find("model_type");
  r.set("workload.model", workloads::to_json(model), "model_type");
  r.assume("workload.seq_len", std::min(kUsualLength, most), "a model's config does not say it; give seq_len=N");
  set_cluster(r, {}, options.overrides);
  r.assume("workload.global_batch", data_parallel_size(r), "a sequence for each device; give global_batch=N");
  ImportedJob job = r.finish({});
  job.read = {"model_type " + type + ": workload.model"};
  return finished(std::move(job), origin, options.overrides);
}

}  // namespace foretrain::plan
