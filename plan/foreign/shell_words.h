// The words of a launch script: quotes, variables, defaults, arithmetic; and the variables that it sets.
// Used by plan/foreign/shell_script.cpp only.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plan/foreign/shell_blocks.h"
#include "plan/foreign/shell_script.h"

namespace foretrain::plan {

class ShellWords {
 public:
  // What stands in `blocks` that are left out sets no variable. All three must outlive it.
  ShellWords(std::string_view text, const std::string& origin, const std::map<std::string, std::string>& given,
             ShellBlocks& blocks);

  bool at_end() const { return at_ >= text_.size(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  char last() const { return at_ > 0 ? text_[at_ - 1] : '\0'; }
  int line() const { return line_; }
  char next();
  void skip(std::size_t characters) { at_ += characters; }  // none of them the end of a line
  void gap();                                               // blanks, and lines that go on
  std::string_view plain() const;                           // what stands here up to a blank or an operator
  std::string_view rest_of_line();                          // without its end, and behind it

  // One word, which unquoted variables may make several (`splits`), or none.
  void word(std::vector<ShellWord>& out, bool splits);
  // NAME=…, NAME+=…, NAME=( … ); false: no assignment stands here.
  bool assignment();
  // Whether a command was asked for a part of what was read since the last call.
  bool took_output() { return std::exchange(took_output_, false); }
  // The variables that the script set, as words.
  std::vector<std::pair<std::string, std::vector<ShellWord>>> lists();

 private:
  [[noreturn]] void fail(int line, const std::string& what) const;
  void count(std::size_t more);
  void piece(bool splits);
  void escaped();
  void single_quoted();
  void double_quoted();
  std::string_view enclosed(char open, char close);
  void expansion(bool splits);
  bool braced(std::string_view inside, bool splits);
  bool variable(const std::string& name, bool splits, bool separate);
  void append(std::string_view text, bool splits, int line);
  void cut(int line);
  void inside(std::string_view text, bool splits);
  std::string expanded(std::string_view text);
  std::vector<ShellWord> list();
  bool sets(const std::string& name);

  std::string_view text_;
  const std::string& origin_;
  const std::map<std::string, std::string>& given_;
  ShellBlocks& blocks_;
  std::map<std::string, std::string> scalars_;
  std::map<std::string, std::vector<ShellWord>> arrays_;
  std::map<std::string, int> lines_;  // on which a scalar ends
  std::vector<ShellWord> fields_;     // of the word at hand
  std::size_t at_ = 0, expanded_ = 0;
  int line_ = 1, depth_ = 0;
  bool is_quoted_ = false;  // some of the word at hand is
  bool in_quotes_ = false;  // what stands here is
  bool took_output_ = false;
};

}  // namespace foretrain::plan
