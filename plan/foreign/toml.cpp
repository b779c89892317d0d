#include "plan/foreign/toml.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>

#include "base/error.h"
#include "workloads/unicode.h"

namespace foretrain::plan {

namespace {

class Reader {
 public:
  Reader(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {
    if (text_.starts_with("\xEF\xBB\xBF")) {
      text_.remove_prefix(3);
    }
  }

  std::vector<Setting> read() {
    while (skip_lines(), at_ < text_.size()) {
      if (peek() == '[') {
        table();
      } else {
        pair();
      }
      end_of_line();
    }
    return std::move(settings_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("{}:{}: {}", origin_, line_, what));
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void blanks() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\r') {
      ++at_;
    }
  }
  void comment() {
    if (peek() == '#') {
      at_ = std::min(text_.find('\n', at_), text_.size());
    }
  }
  // Blanks, comments and ends of lines.
  void skip_lines() {
    while (at_ < text_.size()) {
      blanks();
      comment();
      if (peek() != '\n') {
        return;
      }
      ++line_;
      ++at_;
    }
  }
  void end_of_line() {
    blanks();
    comment();
    if (at_ < text_.size() && peek() != '\n') {
      fail(fmt::format("\"{}\" is not expected here; expected the end of the line",
                       text_.substr(at_, std::min(text_.find('\n', at_), text_.size()) - at_)));
    }
  }

  std::string key() {
    std::string name;
    while (true) {
      blanks();
      if (peek() == '"' || peek() == '\'') {
        name += quoted();
      } else {
        const std::size_t begin = at_;
        while (std::isalnum(static_cast<unsigned char>(peek())) != 0 || peek() == '_' || peek() == '-') {
          ++at_;
        }
        if (begin == at_) {
          fail("a name is missing; expected [table] or key = value");
        }
        name += text_.substr(begin, at_ - begin);
      }
      blanks();
      if (peek() != '.') {
        return name;
      }
      ++at_;
      name += '.';
    }
  }

  void table() {
    ++at_;
    if (peek() == '[') {
      fail("lists of tables ([[…]]) are not built; expected [table]");
    }
    table_ = key();
    if (peek() != ']') {
      fail("this [ has no ]");
    }
    ++at_;
  }

  void pair() {
    Setting s;
    s.line = line_;
    s.name = (table_.empty() ? "" : table_ + ".") + key();
    if (peek() != '=') {
      fail(fmt::format("\"{}\" has no value; expected {} = value", s.name, s.name));
    }
    ++at_;
    blanks();
    value(s.values, 0);
    settings_.push_back(std::move(s));
  }

  std::string quoted() {
    const char mark = peek();
    if (text_.substr(at_).starts_with("\"\"\"") || text_.substr(at_).starts_with("'''")) {
      fail("strings of several lines are not built; expected \"…\"");
    }
    std::string out;
    ++at_;
    while (peek() != mark) {
      if (at_ >= text_.size() || peek() == '\n') {
        fail(fmt::format("this {} has no end", mark));
      }
      if (mark == '"' && peek() == '\\' && at_ + 1 < text_.size()) {
        ++at_;
        out += escaped();
      } else {
        out += peek();
        ++at_;
      }
    }
    ++at_;
    return out;
  }

  // Behind a backslash.
  std::string escaped() {
    static const std::map<char, char> kLetters{{'b', '\b'}, {'f', '\f'}, {'n', '\n'}, {'r', '\r'}, {'t', '\t'}};
    const char c = peek();
    ++at_;
    if (c != 'u' && c != 'U') {
      const auto letter = kLetters.find(c);
      return {letter == kLetters.end() ? c : letter->second};
    }
    const std::string_view digits = text_.substr(std::min(at_, text_.size()), c == 'u' ? 4 : 8);
    std::uint32_t value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    const bool is_surrogate = value >= 0xD800 && value < 0xE000;
    if (result.ptr != digits.data() + (c == 'u' ? 4 : 8) || value > 0x10FFFF || is_surrogate) {
      fail(fmt::format("\"\\{}{}\" is no character; expected \\u and four or \\U and eight hexadecimal digits", c,
                       digits));
    }
    at_ += digits.size();
    return workloads::to_utf8(value);
  }

  void value(std::vector<std::string>& out, int depth) {
    if (peek() == '"' || peek() == '\'') {
      out.push_back(quoted());
    } else if (peek() == '[') {
      list(out, depth);
    } else if (peek() == '{') {
      fail("inline tables are not built; expected [table]");
    } else {
      const std::size_t begin = at_;
      while (at_ < text_.size() && std::string_view(",]#\n\r \t").find(peek()) == std::string_view::npos) {
        ++at_;
      }
      std::string word(text_.substr(begin, at_ - begin));
      word.erase(std::remove(word.begin(), word.end(), '_'), word.end());
      const bool bare = word == "true" || word == "false" ||
                        (!word.empty() && (std::isdigit(static_cast<unsigned char>(word.front())) != 0 ||
                                           word.front() == '-' || word.front() == '+' || word.front() == '.'));
      if (!bare) {
        fail(fmt::format("\"{}\" is no value; expected \"text\", a number, true, false or a list", word));
      }
      out.push_back(word.front() == '+' ? word.substr(1) : word);
    }
  }

  void list(std::vector<std::string>& out, int depth) {
    constexpr int kDeepest = 8;
    const int begin = line_;
    if (depth > kDeepest) {
      fail("lists this deep are not built");
    }
    ++at_;
    while (true) {
      skip_lines();
      if (at_ >= text_.size()) {
        line_ = begin;
        fail("this [ has no ]");
      }
      if (peek() == ']') {
        ++at_;
        return;
      }
      if (peek() == '[') {
        out.emplace_back("|");
      }
      value(out, depth + 1);
      skip_lines();
      if (peek() == ',') {
        ++at_;
      } else if (peek() != ']') {
        fail("expected , or ] in a list");
      }
    }
  }

  std::string_view text_;
  const std::string& origin_;
  std::string table_;
  std::vector<Setting> settings_;
  std::size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<Setting> read_toml(std::string_view text, const std::string& origin) {
  return Reader(text, origin).read();
}

}  // namespace foretrain::plan
