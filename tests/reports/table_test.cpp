#include "reports/table.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::reports {
namespace {

Table sample() {
  Table t;
  t.columns = {{"op", Align::left}, {"time", Align::right}};
  t.rows = {{"matmul", "1.20 ms"}, {"x", {"9 us", Tone::bad}}};
  return t;
}

TEST(Table, TextAlignsColumnsAndLeavesNoBlanksAtTheEnd) {
  // Widths: op 6 (matmul), time 7 (1.20 ms); two blanks between.
  EXPECT_EQ(to_text(sample(), false),
            "op         time\n"
            "matmul  1.20 ms\n"
            "x          9 us\n");
}

TEST(Table, ColourWrapsTextAndNotItsPadding) {
  const std::string text = to_text(sample(), true);
  EXPECT_NE(text.find("x          \x1b[31m9 us\x1b[0m\n"), std::string::npos) << text;
}

TEST(Table, NoHeaderWhereNoColumnHasATitle) {
  Table t;
  t.title = "Memory";
  t.columns = {{"", Align::left}, {"", Align::left}};
  t.rows = {{"a", "b"}, {"long"}, {"", "c"}};
  // The second row has no second cell; the third an empty first one: 4 blanks of its width and 2 between.
  EXPECT_EQ(to_text(t, false), "Memory\na     b\nlong\n      c\n");
}

TEST(Table, EmptyTables) {
  EXPECT_EQ(to_text(Table{}, false), "");
  Table header_only = sample();
  header_only.rows.clear();
  EXPECT_EQ(to_text(header_only, false), "op  time\n");
  EXPECT_EQ(to_csv(header_only), "op,time\n");
}

TEST(Table, WidthCountsCodePoints) {
  EXPECT_EQ(display_width(""), 0U);
  EXPECT_EQ(display_width("1.2 µs"), 6U);
}

TEST(Table, Markdown) {
  Table t = sample();
  t.title = "Ops";
  t.rows[0][0] = Cell("a|b");
  EXPECT_EQ(to_markdown(t), "**Ops**\n\n| op | time |\n|---|--:|\n| a\\|b | 1.20 ms |\n| x | 9 us |\n");
}

TEST(Table, CsvQuotesWhatNeedsIt) {
  Table t;
  t.columns = {{"a"}, {"b"}};
  t.rows = {{"1,2", "say \"x\""}, {"plain"}, {"two\nlines", ""}};
  EXPECT_EQ(to_csv(t), "a,b\n\"1,2\",\"say \"\"x\"\"\"\nplain,\n\"two\nlines\",\n");
}

TEST(Table, ARowLongerThanTheHeaderIsOurMistake) {
  Table t = sample();
  t.rows.push_back({"1", "2", "3"});
  EXPECT_THROW(to_text(t, false), InternalError);
  EXPECT_THROW(to_markdown(t), InternalError);
  EXPECT_THROW(to_csv(t), InternalError);
}

}  // namespace
}  // namespace foretrain::reports
