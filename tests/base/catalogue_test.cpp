#include "base/catalogue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/error.h"

namespace foretrain {
namespace {

TEST(Catalogue, IsFoundFromAnyWorkingDirectory) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path("/");
  EXPECT_TRUE(std::filesystem::exists(catalogue_path("workloads/models", "model", "gpt2-124m")));
  std::filesystem::current_path(before);
}

TEST(Catalogue, ListsNamesSortedWithDescriptions) {
  const auto names = catalogue_names("workloads/models");
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  const auto items = catalogue_items("workloads/models");
  ASSERT_EQ(items.size(), names.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(items[i].name, names[i]);
    EXPECT_FALSE(items[i].description.empty()) << items[i].path;
  }
  EXPECT_TRUE(catalogue_items("no/such/folder").empty());
}

TEST(Catalogue, AnUnknownNameGetsTheNearest) {
  try {
    catalogue_path("workloads/models", "model", "gpt2-125m");
    FAIL();
  } catch (const InputError& e) {
    const std::string message = e.what();
    EXPECT_TRUE(message.starts_with("unknown model \"gpt2-125m\"; did you mean \"gpt2-124m\"? known: ")) << message;
    EXPECT_NE(message.find("gpt2-1.5b, gpt2-124m, "), std::string::npos) << message;
  }
}

TEST(Catalogue, TellsNamesFromPaths) {
  EXPECT_TRUE(is_catalogue_name("llama3.1-8b"));
  EXPECT_FALSE(is_catalogue_name("config.json"));
  EXPECT_FALSE(is_catalogue_name("./llama"));
}

TEST(Catalogue, AWrongHomeIsNamed) {
  setenv("FORETRAIN_HOME", "/nowhere", 1);
  EXPECT_THROW(catalogue_home(), EnvironmentError);
  unsetenv("FORETRAIN_HOME");
}

}  // namespace
}  // namespace foretrain
