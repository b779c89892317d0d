#include "reports/definitions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "plan/overrides.h"

namespace foretrain::reports {
namespace {

TEST(Definitions, EveryFieldOfAJobHasOne) {
  for (const std::string& field : plan::job_fields()) {
    const auto table = field_definitions();
    const auto found = std::find_if(table.begin(), table.end(), [&](const Definition& d) {
      return d.name == field || (d.name.ends_with(".*") && field.starts_with(d.name.substr(0, d.name.size() - 1)));
    });
    EXPECT_NE(found, table.end()) << field;
  }
}

TEST(Definitions, NoFieldIsDefinedThatAJobHasNot) {
  const std::vector<std::string>& fields = plan::job_fields();
  for (const Definition& d : field_definitions()) {
    const std::string_view stem = d.name.ends_with(".*") ? d.name.substr(0, d.name.size() - 1) : d.name;
    EXPECT_TRUE(std::any_of(fields.begin(), fields.end(), [&](const std::string& f) {
      return d.name.ends_with(".*") ? f.starts_with(stem) : f == stem;
    })) << d.name;
  }
}

TEST(Definitions, NamesAreUnique) {
  std::set<std::string_view> names;
  for (const auto table : {figure_definitions(), field_definitions(), status_definitions()}) {
    for (const Definition& d : table) {
      EXPECT_TRUE(names.insert(d.name).second) << d.name;
      EXPECT_FALSE(d.text.empty());
    }
  }
}

TEST(Definitions, AWordMayBeTheEndOfAName) {
  ASSERT_EQ(definitions_of("exposed_tp").size(), 1U);
  EXPECT_EQ(definitions_of("exposed_tp").front().name, "breakdown_s.exposed_tp");
  EXPECT_EQ(definitions_of("exit-codes").size(), status_definitions().size());
  EXPECT_TRUE(definitions_of("mfw").empty());
  EXPECT_EQ(nearest_defined("mfw"), "mfu");
}

TEST(Definitions, APathHasTheLongestNameThatEndsIt) {
  ASSERT_NE(definition_of_path("memory.per_stage[].peak_bytes"), nullptr);
  EXPECT_EQ(definition_of_path("memory.per_stage[].peak_bytes")->name, "peak_bytes");
  EXPECT_EQ(definition_of_path("breakdown_by_role[].breakdown_s.compute")->name, "breakdown_s.compute");
  EXPECT_EQ(definition_of_path("memory.by_kind_bytes.activation")->name, "by_kind_bytes.*");
  EXPECT_EQ(definition_of_path("memory.nonsense"), nullptr);
}

}  // namespace
}  // namespace foretrain::reports
