#include "plan/foreign/shell_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "base/error.h"
#include "plan/foreign/shell_arithmetic.h"

namespace foretrain::plan {

namespace {

constexpr std::size_t kMostText = 1'000'000;  // of expanded words: variables may hold each other again and again

class Reader {
 public:
  Reader(std::string_view text, const std::string& origin, const std::map<std::string, std::string>& given)
      : text_(text), origin_(origin), given_(given), scalars_(given) {}

  ShellScript read() {
    while (at_ < text_.size()) {
      command();
    }
    for (const auto& [name, words] : arrays_) {
      script_.lists.emplace_back(name, words);
    }
    for (const auto& [name, text] : scalars_) {
      if (!given_.contains(name)) {
        fields_.assign(1, {"", 0});
        append(text, true);
        for (ShellWord& w : fields_) {
          w.line = lines_[name];
        }
        script_.lists.emplace_back(name, fields_);
      }
    }
    return std::move(script_);
  }

 private:
  [[noreturn]] void fail(int line, const std::string& what) const {
    throw InputError(fmt::format("{}:{}: {}", origin_, line, what));
  }
  bool is_dry() const { return !open_.empty(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  char next() {
    line_ += text_[at_] == '\n' ? 1 : 0;
    return text_[at_++];
  }
  void count(std::size_t more) {
    expanded_ += more;
    if (expanded_ > kMostText) {
      fail(line_, fmt::format("variables expand to more than {} characters", kMostText));
    }
  }

  void comment() {
    const std::size_t end = std::min(text_.find('\n', at_), text_.size());
    const std::string_view words = text_.substr(at_, end - at_);
    if (words.starts_with("#SBATCH") && !is_dry()) {
      std::size_t begin = 7;
      while (begin < words.size()) {
        const std::size_t stop = std::min(words.find_first_of(" \t\r", begin), words.size());
        if (stop > begin) {
          script_.directives.push_back({std::string(words.substr(begin, stop - begin)), line_});
        }
        begin = stop + 1;
      }
    }
    at_ = end;
  }

  // Blanks, and lines that go on.
  void gap() {
    while (at_ < text_.size()) {
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

  // Up to the end of a simple command.
  void command() {
    std::vector<ShellWord> words;
    while (at_ < text_.size()) {
      gap();
      const char c = peek();
      if (c == '#') {
        comment();
      } else if (c == '\n' || c == ';' || c == '&' || c == '|' || c == '\0') {
        if (at_ < text_.size()) {
          next();
        }
        break;
      } else if (c == '<' || c == '>') {
        if (!words.empty() && words.back().text.size() == 1 && at_ > 0 &&
            std::isdigit(static_cast<unsigned char>(text_[at_ - 1])) != 0) {
          words.pop_back();  // of "2>&1"
        }
        redirect();
      } else if (c == '(' || c == ')') {
        ++at_;  // a subshell, or a case's pattern
      } else if (!assignment(words)) {
        word(words, true);
      }
    }
    const std::size_t heredoc = heredoc_.empty() ? std::string::npos : at_;
    if (heredoc != std::string::npos) {
      skip_heredoc();
    }
    take(std::move(words));
  }

  void redirect() {
    const bool here = peek() == '<' && peek(1) == '<' && peek(2) != '<';
    while (peek() == '<' || peek() == '>' || peek() == '&' || peek() == '-') {
      ++at_;
    }
    gap();
    std::vector<ShellWord> target;
    word(target, false);
    if (here && !target.empty()) {
      heredoc_ = target.front().text;
    }
  }

  void skip_heredoc() {
    while (at_ < text_.size()) {
      const std::size_t end = std::min(text_.find('\n', at_), text_.size());
      std::string_view row = text_.substr(at_, end - at_);
      at_ = std::min(end + 1, text_.size());
      ++line_;
      while (!row.empty() && (is_blank(row.front()))) {
        row.remove_prefix(1);
      }
      if (row == heredoc_) {
        break;
      }
    }
    heredoc_.clear();
  }

  // NAME=…, NAME+=…, NAME=( … ), before a command's first word or behind export.
  bool assignment(const std::vector<ShellWord>& words) {
    static const std::vector<std::string> kBefore{"export", "declare", "local", "readonly", "then", "else", "do"};
    const bool may = words.empty() || std::find(kBefore.begin(), kBefore.end(), words.front().text) != kBefore.end();
    std::size_t end = at_;
    while (end < text_.size() && is_name(text_[end])) {
      ++end;
    }
    const bool adds = end + 1 < text_.size() && text_[end] == '+' && text_[end + 1] == '=';
    if (!may || end == at_ || !begins_name(peek()) || end >= text_.size() || (text_[end] != '=' && !adds)) {
      return false;
    }
    const std::string name(text_.substr(at_, end - at_));
    at_ = end + (adds ? 2 : 1);
    const bool keeps = !is_dry() && !given_.contains(name);
    if (is_dry() && !given_.contains(name)) {
      left_out_.insert(name);
    }
    if (peek() == '(') {
      std::vector<ShellWord> values = array();
      if (keeps) {
        std::vector<ShellWord>& all = arrays_[name];
        all = adds ? std::move(all) : std::vector<ShellWord>{};
        all.insert(all.end(), values.begin(), values.end());
      }
      return true;
    }
    std::vector<ShellWord> value;
    if (!is_blank(peek()) && peek() != '\n' && peek() != ';' && at_ < text_.size()) {
      word(value, false);
    }
    if (keeps) {
      const std::string text = value.empty() ? "" : value.front().text;
      scalars_[name] = adds ? scalars_[name] + text : text;
      lines_[name] = line_;
    }
    return true;
  }

  std::vector<ShellWord> array() {
    const int begin = line_;
    std::vector<ShellWord> values;
    ++at_;
    while (true) {
      gap();
      if (at_ >= text_.size()) {
        fail(begin, "this ( has no )");
      }
      if (peek() == ')') {
        ++at_;
        return values;
      }
      if (peek() == '#') {
        comment();
      } else if (peek() == '\n') {
        next();
      } else if (std::string_view(";&|<>(").find(peek()) != std::string_view::npos) {
        ++at_;
      } else {
        word(values, true);
      }
    }
  }

  // One word of the text, which unquoted variables may make several (`splits`), or none.
  void word(std::vector<ShellWord>& out, bool splits) {
    fields_.assign(1, {"", line_});
    is_quoted_ = false;
    const std::size_t begin = at_;
    while (at_ < text_.size() && std::string_view(" \t\r\n;&|<>()").find(peek()) == std::string_view::npos) {
      const char c = peek();
      if (c == '\'') {
        single_quoted();
      } else if (c == '"') {
        double_quoted();
      } else if (c == '\\') {
        ++at_;
        if (at_ < text_.size()) {
          const char escaped = next();
          if (escaped != '\n') {
            fields_.back().text += escaped;
          }
        }
      } else if (c == '$' || c == '`') {
        expansion(splits);
      } else {
        fields_.back().text += next();
      }
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

  void single_quoted() {
    const int begin = line_;
    is_quoted_ = true;
    ++at_;
    while (peek() != '\'' || at_ >= text_.size()) {
      if (at_ >= text_.size()) {
        fail(begin, "this ' has no end");
      }
      fields_.back().text += next();
    }
    ++at_;
  }

  void double_quoted() {
    const int begin = line_;
    is_quoted_ = true;
    ++at_;
    while (true) {
      if (at_ >= text_.size()) {
        fail(begin, "this \" has no end");
      }
      const char c = peek();
      if (c == '"') {
        ++at_;
        return;
      }
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
  }

  // Up to the closing character, which may stand inside nested pairs.
  std::string_view enclosed(char open, char close) {
    const int begin = line_;
    const std::size_t first = at_;
    for (int depth = 1; at_ < text_.size();) {
      const char c = next();
      depth += c == close ? -1 : c == open ? 1 : 0;
      if (depth == 0) {
        return text_.substr(first, at_ - 1 - first);
      }
    }
    fail(begin, fmt::format("this {} has no {}", open, close));
  }

  void expansion(bool splits) {
    const std::size_t begin = at_;
    const char first = peek();
    ++at_;
    const auto raw = [&] { append(std::string(text_.substr(begin, at_ - begin)), false); };
    if (first == '`') {
      enclosed('`', '`');
      raw();
    } else if (peek() == '(' && peek(1) == '(') {
      at_ += 2;
      std::string_view inside = enclosed('(', ')');
      if (peek() == ')') {
        ++at_;
      }
      const auto value = shell_value(inside, scalars_);
      value ? append(fmt::format("{}", *value), false) : raw();
    } else if (peek() == '(') {
      ++at_;
      enclosed('(', ')');
      raw();
    } else if (peek() == '{') {
      ++at_;
      if (!braced(enclosed('{', '}'), splits)) {
        raw();
      }
    } else {
      const std::size_t name = at_;
      at_ += std::isdigit(static_cast<unsigned char>(peek())) != 0 ? 1 : 0;
      while (at_ == name || !std::isdigit(static_cast<unsigned char>(text_[name]))) {
        if (at_ >= text_.size() || !is_name(peek())) {
          break;
        }
        ++at_;
      }
      if (name == at_ && std::string_view("@*#?").find(peek()) != std::string_view::npos && at_ < text_.size()) {
        ++at_;
      }
      if (!variable(std::string(text_.substr(name, at_ - name)), splits)) {
        raw();
      }
    }
  }

  // Inside ${ }. False: not understood, or not set.
  bool braced(std::string_view inside, bool splits) {
    std::size_t end = 0;
    while (end < inside.size() && is_name(inside[end])) {
      ++end;
    }
    const std::string name(inside.substr(0, end));
    const std::string_view rest = inside.substr(end);
    if (rest.empty() || rest == "[@]" || rest == "[*]") {
      return variable(name, splits || rest == "[@]");
    }
    if (rest.starts_with(":-") || rest.starts_with(":=") || rest.starts_with("-") || rest.starts_with("=")) {
      std::string fallback(rest.substr(rest.front() == ':' ? 2 : 1));
      const auto found = scalars_.find(name);
      const bool set = found != scalars_.end() && !(rest.front() == ':' && found->second.empty());
      if (!set && fallback.size() >= 2 && fallback.front() == '"' && fallback.back() == '"') {
        fallback = fallback.substr(1, fallback.size() - 2);
      }
      if (!set && fallback.starts_with("$") && variable(fallback.substr(1), splits)) {
        return true;
      }
      append(set ? found->second : fallback, splits);
      return true;
    }
    return false;
  }

  bool variable(const std::string& name, bool splits) {
    if (const auto array = arrays_.find(name); array != arrays_.end()) {
      bool follows = false;
      for (const ShellWord& w : std::vector<ShellWord>(array->second)) {
        count(w.text.size() + 1);
        if (follows && splits) {
          fields_.push_back({"", w.line});
        } else if (follows) {
          fields_.back().text += ' ';
        } else if (fields_.back().text.empty()) {
          fields_.back().line = w.line;
        }
        fields_.back().text += w.text;
        follows = true;
      }
      return true;
    }
    const auto found = scalars_.find(name);
    if (found == scalars_.end()) {
      return false;
    }
    append(found->second, splits);
    return true;
  }

  void append(const std::string& text, bool splits) {
    count(text.size() + 1);
    bool gap = false;
    for (const char c : text) {
      if (splits && (is_blank(c) || c == '\n')) {
        gap = true;
        continue;
      }
      if (gap) {
        if (!fields_.back().text.empty()) {
          fields_.push_back({"", line_});
        }
        gap = false;
      }
      fields_.back().text += c;
    }
    if (gap && !fields_.back().text.empty()) {
      fields_.push_back({"", line_});
    }
  }

  // A whole command: keywords open and close what is left out.
  void take(std::vector<ShellWord> words) {
    static const std::vector<std::string> kPassed{"then", "else", "do", "!", "{", "time", "exec", "nohup", "sudo"};
    while (!words.empty() && std::find(kPassed.begin(), kPassed.end(), words.front().text) != kPassed.end()) {
      words.erase(words.begin());
    }
    if (words.empty()) {
      return;
    }
    const std::string& first = words.front().text;
    for (const auto& [opens, closes] : {std::pair{"if", "fi"},
                                        {"for", "done"},
                                        {"while", "done"},
                                        {"until", "done"},
                                        {"case", "esac"},
                                        {"function", "}"}}) {
      if (first == opens) {
        if (!is_dry()) {
          left_out_.clear();
          opened_ = words.front();
        }
        open_.emplace_back(closes);
        return;
      }
    }
    if (is_dry()) {
      if (first == open_.back()) {
        open_.pop_back();
      } else {
        script_.conditional.push_back(std::move(words));
      }
      if (!is_dry() && !left_out_.empty()) {
        script_.notes.push_back(fmt::format("{}:{}: {}: nothing is run, so that what it sets is left out: {}", origin_,
                                            opened_.line, opened_.text, fmt::join(left_out_, ", ")));
      }
      return;
    }
    script_.commands.push_back(std::move(words));
  }

  std::string_view text_;
  const std::string& origin_;
  const std::map<std::string, std::string>& given_;
  std::map<std::string, std::string> scalars_;
  std::map<std::string, std::vector<ShellWord>> arrays_;
  std::map<std::string, int> lines_;  // on which a scalar ends
  std::vector<ShellWord> fields_;     // of the word at hand
  std::vector<std::string> open_;     // what ends the blocks that are left out
  ShellWord opened_;                  // the outermost one's keyword
  std::set<std::string> left_out_;
  std::string heredoc_;
  ShellScript script_;
  std::size_t at_ = 0, expanded_ = 0;
  int line_ = 1;
  bool is_quoted_ = false;
};

}  // namespace

ShellScript read_shell(std::string_view text, const std::string& origin,
                       const std::map<std::string, std::string>& given) {
  return Reader(text, origin, given).read();
}

}  // namespace foretrain::plan
