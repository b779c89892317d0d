#include "plan/foreign/shell_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "plan/foreign/shell_arithmetic.h"

namespace foretrain::plan {

namespace {

constexpr std::size_t kMostText = 1'000'000;  // of expanded words: variables may hold each other again and again
constexpr int kDeepest = 64;                  // defaults in defaults
constexpr std::string_view kEndOfWord = " \t\r\n;&|<>()";

bool is_gap(char c) {
  return is_blank(c) || c == '\n';
}

std::string joined(const std::vector<ShellWord>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    out += (i > 0 ? " " : "") + words[i].text;
  }
  return out;
}

}  // namespace

ShellWords::ShellWords(std::string_view text, const std::string& origin,
                       const std::map<std::string, std::string>& given, ShellBlocks& blocks)
    : text_(text), origin_(origin), given_(given), blocks_(blocks), scalars_(given) {}

void ShellWords::fail(int line, const std::string& what) const {
  throw InputError(fmt::format("{}:{}: {}", origin_, line, what));
}

char ShellWords::next() {
  line_ += text_[at_] == '\n' ? 1 : 0;
  return text_[at_++];
}

void ShellWords::count(std::size_t more) {
  expanded_ += more;
  if (expanded_ > kMostText) {
    fail(line_, fmt::format("variables expand to more than {} characters", kMostText));
  }
}

void ShellWords::gap() {
  while (!at_end()) {
    if (is_blank(peek())) {
      ++at_;
    } else if (peek() == '\\' && (peek(1) == '\n' || (peek(1) == '\r' && peek(2) == '\n'))) {
      at_ += peek(1) == '\r' ? 1 : 0;
      next();
      next();
    } else {
      return;
    }
  }
}

std::string_view ShellWords::plain() const {
  return text_.substr(at_, std::min(text_.find_first_of(kEndOfWord, at_), text_.size()) - at_);
}

std::string_view ShellWords::rest_of_line() {
  const std::size_t begin = at_;
  at_ = std::min(text_.find('\n', at_), text_.size());
  return text_.substr(begin, at_ - begin);
}

void ShellWords::word(std::vector<ShellWord>& out, bool splits) {
  fields_.assign(1, {"", line_});
  is_quoted_ = false;
  const std::size_t begin = at_;
  while (!at_end() && kEndOfWord.find(peek()) == std::string_view::npos) {
    piece(splits);
  }
  if (at_ == begin) {
    ++at_;  // never stand still
  }
  for (ShellWord& field : fields_) {
    if (!field.text.empty() || is_quoted_) {
      out.push_back(std::move(field));
    }
  }
}

void ShellWords::piece(bool splits) {
  const char c = peek();
  if (c == '\'' && !in_quotes_) {
    single_quoted();
  } else if (c == '"') {
    double_quoted();
  } else if (c == '\\') {
    escaped();
  } else if (c == '$' || c == '`') {
    expansion(splits);
  } else {
    fields_.back().text += next();
  }
}

void ShellWords::escaped() {
  ++at_;
  if (const char c = at_end() ? '\n' : next(); c != '\n') {
    fields_.back().text += c;
  }
}

void ShellWords::single_quoted() {
  const int begin = line_;
  is_quoted_ = true;
  ++at_;
  while (peek() != '\'' || at_end()) {
    if (at_end()) {
      fail(begin, "this ' has no end");
    }
    fields_.back().text += next();
  }
  ++at_;
}

void ShellWords::double_quoted() {
  const int begin = line_;
  const bool outer = std::exchange(in_quotes_, true);
  is_quoted_ = true;
  ++at_;
  while (peek() != '"' || at_end()) {
    if (at_end()) {
      fail(begin, "this \" has no end");
    }
    const char c = peek();
    if (c == '\\' && at_ + 1 < text_.size()) {
      ++at_;
      const char escaped = next();
      if (escaped != '\n') {
        fields_.back().text += std::string_view("$`\"\\").find(escaped) == std::string_view::npos
                                   ? std::string{'\\', escaped}
                                   : std::string(1, escaped);
      }
    } else if (c == '$' || c == '`') {
      expansion(false);
    } else {
      fields_.back().text += next();
    }
  }
  ++at_;
  in_quotes_ = outer;
}

// Up to the closing character, which may stand inside nested pairs.
std::string_view ShellWords::enclosed(char open, char close) {
  const int begin = line_;
  const std::size_t first = at_;
  for (int depth = 1; !at_end();) {
    const char c = next();
    depth += c == close ? -1 : c == open ? 1 : 0;
    if (depth == 0) {
      return text_.substr(first, at_ - 1 - first);
    }
  }
  fail(begin, fmt::format("this {} has no {}", open, close));
}

void ShellWords::expansion(bool splits) {
  const std::size_t begin = at_;
  const char first = peek();
  ++at_;
  const auto raw = [&] { append(text_.substr(begin, at_ - begin), false, line_); };
  if (first == '`' || (peek() == '(' && peek(1) != '(')) {
    at_ += first == '`' ? 0 : 1;
    first == '`' ? enclosed('`', '`') : enclosed('(', ')');
    took_output_ = true;
    raw();
  } else if (peek() == '(') {
    at_ += 2;
    const std::string_view inside = enclosed('(', ')');
    at_ += peek() == ')' ? 1 : 0;
    const auto value = shell_value(expanded(inside), scalars_);
    value ? append(fmt::format("{}", *value), false, line_) : raw();
  } else if (peek() == '{') {
    ++at_;
    if (!braced(enclosed('{', '}'), splits)) {
      raw();
    }
  } else {
    const std::size_t name = at_;
    if (std::string_view("0123456789@*#?").find(peek()) != std::string_view::npos) {
      ++at_;
    } else {
      while (is_name(peek())) {
        ++at_;
      }
    }
    if (!variable(std::string(text_.substr(name, at_ - name)), splits, splits)) {
      raw();
    }
  }
}

// Inside ${ }. False: not understood, or not set.
bool ShellWords::braced(std::string_view inside_braces, bool splits) {
  const auto end = std::find_if_not(inside_braces.begin(), inside_braces.end(), is_name);
  const std::string name(inside_braces.begin(), end);
  std::string_view rest = inside_braces.substr(name.size());
  if (rest.empty() || rest == "[@]" || rest == "[*]") {
    return variable(name, splits, splits || rest == "[@]");
  }
  const bool may_be_empty = rest.front() != ':';
  rest.remove_prefix(may_be_empty ? 0 : 1);
  if (!rest.starts_with('-') && !rest.starts_with('=')) {
    return false;
  }
  const auto found = scalars_.find(name);
  const bool is_set = found != scalars_.end() && (may_be_empty || !found->second.empty());
  if (is_set || arrays_.contains(name)) {
    return variable(name, splits, splits);
  }
  if (rest.front() == '-') {
    inside(rest.substr(1), splits);
    return true;
  }
  const std::string value = expanded(rest.substr(1));
  if (sets(name)) {
    scalars_[name] = value;
    lines_[name] = line_;
  }
  append(value, splits, line_);
  return true;
}

// `separate`: the words of an array stay words, which `splits` cuts at blanks; else they are one.
bool ShellWords::variable(const std::string& name, bool splits, bool separate) {
  if (const auto array = arrays_.find(name); array != arrays_.end()) {
    bool follows = false;
    for (const ShellWord& w : array->second) {
      if (follows && splits) {
        cut(w.line);
      } else if (follows && separate) {
        fields_.push_back({"", w.line});
      } else if (follows) {
        fields_.back().text += ' ';
      } else if (fields_.back().text.empty()) {
        fields_.back().line = w.line;
      }
      append(w.text, splits, w.line);
      follows = true;
    }
    return true;
  }
  const auto found = scalars_.find(name);
  if (found == scalars_.end()) {
    return false;
  }
  append(found->second, splits, line_);
  return true;
}

void ShellWords::append(std::string_view text, bool splits, int line) {
  count(text.size() + 1);
  for (const char c : text) {
    if (splits && is_gap(c)) {
      cut(line);
    } else {
      fields_.back().text += c;
    }
  }
}

void ShellWords::cut(int line) {
  if (!fields_.back().text.empty()) {
    fields_.push_back({"", line});
  }
}

// A text of its own in the place of the one at hand: a default, an arithmetic expression.
void ShellWords::inside(std::string_view text, bool splits) {
  if (++depth_ > kDeepest) {
    fail(line_, fmt::format("defaults stand in each other more than {} deep", kDeepest));
  }
  const auto outer = std::tuple(text_, at_, line_);
  text_ = text;
  at_ = 0;
  while (!at_end()) {
    if (splits && is_gap(peek())) {
      cut(line_);
      next();
    } else {
      piece(splits);
    }
  }
  std::tie(text_, at_, line_) = outer;
  --depth_;
}

std::string ShellWords::expanded(std::string_view text) {
  std::vector<ShellWord> outer(1, {"", line_});
  std::swap(fields_, outer);
  const bool is_quoted = is_quoted_;
  inside(text, false);
  is_quoted_ = is_quoted;
  std::swap(fields_, outer);
  return joined(outer);
}

// Whether an assignment to it counts; one that is left out is named.
bool ShellWords::sets(const std::string& name) {
  if (given_.contains(name)) {
    return false;
  }
  if (blocks_.are_left_out()) {
    blocks_.leave_out(name);
    return false;
  }
  return true;
}

bool ShellWords::assignment() {
  std::size_t end = at_;
  while (end < text_.size() && is_name(text_[end])) {
    ++end;
  }
  const bool adds = end + 1 < text_.size() && text_[end] == '+' && text_[end + 1] == '=';
  if (end == at_ || !begins_name(peek()) || end >= text_.size() || (text_[end] != '=' && !adds)) {
    return false;
  }
  const std::string name(text_.substr(at_, end - at_));
  at_ = end + (adds ? 2 : 1);
  if (peek() == '(') {
    std::vector<ShellWord> values = list();
    if (sets(name)) {
      std::vector<ShellWord>& all = arrays_[name];
      all = adds ? std::move(all) : std::vector<ShellWord>{};
      all.insert(all.end(), values.begin(), values.end());
    }
    return true;
  }
  std::vector<ShellWord> value;
  if (!is_gap(peek()) && peek() != ';' && !at_end()) {
    word(value, false);
  }
  if (sets(name)) {
    scalars_[name] = (adds ? scalars_[name] : "") + joined(value);
    lines_[name] = line_;
  }
  return true;
}

std::vector<ShellWord> ShellWords::list() {
  const int begin = line_;
  std::vector<ShellWord> values;
  ++at_;
  while (gap(), peek() != ')') {
    if (at_end()) {
      fail(begin, "this ( has no )");
    }
    if (peek() == '#') {
      rest_of_line();
    } else if (peek() == '\n') {
      next();
    } else if (std::string_view(";&|<>(").find(peek()) != std::string_view::npos) {
      ++at_;
    } else {
      word(values, true);
    }
  }
  ++at_;
  return values;
}

std::vector<std::pair<std::string, std::vector<ShellWord>>> ShellWords::lists() {
  std::vector<std::pair<std::string, std::vector<ShellWord>>> out;
  const auto add = [&](const std::string& name) {
    fields_.assign(1, {"", 0});
    variable(name, true, true);
    out.emplace_back(name, fields_);
  };
  for (const auto& [name, words] : arrays_) {
    add(name);
  }
  for (const auto& [name, text] : scalars_) {
    if (!given_.contains(name) && !arrays_.contains(name)) {
      add(name);
      for (ShellWord& w : out.back().second) {
        w.line = lines_[name];
      }
    }
  }
  return out;
}

}  // namespace foretrain::plan
