// What is read of a launch script, and what is left out.
#include "plan/foreign/shell_script.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::plan {
namespace {

std::vector<std::string> words(const std::string& text, const std::map<std::string, std::string>& given = {}) {
  std::vector<std::string> out;
  for (const std::vector<ShellWord>& command : read_shell(text, "t.sh", given).commands) {
    for (const ShellWord& w : command) {
      out.push_back(w.text);
    }
  }
  return out;
}

TEST(Shell, Words) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words("N=8\nrun $N \"${N}x\" '$N' ${M:-4} $((N*(2+1)/3-1))"), (Words{"run", "8", "8x", "$N", "4", "7"}));
  EXPECT_EQ(words("A=(--x 1 # one\n  --y \"2 3\")\nA+=(--z)\nrun ${A[@]} \"${A[@]}\""),
            (Words{"run", "--x", "1", "--y", "2", "3", "--z", "--x", "1", "--y", "2 3", "--z"}));
  EXPECT_EQ(words("A+=(\"--x 1\" \"--y  2\")\nB=\"${A[@]} --z\"\nrun a${A[@]}b \"${A[*]}\" $B"),
            (Words{"run", "a--x", "1", "--y", "2b", "--x 1 --y  2", "--x", "1", "--y", "2", "--z"}));
  EXPECT_EQ(words("O=\" --a 1 \\\n  --b\"\nrun $O"), (Words{"run", "--a", "1", "--b"}));
  EXPECT_EQ(words("run a \\\n b > log 2>&1"), (Words{"run", "a", "b"}));
  EXPECT_EQ(words("run $X $1", {{"1", "one"}}), (Words{"run", "$X", "one"}));
  EXPECT_EQ(words("cat <<EOF\nrun no\nEOF\nrun yes"), (Words{"cat", "run", "yes"}));
  EXPECT_EQ(words("cat <<EOF | tee x\nrun no\nEOF\r\nrun yes"), (Words{"cat", "tee", "x", "run", "yes"}));
  EXPECT_EQ(words("run a &> log\nrun b"), (Words{"run", "a", "run", "b"}));
}

TEST(Shell, Defaults) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words("M=2\nrun ${G:-$((M*128))} ${T:-${D:-4}} ${U:-${M}} $((${D:-3}*$M))"),
            (Words{"run", "256", "4", "2", "6"}));
  EXPECT_EQ(words("A=(1)\nE=\nrun ${A:-2} ${E:-3}x${E-4} ${F-5}"), (Words{"run", "1", "3x", "5"}));
  EXPECT_EQ(words(": ${T:=8} \"${G:=$((T*2))}\"\nrun $T ${G} ${T:=9}"), (Words{":", "8", "16", "run", "8", "16", "8"}));
  EXPECT_EQ(words(": ${T:=8}\nrun $T", {{"T", "2"}}), (Words{":", "2", "run", "2"}));
  EXPECT_EQ(words("run ${A:---x \"1 2\"} \"${B:-don't}\" ${C:-$D}"), (Words{"run", "--x", "1 2", "don't", "$D"}));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) {
    deep += "${A:-";
  }
  EXPECT_THROW(words(deep + std::string(100'000, '}')), InputError);
}

TEST(Shell, LeavesOutWhatItWouldHaveToRun) {
  const ShellScript script = read_shell("if true; then A=1; if x; then y; fi; fi\nrun $A", "t.sh", {});
  ASSERT_EQ(script.notes.size(), 1U);
  EXPECT_NE(script.notes[0].find("t.sh:1: if: "), std::string::npos);
  ASSERT_EQ(script.commands.size(), 1U);
  EXPECT_EQ(script.commands[0][1].text, "$A");
}

TEST(Shell, LeavesOutFunctions) {
  for (const char* head : {"f() {", "f () {", "f()\n{", "function f {", "function f() {", "f() ("}) {
    const bool is_subshell = std::string_view(head).ends_with("(");
    const ShellScript script = read_shell(std::string("A=1\n") + head + " A=2\n [ -f x ] || { echo; exit 1; }\n A=3\n" +
                                              (is_subshell ? ")" : "}") + "\nrun $A",
                                          "t.sh", {});
    ASSERT_EQ(script.commands.size(), 1U) << head;
    EXPECT_EQ(script.commands[0][1].text, "1") << head;
    EXPECT_EQ(script.notes,
              (std::vector<std::string>{"t.sh:2: f(): nothing is run, so that what it sets is left out: A"}))
        << head;
  }
}

TEST(Shell, LeavesOutBlocksOfAllKinds) {
  for (const char* text :
       {"case $X in a|b) A=2;; esac", "case $X in\n (a) A=2 ;;\nesac", "for x in 1 2; do A=2; done",
        "for ((i=0; i<8; i++)); do A=2; done", "while true; do A=2; done", "if x; then A=2; else A=2; fi",
        "if x; then :; elif A=2; then :; fi", "x && { A=2; A=3; }", "x || ( A=2; A=3 )", "x &&\n A=2"}) {
    const ShellScript script = read_shell(std::string("A=1\n") + text + "\nrun $A", "t.sh", {});
    ASSERT_FALSE(script.commands.empty()) << text;
    EXPECT_EQ(script.commands.back()[1].text, "1") << text;
    ASSERT_EQ(script.notes.size(), 1U) << text;
    EXPECT_TRUE(script.notes[0].ends_with("left out: A")) << script.notes[0];
  }
}

TEST(Shell, TakesWhatIsCertainOfLists) {
  for (const char* text :
       {"A=2 && B=1", "export B=1 && A=2", "cd x && A=2", "source x && mkdir y && A=2", "x | y; A=2", "x & A=2",
        "x || y\nA=2", "{ A=2; }", "set -e; A=2", "x && y; A=2", "cd x && # why\n\n A=2", "B=$((1+1)) && A=2"}) {
    const ShellScript script = read_shell(std::string("A=1\n") + text + "\nrun $A", "t.sh", {});
    EXPECT_EQ(script.commands.back()[1].text, "2") << text;
    EXPECT_TRUE(script.notes.empty()) << text;
  }
  for (const char* text : {"[ \"$D\" = 1 ] && A=2", "x || A=2", "[[ -n $x && -n $y ]] && A=2 || A=3", "cd x || A=2",
                           "! cd x && A=2", "B=$(x) && A=2", "cd x && y && A=2", "export B=1 | x && A=2",
                           "(cd x) && A=2", "(( X > 4 )) && A=2", "x && cd y && A=2", "x && : ${A:=2}"}) {
    const ShellScript script = read_shell(std::string(text) + "\nrun $A", "t.sh", {});
    EXPECT_EQ(script.commands.back()[1].text, "$A") << text;
    ASSERT_EQ(script.notes.size(), 1U) << text;
    EXPECT_TRUE(script.notes[0].ends_with("left out: A")) << script.notes[0];
  }
}

TEST(Shell, EndsWhereAQuoteDoesNot) {
  for (const char* text : {"run \"x", "run 'x", "A=(1 2", "run ${A", "run $((1"}) {
    EXPECT_THROW(read_shell(text, "t.sh", {}), InputError) << text;
  }
}

// A variable that holds itself twice, thirty times over, would be 2^30 words.
TEST(Shell, DoesNotGrowWithoutBound) {
  std::string text = "A=xxxxxxxxxx\n";
  for (int i = 0; i < 30; ++i) {
    text += "A=$A$A\n";
  }
  EXPECT_THROW(read_shell(text, "t.sh", {}), InputError);
}

}  // namespace
}  // namespace foretrain::plan
