#include "plan/foreign/launch_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>

#include "base/error.h"
#include "plan/foreign/shell_script.h"

namespace foretrain::plan {

namespace {

std::optional<std::int64_t> whole(std::string_view text) {
  // "gpu:8", "gpu:h100:8", "2:2" (nodes from to): the last number.
  const std::size_t colon = text.rfind(':');
  text = colon == std::string_view::npos ? text : text.substr(colon + 1);
  std::int64_t value = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  return end.ec == std::errc{} && end.ptr == text.data() + text.size() && value > 0 && value <= 10'000'000
             ? std::optional(value)
             : std::nullopt;
}

std::string with_dashes(std::string name) {
  for (std::size_t i = 2; i < name.size(); ++i) {
    name[i] = name[i] == '_' ? '-' : name[i];
  }
  return name;
}

// Options of launchers that say how many: which number they are.
void take_launcher_words(const std::vector<ShellWord>& words, std::size_t begin, std::size_t end, LaunchWords& out) {
  const auto note = [&](const std::string& name) { out.said_by += out.said_by.empty() ? name : ", " + name; };
  for (std::size_t i = begin; i < end; ++i) {
    std::string name = words[i].text, value;
    if (const std::size_t equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (name.size() > 2 && name[0] == '-' && name[1] == 'N' && whole(name.substr(2))) {
      value = name.substr(2);
      name = "-N";
    } else if (i + 1 < end) {
      value = words[i + 1].text;
    }
    name = name.starts_with("--") ? with_dashes(name) : name;
    if (name == "--map-by" && value.starts_with("ppr:") && value.ends_with(":node")) {
      value = value.substr(0, value.size() - 5);
      name = "--gpus-per-node";
    }
    const auto number = whole(value);
    if (!number) {
      continue;
    }
    if (name == "--nnodes" || name == "--nodes" || name == "-N") {
      out.nodes = number;
      note(name);
    } else if (name == "--nproc-per-node" || name == "--gpus-per-node" || name == "--gres" || name == "--num-gpus" ||
               (name == "--ntasks-per-node" && *number > 1)) {
      out.devices_per_node = number;
      note(name);
    } else if (name == "-np" || name == "-n" || name == "--ntasks") {
      out.ranks = number;
      note(name);
    } else if (name == "--num-nodes") {  // DeepSpeed's
      out.nodes = number;
      note(name);
    }
  }
}

bool is_program(const ShellWord& w) {
  return w.text.ends_with(".py") || w.text.ends_with("run_train.sh") || w.text == "torchtitan.train";
}

// "python pretrain_gpt.py --bf16" as one word of srun sh -c "…": its words.
std::vector<ShellWord> opened(const std::vector<ShellWord>& words) {
  std::vector<ShellWord> out;
  for (const ShellWord& w : words) {
    if (w.text.find(".py ") == std::string::npos && w.text.find(".py\n") == std::string::npos) {
      out.push_back(w);
      continue;
    }
    const ShellScript inner = read_shell(w.text, "", {});
    for (const auto* commands : {&inner.commands, &inner.conditional}) {
      for (const std::vector<ShellWord>& command : *commands) {
        if (std::any_of(command.begin(), command.end(), is_program)) {
          std::transform(command.begin(), command.end(), std::back_inserter(out), [&](const ShellWord& word) {
            return ShellWord{word.text, w.line};
          });
        }
      }
    }
  }
  return out;
}

std::vector<ShellWord> longest(const std::vector<std::vector<ShellWord>>& commands) {
  std::vector<ShellWord> best;
  for (const std::vector<ShellWord>& command : commands) {
    std::vector<ShellWord> words = opened(command);
    if (std::any_of(words.begin(), words.end(), is_program) && words.size() > best.size()) {
      best = std::move(words);
    }
  }
  return best;
}

std::vector<Setting> settings_of(const std::vector<ShellWord>& words, std::size_t begin) {
  std::vector<Setting> out;
  for (std::size_t i = begin; i < words.size(); ++i) {
    const std::string& word = words[i].text;
    if (word.starts_with("--")) {
      const std::size_t equals = word.find('=');
      out.push_back({word.substr(0, equals), {}, words[i].line});
      if (equals != std::string::npos) {
        out.back().values.push_back(word.substr(equals + 1));
      }
    } else if (!out.empty() && !word.empty()) {
      out.back().values.push_back(word);
    }
  }
  return out;
}

// A script that only sets variables, for another that starts training: those that hold settings.
void take_lists(const ShellScript& script, const std::string& origin, LaunchWords& out) {
  std::vector<std::string> names;
  for (const auto& [name, words] : script.lists) {
    const bool holds =
        std::any_of(words.begin(), words.end(), [](const ShellWord& w) { return w.text.starts_with("--"); });
    const std::vector<Setting> settings = holds ? settings_of(words, 0) : std::vector<Setting>{};
    out.settings.insert(out.settings.end(), settings.begin(), settings.end());
    if (holds) {
      names.push_back(name);
    }
  }
  if (names.empty()) {
    throw InputError(
        fmt::format("{}: no command starts a training script; expected one such as torchrun … "
                    "pretrain_gpt.py --num-layers …, or settings alone",
                    origin));
  }
  out.notes.push_back(fmt::format("{}: no command starts a training script; read are the settings in {}", origin,
                                  fmt::join(names, ", ")));
}

// A variable that the script does not set stands where its value would: what it adds is not known.
void take_out_unset(LaunchWords& out, const std::string& origin) {
  for (Setting& s : out.settings) {
    std::erase_if(s.values, [&](const std::string& value) {
      const bool is_list =
          value.starts_with("$") && (value.find("ARGS") != std::string::npos || &value != s.values.data());
      if (is_list) {
        out.notes.push_back(
            fmt::format("{}:{}: {}: not set in the script; what it adds is left out", origin, s.line, value));
      }
      return is_list;
    });
  }
}

}  // namespace

LaunchWords launch_words(const std::string& text, const std::string& origin,
                         const std::map<std::string, std::string>& variables) {
  LaunchWords out;
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && text.compare(first, 2, "--") == 0) {
    // All lines are one command, be they continued or not.
    std::vector<ShellWord> words;
    std::size_t begin = 0;
    for (int line = 1; begin <= text.size(); ++line) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      std::string row = text.substr(begin, end - begin);
      while (!row.empty() && (row.back() == '\\' || row.back() == '\r' || row.back() == ' ')) {
        row.pop_back();
      }
      for (const std::vector<ShellWord>& command : read_shell(row, origin, variables).commands) {
        for (const ShellWord& w : command) {
          words.push_back({w.text, line});
        }
      }
      begin = end + 1;
    }
    out.settings = settings_of(words, 0);
    take_out_unset(out, origin);
    return out;
  }
  out.is_script = true;
  const ShellScript script = read_shell(text, origin, variables);
  out.notes = script.notes;
  take_launcher_words(script.directives, 0, script.directives.size(), out);
  std::vector<ShellWord> best = longest(script.commands);
  if (best.empty()) {
    best = longest(script.conditional);
    if (!best.empty()) {
      out.notes.push_back(
          fmt::format("{}:{}: the command stands in an if, a loop or a function, or behind && or ||; read as if it "
                      "were run",
                      origin, best.front().line));
    }
  }
  if (best.empty()) {
    take_lists(script, origin, out);
    return out;
  }
  const auto program = std::find_if(best.begin(), best.end(), is_program);
  const auto at = static_cast<std::size_t>(program - best.begin());
  take_launcher_words(best, 0, at, out);
  out.program = program->text.substr(program->text.rfind('/') + 1);
  out.settings = settings_of(best, at + 1);
  take_out_unset(out, origin);
  return out;
}

}  // namespace foretrain::plan
