#include <charconv>
#include <fstream>
#include <string_view>

#include "base/error.h"
#include "plan/schedule.h"

namespace foretrain::plan {

namespace {

constexpr std::size_t kMaxBytes = 16'000'000;  // 128 ranks of 10,000 actions are below

constexpr std::string_view kLetters = "FBIW";  // by ActionKind

bool separates(char c) {
  return c == ',' || c == ' ' || c == '\t' || c == '\r';
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 40;
  std::string shown = "\"";
  for (const char c : text.substr(0, kShown)) {
    shown += (c >= 0x20 && c < 0x7f) ? c : '?';
  }
  return shown + (text.size() > kShown ? "…\"" : "\"");
}

// Digits at the front of `text`, taken off it; false when there are none or too many.
bool take_number(std::string_view& text, std::int32_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || text.front() == '-') {
    return false;
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

Action parse_action(std::string_view word, const std::string& place) {
  Action a;
  std::string_view rest = word;
  if (take_number(rest, a.stage) && !rest.empty()) {
    const std::size_t letter = kLetters.find(rest.front());
    rest.remove_prefix(1);
    if (letter != std::string_view::npos && !rest.empty() && take_number(rest, a.microbatch) && rest.empty()) {
      a.kind = static_cast<ActionKind>(letter);
      return a;
    }
  }
  throw InputError(fmt::format("{}: {} is no action; expected <virtual stage><F, B, I or W><microbatch>, such as 2F0",
                               place, quoted(word)));
}

std::vector<Action> parse_row(std::string_view line, const std::string& origin, int line_number) {
  std::vector<Action> row;
  line = line.substr(0, line.find('#'));
  for (std::size_t at = 0; at < line.size();) {
    if (separates(line[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < line.size() && !separates(line[end])) {
      ++end;
    }
    row.push_back(parse_action(line.substr(at, end - at), fmt::format("{}:{}:{}", origin, line_number, at + 1)));
    at = end;
  }
  return row;
}

}  // namespace

std::string to_text(const Action& a) {
  return fmt::format("{}{}{}", a.stage, kLetters[static_cast<std::size_t>(a.kind)], a.microbatch);
}

std::string to_text(const Schedule& s) {
  std::string text;
  for (const std::vector<Action>& row : s) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += (i == 0 ? "" : " ") + to_text(row[i]);
    }
    text += '\n';
  }
  return text;
}

Schedule schedule_from_text(const std::string& text, const std::string& origin) {
  if (text.size() > kMaxBytes) {
    throw InputError(fmt::format("{}: larger than {} bytes", origin, kMaxBytes));
  }
  Schedule s;
  int line_number = 1;
  for (std::size_t from = 0; from < text.size(); ++line_number) {
    const std::size_t end = std::min(text.find('\n', from), text.size());
    std::vector<Action> row = parse_row(std::string_view(text).substr(from, end - from), origin, line_number);
    if (!row.empty()) {
      s.push_back(std::move(row));
    }
    from = end + 1;
  }
  if (s.empty()) {
    throw InputError(fmt::format("{}:1:1: no actions; expected one row of actions per pipeline rank", origin));
  }
  return s;
}

Schedule schedule_from_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) {
    throw InputError(fmt::format("{}: cannot be read; expected a schedule text", path));
  }
  text.resize(static_cast<std::size_t>(file.gcount()));
  return schedule_from_text(text, path);
}

}  // namespace foretrain::plan
