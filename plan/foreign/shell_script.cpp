#include "plan/foreign/shell_script.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "plan/foreign/shell_blocks.h"
#include "plan/foreign/shell_words.h"

namespace foretrain::plan {

namespace {

bool is_one_of(std::string_view word, const auto& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

constexpr std::array<std::string_view, 5> kBeforeAssignments{"export", "declare", "local", "readonly", "typeset"};
constexpr std::array<std::string_view, 4> kBetween{"then", "else", "elif", "do"};  // parts of blocks
constexpr std::array<std::string_view, 5> kPassed{"!", "time", "exec", "nohup", "sudo"};

// What prepares the command that trains. Where one of them fails there is nothing to forecast: what stands behind it
// and && is run.
constexpr std::array<std::string_view, 22> kSucceed{
    "export", "declare", "local", "readonly", "typeset", "cd",     "pushd", "popd", "source", ".",    "mkdir",
    "set",    "shopt",   "unset", "ulimit",   "umask",   "module", "conda", "echo", "printf", "true", ":"};

struct Opener {
  std::string_view word, closes;
};
constexpr std::array<Opener, 6> kOpeners{
    {{"if", "fi"}, {"while", "done"}, {"until", "done"}, {"for", "done"}, {"select", "done"}, {"case", "esac"}}};

class Reader {
 public:
  Reader(std::string_view text, const std::string& origin, const std::map<std::string, std::string>& given)
      : blocks_(origin), in_(text, origin, given, blocks_) {}

  ShellScript read() {
    while (!in_.at_end()) {
      command();
    }
    blocks_.close_all();
    script_.notes = blocks_.notes();
    script_.lists = in_.lists();
    return std::move(script_);
  }

 private:
  void comment() {
    const int line = in_.line();
    const std::string_view words = in_.rest_of_line();
    if (words.starts_with("#SBATCH") && !blocks_.are_left_out()) {
      std::size_t begin = 7;
      while (begin < words.size()) {
        const std::size_t stop = std::min(words.find_first_of(" \t\r", begin), words.size());
        if (stop > begin) {
          script_.directives.push_back({std::string(words.substr(begin, stop - begin)), line});
        }
        begin = stop + 1;
      }
    }
  }

  // Up to the end of a simple command, and what stands between it and the next.
  void command() {
    std::vector<ShellWord> words;
    bool assigns = false;
    in_.took_output();
    while (!in_.at_end()) {
      in_.gap();
      const char c = in_.peek();
      if (c == '#') {
        comment();
      } else if (c == '<' || c == '>' || (c == '&' && in_.peek(1) == '>')) {
        redirect(words);
      } else if (std::string_view("\n;&|)").find(c) != std::string_view::npos || c == '\0') {
        break;
      } else if (c == '(') {
        parenthesis(words);
      } else if (words.empty() && keyword()) {
        continue;
      } else if ((words.empty() || is_one_of(words.front().text, kBeforeAssignments)) && in_.assignment()) {
        assigns = true;
      } else {
        in_.word(words, true);
      }
    }
    take(std::move(words), assigns);
    separator();
  }

  void separator() {
    if (in_.at_end()) {
      return;
    }
    const ShellWord by{std::string(in_.peek() == in_.peek(1) ? 2 : 1, in_.peek()), in_.line()};
    const char c = in_.next();
    if (by.text == "&&" || by.text == "||") {
      in_.next();
      blocks_.go_on(by);
    } else if (c == '|') {
      in_.skip(in_.peek() == '&' ? 1 : 0);
      blocks_.go_on(by);
    } else if (c == '\n') {
      skip_heredoc();
      blocks_.end_line();
    } else if (c != ')') {
      blocks_.end();
    } else {
      blocks_.close(")");  // or it is behind a case's pattern
    }
  }

  void redirect(std::vector<ShellWord>& words) {
    if (!words.empty() && words.back().text.size() == 1 && std::isdigit(static_cast<unsigned char>(in_.last())) != 0) {
      words.pop_back();  // of "2>&1"
    }
    const bool here = in_.peek() == '<' && in_.peek(1) == '<' && in_.peek(2) != '<';
    while (std::string_view("<>&-").find(in_.peek()) != std::string_view::npos && !in_.at_end()) {
      in_.skip(1);
    }
    in_.gap();
    std::vector<ShellWord> target;
    in_.word(target, false);
    if (here && !target.empty()) {
      heredoc_ = target.front().text;
    }
  }

  // It begins behind the line that names its end.
  void skip_heredoc() {
    while (!heredoc_.empty() && !in_.at_end()) {
      std::string_view row = in_.rest_of_line();
      row.remove_prefix(std::min(row.find_first_not_of(" \t"), row.size()));
      row.remove_suffix(row.ends_with('\r') ? 1 : 0);
      if (row == heredoc_) {
        break;
      }
      if (!in_.at_end()) {
        in_.next();
      }
    }
    heredoc_.clear();
  }

  // A function's, or a subshell.
  void parenthesis(std::vector<ShellWord>& words) {
    if (words.size() == 1 && in_.peek(1) == ')') {
      in_.skip(2);
      function(words.front());
      words.clear();
      return;
    }
    if (words.empty()) {
      blocks_.open(")", {}, false);
    }
    in_.skip(1);
  }

  // Behind its name: all of it is left out, wherever it is called.
  void function(const ShellWord& name) {
    while (in_.gap(), in_.peek() == '\n' || in_.peek() == '#') {
      in_.peek() == '#' ? comment() : void(in_.next());
    }
    if (in_.peek() == '{' || in_.peek() == '(') {
      blocks_.open(in_.peek() == '{' ? "}" : ")", {name.text + "()", name.line}, true);
      in_.skip(1);
    }
  }

  // What opens, divides and ends blocks, where a command may begin.
  bool keyword() {
    const std::string_view word = in_.plain();
    const ShellWord by{std::string(word), in_.line()};
    if (is_one_of(word, kBetween) || blocks_.close(word)) {
      in_.skip(word.size());
      return true;
    }
    if (word == "{") {
      blocks_.open("}", by, false);
      in_.skip(1);
      return true;
    }
    if (word == "function") {
      in_.skip(word.size());
      in_.gap();
      const ShellWord name{std::string(in_.plain()), in_.line()};
      in_.skip(name.text.size());
      in_.gap();
      in_.skip(in_.peek() == '(' && in_.peek(1) == ')' ? 2 : 0);
      function(name);
      return true;
    }
    const auto opener = std::find_if(kOpeners.begin(), kOpeners.end(), [&](const Opener& o) { return o.word == word; });
    if (opener == kOpeners.end()) {
      return false;
    }
    blocks_.open(opener->closes, by, true);
    in_.skip(word.size());
    if (by.text == "for" || by.text == "select" || by.text == "case") {
      head(by.text == "case");
    }
    return true;
  }

  // What a loop goes over, or a case looks at: no command.
  void head(bool is_case) {
    std::vector<ShellWord> passed;
    while (in_.gap(), !in_.at_end() && in_.peek() != '\n' && in_.peek() != ';') {
      const bool is_last = is_case && in_.plain() == "in";
      in_.word(passed, false);
      if (is_last) {
        return;
      }
    }
  }

  void take(std::vector<ShellWord> words, bool assigns) {
    if (words.empty() && !assigns) {
      return;
    }
    blocks_.ran(words.empty() ? !in_.took_output() : is_one_of(words.front().text, kSucceed));
    while (!words.empty() && is_one_of(words.front().text, kPassed)) {
      words.erase(words.begin());
    }
    if (!words.empty()) {
      (blocks_.are_left_out() ? script_.conditional : script_.commands).push_back(std::move(words));
    }
  }

  ShellBlocks blocks_;
  ShellWords in_;
  std::string heredoc_;
  ShellScript script_;
};

}  // namespace

ShellScript read_shell(std::string_view text, const std::string& origin,
                       const std::map<std::string, std::string>& given) {
  return Reader(text, origin, given).read();
}

}  // namespace foretrain::plan
