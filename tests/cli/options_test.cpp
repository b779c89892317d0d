#include "cli/options.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::cli {
namespace {

// One option of each kind.
struct Sample {
  std::string job, file = "unset", choice = "a";
  std::vector<std::string> rest;
  std::int64_t steps = 7;
  std::optional<double> limit;
  bool json = false;
  Options options{"run", "does things"};

  Sample() {
    options.positional("JOB", &job, "the job");
    options.rest("KEY=VALUE", &rest, "overrides");
    options.text("file", "FILE", &file, "a file", 'f');
    options.integer("steps", &steps, 1, 100, "how many");
    options.number("limit", &limit, 0, "a limit");
    options.word("choice", &choice, {"alpha", "beta"}, "one of two");
    options.flag("json", &json, "a document");
    options.refused("resume", "not built yet");
    options.examples({"foretrain run x"});
  }

  std::string message(const std::vector<std::string>& arguments) {
    try {
      options.parse(arguments);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no error";
  }
};

TEST(Options, NothingGivenLeavesValuesAlone) {
  Sample s;
  EXPECT_FALSE(s.options.parse({}));
  EXPECT_EQ(s.job, "");
  EXPECT_EQ(s.file, "unset");
  EXPECT_EQ(s.steps, 7);
  EXPECT_FALSE(s.limit);
  EXPECT_FALSE(s.json);
}

TEST(Options, EveryKindInAnyOrder) {
  Sample s;
  s.options.parse({"--json", "j.json", "tp=4", "--steps", "9", "strategy.pp=2", "--limit=0.5", "-f", "x", "--choice",
                   "beta", "dp=1"});
  EXPECT_TRUE(s.json);
  EXPECT_EQ(s.job, "j.json");
  EXPECT_EQ(s.rest, (std::vector<std::string>{"tp=4", "strategy.pp=2", "dp=1"}));
  EXPECT_EQ(s.steps, 9);
  EXPECT_EQ(s.limit, 0.5);
  EXPECT_EQ(s.file, "x");
  EXPECT_EQ(s.choice, "beta");
}

TEST(Options, MistakesSayWhatStoodThereAndWhatIsAllowed) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"--steps", "0"}, "--steps: \"0\" is not allowed; expected an integer from 1 to 100"},
      {{"--steps", "101"}, "--steps: \"101\" is not allowed; expected an integer from 1 to 100"},
      {{"--steps", "5x"}, "--steps: \"5x\" is not allowed; expected an integer from 1 to 100"},
      {{"--steps", "99999999999999999999"},
       "--steps: \"99999999999999999999\" is not allowed; expected an integer from 1 to 100"},
      {{"--steps"}, "--steps: expected exactly one value; see foretrain run --help"},
      {{"--steps", "--steps"}, "--steps: a value is missing before --steps; see foretrain run --help"},
      {{"--steps", "1", "--steps", "2"}, "--steps: expected exactly one value; see foretrain run --help"},
      {{"--limit", "nan"}, "--limit: \"nan\" is not allowed; expected a number >= 0"},
      {{"--limit", "-1"}, "--limit: \"-1\" is not allowed; expected a number >= 0"},
      {{"--limit", "inf"}, "--limit: \"inf\" is not allowed; expected a number >= 0"},
      {{"--choice", "betta"},
       "--choice: \"betta\" is not allowed; expected one of: alpha, beta; did you mean \"beta\"?"},
      {{"--file", ""}, "--file: \"\" is not allowed; expected a FILE"},
      {{"--resume"}, "--resume: not built yet"},
      {{"--resume", "x"}, "--resume: not built yet"},
      {{"--stpes", "3"}, "unknown option \"--stpes\"; did you mean \"--steps\"? see foretrain run --help"},
      {{"--zzzzzzz"}, "unknown option \"--zzzzzzz\"; see foretrain run --help"},
  };
  for (const auto& [arguments, expected] : cases) {
    EXPECT_EQ(Sample().message(arguments), expected);
  }
}

TEST(Options, ASurplusArgumentIsNamed) {
  Options options("doctor", "looks");
  EXPECT_THROW(options.parse({"x"}), InputError);
}

TEST(Options, HelpShowsEverythingButWhatIsRefused) {
  Sample s;
  for (const char* flag : {"--help", "-h"}) {
    const std::optional<std::string> help = s.options.parse({"--steps", "wrong", flag});
    ASSERT_TRUE(help);
    EXPECT_EQ(*help,
              "foretrain run: does things\n"
              "\n"
              "Usage: foretrain run JOB [KEY=VALUE ...] [OPTIONS]\n"
              "\n"
              "  JOB        the job\n"
              "  KEY=VALUE  overrides\n"
              "\n"
              "Options:\n"
              "  -f, --file FILE      a file\n"
              "  --steps N            how many\n"
              "  --limit X            a limit\n"
              "  --choice alpha|beta  one of two\n"
              "  --json               a document\n"
              "\n"
              "Examples:\n"
              "  foretrain run x\n");
  }
}

// Flags and positionals have no key; nor has an option a dash there.
TEST(Options, AreReadFromKeysOfAnObject) {
  Sample s;
  std::optional<double> most_of_it;
  s.options.number("most-of-it", &most_of_it, 0, "another limit");
  const auto read = [&](const std::string& text) {
    const JsonDocument document = JsonDocument::from_text(text, "words");
    Mistakes mistakes;
    s.options.read(ObjectReader(document, mistakes));
    return mistakes.messages();
  };
  EXPECT_EQ(read(R"({"file": "x", "steps": 9, "most_of_it": 0.5, "choice": "beta"})"), std::vector<std::string>{});
  EXPECT_EQ(s.file, "x");
  EXPECT_EQ(s.steps, 9);
  EXPECT_EQ(most_of_it, 0.5);
  EXPECT_EQ(s.choice, "beta");
  EXPECT_EQ(read(R"({})"), std::vector<std::string>{});
  EXPECT_EQ(s.steps, 9);
  EXPECT_EQ(read(R"({"steps": "0", "choice": true, "json": 1})"),
            (std::vector<std::string>{
                "words:1: /steps: \"0\" is not allowed; expected an integer from 1 to 100",
                "words:1: /choice: true is not allowed; expected a number or a text",
                "words:1: /json: unknown key \"json\"; known: file, steps, limit, choice, most_of_it"}));
}

}  // namespace
}  // namespace foretrain::cli
