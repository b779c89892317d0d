// A job that is told to another tool, field by field: what was not told, and is no default, is warned of by name.
// Used by plan/foreign/ only.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "plan/job.h"

namespace foretrain::plan {

class Telling {
 public:
  // `target`: "Megatron-LM". Throws InputError where the model is no decoder: none of the targets has others.
  Telling(const Job& job, std::string target);

  // A field ("strategy.tp") that is told now; null where the job has none.
  const nlohmann::json& at(std::string_view path);
  std::int64_t integer(std::string_view path) { return at(path).get<std::int64_t>(); }
  double number(std::string_view path) { return at(path).get<double>(); }
  bool flag(std::string_view path) { return at(path).get<bool>(); }
  std::string word(std::string_view path) { return at(path).get<std::string>(); }
  // Fields that need no words, or that another one tells.
  void pass(const std::vector<std::string>& paths);
  // A value that the target has no word for; `instead`: what it gets.
  void refuse(std::string_view path, std::string_view instead);

  // Warnings of refuse(), then one for every field that was not told and is no default.
  std::vector<std::string> warnings() const;

 private:
  nlohmann::json document_, defaults_;
  std::string target_;
  std::set<std::string> told_;
  std::vector<std::string> refused_;
};

// "--num-layers 80" lines.
class FlagLines {
 public:
  void add(std::string_view flag) { text_ += std::string(flag) + "\n"; }
  void add(std::string_view flag, std::int64_t value);
  void add(std::string_view flag, double value);
  void add(std::string_view flag, std::string_view value) {
    text_ += std::string(flag) + " " + std::string(value) + "\n";
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// The shortest decimal that reads back as the same number, with a point or an exponent.
std::string shortest(double value);

}  // namespace foretrain::plan
