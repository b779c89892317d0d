#include "plan/foreign/shell_blocks.h"

#include <fmt/format.h>

namespace foretrain::plan {

ShellBlocks::ShellBlocks(const std::string& origin) : origin_(origin), open_(1) {}

void ShellBlocks::open(std::string_view closes, const ShellWord& by, bool is_left_out) {
  if (is_left_out) {
    begin_leaving_out(by);
  }
  open_.push_back({std::string(closes), is_left_out || are_left_out()});
}

bool ShellBlocks::close(std::string_view word) {
  if (open_.size() == 1 || open_.back().closes != word) {
    return false;
  }
  open_.pop_back();
  ran(false);
  name_left_out();
  return true;
}

void ShellBlocks::close_all() {
  open_.resize(1);
  end();
}

void ShellBlocks::ran(bool succeeds) {
  open_.back().succeeds = succeeds;
  open_.back().goes_on = false;
}

void ShellBlocks::go_on(const ShellWord& by) {
  Block& list = open_.back();
  list.goes_on = true;
  if (by.text == "|" || (by.text == "&&" && list.succeeds)) {
    return;
  }
  begin_leaving_out(by);
  list.is_certain = false;
}

void ShellBlocks::end() {
  open_.back().is_certain = true;
  open_.back().succeeds = open_.back().goes_on = false;
  name_left_out();
}

void ShellBlocks::end_line() {
  if (!open_.back().goes_on) {
    end();
  }
}

void ShellBlocks::begin_leaving_out(const ShellWord& by) {
  if (!are_left_out()) {
    since_ = by;
    names_.clear();
  }
}

void ShellBlocks::name_left_out() {
  if (!are_left_out() && !names_.empty()) {
    notes_.push_back(fmt::format("{}:{}: {}: nothing is run, so that what it sets is left out: {}", origin_,
                                 since_.line, since_.text, fmt::join(names_, ", ")));
    names_.clear();
  }
}

}  // namespace foretrain::plan
