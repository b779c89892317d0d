// What of a launch script is certain to be run: blocks that stand open, and lists of && and ||. The rest is left out,
// and what it sets is named. Used by plan/foreign/ only.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "plan/foreign/shell_script.h"

namespace foretrain::plan {

class ShellBlocks {
 public:
  explicit ShellBlocks(const std::string& origin);  // which must outlive it

  // Whether what stands here is left out.
  bool are_left_out() const { return open_.back().is_left_out || !open_.back().is_certain; }

  // A block that `closes` ends. `by`: the word that opens it, with which a note begins.
  void open(std::string_view closes, const ShellWord& by, bool is_left_out);
  bool close(std::string_view word);  // false: it does not end the innermost block
  void close_all();

  // Lists of commands.
  void ran(bool succeeds);          // a command stood there; whether it is certain to succeed
  void go_on(const ShellWord& by);  // "&&", "||" or "|" stood there
  void end();                       // ";", "&"
  void end_line();                  // ends a list that does not go on

  void leave_out(const std::string& name) { names_.insert(name); }  // a variable
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Block {
    std::string closes;
    bool is_left_out = false;
    // Of the list at hand in it:
    bool is_certain = true, succeeds = false, goes_on = false;
  };
  void begin_leaving_out(const ShellWord& by);
  void name_left_out();

  const std::string& origin_;
  std::vector<Block> open_;  // the script itself outermost
  ShellWord since_;          // what all around was left out for
  std::set<std::string> names_;
  std::vector<std::string> notes_;
};

}  // namespace foretrain::plan
