#include "base/output_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"

namespace foretrain {
namespace {

namespace fs = std::filesystem;

class OutputFileTest : public ::testing::Test {
 protected:
  OutputFileTest() : folder_(fs::temp_directory_path() / fs::path("output_file_test." + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~OutputFileTest() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  static std::string content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  fs::path folder_;
};

TEST_F(OutputFileTest, AppearsWholeOnCommit) {
  const std::string name = path("a");
  write_file(name, "old");
  OutputFile file(name);
  const std::string long_text(std::size_t{3} << 20, 'x');  // more than any buffer
  file.write(long_text);
  file.write("");
  file.write("end");
  EXPECT_EQ(content(name), "old");
  file.commit();
  EXPECT_EQ(content(name), long_text + "end");
  EXPECT_EQ(files(), 1U);
}

TEST_F(OutputFileTest, LeavesNothingWithoutCommit) {
  { OutputFile(path("a")).write("half"); }
  EXPECT_EQ(files(), 0U);
}

TEST_F(OutputFileTest, EmptyFile) {
  write_file(path("a"), "");
  EXPECT_TRUE(fs::exists(path("a")));
  EXPECT_EQ(content(path("a")), "");
}

TEST_F(OutputFileTest, FailuresNameThePath) {
  for (const std::string& bad : {path("no/such/folder"), folder_.string(), std::string()}) {
    try {
      write_file(bad, "x");
      ADD_FAILURE() << bad;
    } catch (const EnvironmentError& error) {
      EXPECT_EQ(std::string(error.what()).rfind(bad + ": cannot be written: ", 0), 0U) << error.what();
    }
  }
  EXPECT_EQ(files(), 0U);
}

TEST_F(OutputFileTest, AFullDiskIsAnError) {
  try {
    write_file("/dev/full", "x");
    ADD_FAILURE();
  } catch (const EnvironmentError& error) {
    EXPECT_STREQ(error.what(), "/dev/full: cannot be written: No space left on device");
  }
}

TEST_F(OutputFileTest, ADeviceIsWrittenDirectly) {
  write_file("/dev/null", "x");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(OutputFileTest, UnfinishedOnesCanBeRemoved) {
  OutputFile a(path("a"));
  OutputFile b(path("b"));
  EXPECT_EQ(files(), 2U);
  remove_unfinished_outputs();
  EXPECT_EQ(files(), 0U);
}

}  // namespace
}  // namespace foretrain
