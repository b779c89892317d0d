// A foreign file as a list of settings, and the job that is made of them. Every format that is read as a job
// (Megatron's arguments, torchtitan's TOML, DeepSpeed's JSON) is one such list; what nobody asks for is told, never
// dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace foretrain::plan {

struct Setting {
  std::string name;  // "--num-layers", "training.seq_len", "zero_optimization.stage"
  std::vector<std::string> values;
  int line = 0;
};

// What an importer made of a file, and how.
struct ImportedJob {
  std::string format;                 // "Megatron-LM arguments"
  std::string document;               // a job file
  std::vector<std::string> read;      // "--num-layers 80: workload.model.layers 80"
  std::vector<std::string> assumed;   // "strategy.micro_batch 1: …"
  std::vector<std::string> ignored;   // names without effect on a forecast
  std::vector<std::string> warnings;  // "run.sh:12: --foo: …"
};

// Reads settings into a job, by name. Wrong values are mistakes "origin:line: name: …", thrown together by finish().
class SettingReader {
 public:
  // `given`: fields of the command line ("strategy.tp=4"). They go before what the file says: of them nothing is
  // assumed, and value() is theirs, so that whatever follows from one follows from what counts.
  SettingReader(std::string format, std::string origin, std::vector<Setting> settings,
                const std::vector<std::string>& given);
  ~SettingReader();
  SettingReader(const SettingReader&) = delete;
  SettingReader& operator=(const SettingReader&) = delete;

  // The last setting of that name, marked as known; nullptr where there is none.
  const Setting* find(std::string_view name);
  bool has(std::string_view name) { return find(name) != nullptr; }
  // A flag without a value, or true / false / 1 / 0 behind it.
  bool flag(std::string_view name, bool fallback = false);
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t low);
  std::optional<double> number(std::string_view name, double low);
  std::optional<std::string> text(std::string_view name);
  std::optional<std::string> word(std::string_view name, const std::vector<std::string>& allowed);

  // Sets a field ("workload.model.layers") of the job; `by` is the setting that says so, or whose default it is.
  void set(std::string_view path, nlohmann::json value, std::string_view by);
  // The same by words that are no settings: a launcher's.
  void set_as(std::string_view path, nlohmann::json value, std::string_view words);
  // The same where the file says nothing, unless the command line does: then false; `why` is shown.
  bool assume(std::string_view path, nlohmann::json value, std::string_view why);
  // A default of the format that needs no words.
  void set_quietly(std::string_view path, nlohmann::json value);
  // What the command line gives, else what was set; null where nothing was.
  nlohmann::json value(std::string_view path) const;
  std::int64_t integer_at(std::string_view path, std::int64_t fallback) const;

  // Whether the command line gives the field, or a part that it lies in.
  bool is_given(std::string_view path) const;

  void warn(std::string_view name, std::string_view what);  // name: a setting's, for its line
  void warn_of_file(std::string what) { job_.warnings.push_back(std::move(what)); }
  void mistake(std::string_view name, std::string_view what);
  // Settings that change nothing of a forecast, though their names may look so.
  void ignore(const std::vector<std::string>& names);

  // Settings that nobody asked for: a warning where the name has one of `telling` in it, with the nearest name that was
  // asked for; else ignored. Throws InputError with every mistake.
  ImportedJob finish(const std::vector<std::string>& telling);

 private:
  std::string place(const Setting* setting) const;

  std::string origin_;
  std::vector<Setting> settings_;
  std::vector<bool> known_;
  std::vector<std::string> asked_, given_fields_;
  JsonDocument given_;
  ImportedJob job_;
  std::unique_ptr<nlohmann::ordered_json> document_;
  Mistakes mistakes_;
};

}  // namespace foretrain::plan
