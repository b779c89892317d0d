#include "plan/foreign/foreign.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "workloads/unicode.h"

namespace foretrain::plan {

namespace {

// Text whose bytes need not be UTF-8: a comment or a path in Latin-1 must not stop an import. Such bytes become U+FFFD.
ImportedJob import_text(ImportedJob (*import)(const std::string&, const std::string&, const ImportOptions&),
                        const std::string& text, const std::string& origin, const ImportOptions& options) {
  std::string read, first;
  std::size_t replaced = 0;
  int line = 1;
  for (std::size_t at = 0; at < text.size();) {
    const workloads::CodePoint c = workloads::code_point(text, at);
    if (c.value == workloads::kNoCodePoint) {
      first = replaced++ == 0 ? fmt::format("{}:{}: byte 0x{:02x}", origin, line, static_cast<unsigned char>(text[at]))
                              : first;
      read += "\xEF\xBF\xBD";
    } else {
      read.append(text, at, c.bytes);
    }
    line += text[at] == '\n' ? 1 : 0;
    at += c.bytes;
  }
  ImportedJob job = import(read, origin, options);
  if (replaced > 0) {
    job.warnings.insert(job.warnings.begin(),
                        fmt::format("{}{}: not UTF-8; read as U+FFFD", first,
                                    replaced > 1 ? fmt::format(", and {} more", replaced - 1) : ""));
  }
  return job;
}

}  // namespace

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
    case ForeignFormat::megatron: return import_text(import_megatron, text, origin, options);
    case ForeignFormat::torchtitan: return import_text(import_torchtitan, text, origin, options);
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
