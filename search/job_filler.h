// Builds the document of a row's job field by field, and keeps where each value comes from.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "search/training_job.h"

namespace foretrain::search {

std::string shown_value(const nlohmann::json& value);
// The value at "strategy.tp"; throws nlohmann's exception where there is none.
const nlohmann::json& at_path(const nlohmann::json& document, const std::string& path);

class Filler {
 public:
  // All three must outlive it; fields are added to `reading`.
  Filler(const TrainingRow& row, const TrainingRules& rules, Reading& reading);
  ~Filler();
  Filler(const Filler&) = delete;
  Filler& operator=(const Filler&) = delete;

  nlohmann::json& document() { return *document_; }

  void state(const char* path, nlohmann::json value);
  template <class T>
  void require(const char* path, const std::optional<T>& value) {
    if (value) {
      state(path, *value);
    } else {
      missing_.emplace_back(path);
    }
  }
  // The row's value, else that of the first rule for the field, else the job file's default; `required`: it has none.
  template <class T>
  void fill(const char* path, const char* field, const std::optional<T>& value, bool required = false) {
    if (value) {
      state(path, *value);
    } else if (by_rule(path, field) == nullptr && required) {
      missing_.emplace_back(path);
    }
  }
  // The value that a rule gives, and whether there is one.
  const FieldRule* by_rule(const char* path, const char* field);
  void by_rule(const char* path, const nlohmann::json& value, std::string source);
  // A rule's word for what no job file has.
  std::optional<std::string> word(const char* field);
  // How many times the graph's cost kinds of kernels take, where rules say.
  std::map<std::string, double> costs();
  // By buffer, what a framework holds for each byte of the plan's.
  std::map<std::string, double, std::less<>> held();
  // Fields without which there is no job.
  const std::vector<std::string>& missing() const { return missing_; }

 private:
  // The first rule that gives the field and holds for the row; its framework and source are kept for set().
  const FieldRule* find(std::string_view field);
  void set(const char* path, const nlohmann::json& value, Origin origin, std::string source);

  const TrainingRow& row_;
  const TrainingRules& rules_;
  const FrameworkRules* framework_;
  Reading& reading_;
  std::unique_ptr<nlohmann::json> document_;
  std::vector<std::string> missing_;
  std::string source_of_;
};

}  // namespace foretrain::search
