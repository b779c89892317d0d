#include "plan/foreign/foreign.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace foretrain::plan {

std::string_view name(ForeignFormat f) {
  switch (f) {
    case ForeignFormat::megatron: return "megatron";
    case ForeignFormat::torchtitan: return "torchtitan";
    case ForeignFormat::deepspeed: return "deepspeed";
    case ForeignFormat::hf_config: return "hf";
    case ForeignFormat::none: break;
  }
  return "none";
}

ForeignFormat format_of(std::string_view text, const std::string& path) {
  const std::size_t first = text.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  const auto has = [&](std::string_view word) { return text.find(word) != std::string_view::npos; };
  if (first == std::string_view::npos) {
    return ForeignFormat::none;
  }
  if (text[first] == '{') {
    const bool deepspeed = has("\"zero_optimization\"") || has("\"train_micro_batch_size_per_gpu\"") ||
                           has("\"train_batch_size\"") || has("\"gradient_accumulation_steps\"");
    const bool model = has("\"model_type\"") || has("\"architectures\"");
    return deepspeed ? ForeignFormat::deepspeed : model ? ForeignFormat::hf_config : ForeignFormat::none;
  }
  if (path.ends_with(".toml") || has("\n[training]") || text.substr(first).starts_with("[") || has("--training.") ||
      has("--parallelism.")) {
    return ForeignFormat::torchtitan;
  }
  if (has("--num-layers") || has("--hidden-size") || has("--tensor-model-parallel-size")) {
    return ForeignFormat::megatron;
  }
  return ForeignFormat::none;
}

ImportedJob import_foreign(ForeignFormat format, const std::string& text, const std::string& origin,
                           const ImportOptions& options) {
  switch (format) {
    case ForeignFormat::megatron: return import_megatron(text, origin, options);
    case ForeignFormat::torchtitan: return import_torchtitan(text, origin, options);
    case ForeignFormat::deepspeed: return import_deepspeed(text, origin, options);
    case ForeignFormat::hf_config: return import_hf_job(text, origin, options);
    case ForeignFormat::none: break;
  }
  throw InputError(
      fmt::format("{}: not known what this is; expected Megatron-LM arguments or a script with them, "
                  "torchtitan TOML or flags, a DeepSpeed JSON or a Hugging Face config.json",
                  origin));
}

}  // namespace foretrain::plan
