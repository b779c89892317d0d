// The options of one verb, and the help that shows them. The one door to CLI11.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace foretrain::cli {

// In place of other arguments: parse() returns a line for each positional and option, its name, a tab, and of an option
// that takes a value the metavar or the words allowed, with "|" between. For completion (cli/completion_command.cpp).
inline constexpr const char* kListOptions = "--list-options";

// Values are written to the addresses given, which must outlive parse(); an option that is absent leaves its value
// alone. Names are without dashes: "steps" is --steps N or --steps=N.
class Options {
 public:
  // "foretrain <verb>"; `card` is one line on what it does.
  Options(std::string verb, std::string card);
  ~Options();
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  void flag(const std::string& name, bool* value, const std::string& help);
  // `short_name`: one letter, or 0 for none.
  void text(const std::string& name, const std::string& metavar, std::string* value, const std::string& help,
            char short_name = 0);
  // May be given several times.
  void texts(const std::string& name, const std::string& metavar, std::vector<std::string>* values,
             const std::string& help);
  void integer(const std::string& name, std::int64_t* value, std::int64_t low, std::int64_t high,
               const std::string& help);
  void number(const std::string& name, std::optional<double>* value, double low, const std::string& help);
  void word(const std::string& name, std::string* value, const std::vector<std::string>& allowed,
            const std::string& help);
  // A word of the design that this version lacks: parse() throws InputError with `why`.
  void refused(const std::string& name, const std::string& why);
  void positional(const std::string& metavar, std::string* value, const std::string& help);
  void rest(const std::string& metavar, std::vector<std::string>* values, const std::string& help);
  // Lines under "Examples:"; each is a command.
  void examples(std::vector<std::string> commands);

  // Throws InputError with the option, what stood there and what is allowed (the nearest option for an unknown one).
  // Returns the help text instead when --help or -h is among the arguments.
  std::optional<std::string> parse(const std::vector<std::string>& arguments);
  // The values from an object's keys instead, _ for -: "checkpoint_every" is --checkpoint-every. Numbers and texts;
  // flags and positionals have no key. Mistakes are the reader's.
  void read(ObjectReader words);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foretrain::cli
