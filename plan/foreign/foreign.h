// Jobs of other tools, in and out. An importer says what it read, what it assumed and what it ignored; an exporter says
// by name what the target has no word for. Both warn rather than drop.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "plan/foreign/settings.h"
#include "plan/job.h"

namespace foretrain::plan {

enum class ForeignFormat : std::uint8_t { none, megatron, torchtitan, deepspeed, hf_config };
std::string_view name(ForeignFormat f);  // "megatron", …
// By what is in it; none where it is nothing known.
ForeignFormat format_of(std::string_view text, const std::string& path);

struct ImportOptions {
  std::vector<std::string> overrides;            // KEY=VALUE, of the job
  std::map<std::string, std::string> variables;  // of a launch script
};

// Each throws InputError "file:line: name: …". The document is a job file with the overrides applied, which
// plan::load_job reads.
ImportedJob import_megatron(const std::string& text, const std::string& origin, const ImportOptions& options);
ImportedJob import_torchtitan(const std::string& text, const std::string& origin, const ImportOptions& options);
ImportedJob import_deepspeed(const std::string& text, const std::string& origin, const ImportOptions& options);
// A model alone: seq_len and batch are assumed.
ImportedJob import_hf_job(const std::string& text, const std::string& origin, const ImportOptions& options);
ImportedJob import_foreign(ForeignFormat format, const std::string& text, const std::string& origin,
                           const ImportOptions& options);

// ---- out ----

struct ExportedFile {
  std::string name;  // relative to the folder that the user gives
  std::string text;
};
struct ExportedJob {
  std::vector<ExportedFile> files;
  std::vector<std::string> warnings;
};

// Throws InputError for a model that the target does not have (models of features, encoders).
// Megatron-LM's arguments, one per line.
ExportedJob export_megatron(const Job& job);
// torchtitan's settings as a TOML file.
ExportedJob export_torchtitan(const Job& job);
// DeepSpeed's JSON.
ExportedJob export_deepspeed(const Job& job);
// Scripts that start the job: of a job on this machine `foretrain run`, else Megatron-LM's pretrain_gpt.py.
ExportedJob export_slurm(const Job& job);
ExportedJob export_mpirun(const Job& job);
ExportedJob export_torchrun(const Job& job);

}  // namespace foretrain::plan
