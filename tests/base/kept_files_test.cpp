#include "base/kept_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/catalogue.h"

namespace foretrain {
namespace {

TEST(KeptFiles, AFileThatStaysIsReadOnce) {
  KeptFiles<int> files;
  int made = 0;
  const auto make = [&](const std::string&) { return ++made; };
  const std::string path = catalogue_path("workloads/models", "model", "gpt2-124m");
  EXPECT_EQ(*files.get(path, make), 1);
  EXPECT_EQ(*files.get(path, make), 1);
}

// Two states of one length within one tick of the clock.
TEST(KeptFiles, AFileThatWasJustWrittenIsReadAgain) {
  KeptFiles<char> files;
  const std::string path = (std::filesystem::temp_directory_path() / "foretrain_kept_files_test").string();
  const auto first = [](const std::string& p) { return static_cast<char>(std::ifstream(p).get()); };
  for (const char c : {'a', 'b', 'c'}) {
    std::ofstream(path) << c;
    EXPECT_EQ(*files.get(path, first), c);
  }
  std::filesystem::remove(path);
  EXPECT_FALSE(file_stamp(path).has_value());
}

}  // namespace
}  // namespace foretrain
