// Completion for shells: a few lines for the shell, which ask the program itself at every tab, so that verbs, options
// and names of the catalogue are always those of this version.
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "base/catalogue.h"
#include "base/error.h"
#include "cli/job.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "plan/overrides.h"
#include "reports/definitions.h"
#include "topologies/cluster_file.h"
#include "workloads/model_file.h"

namespace foretrain::cli {

namespace {

constexpr const char* kBash =
    R"sh(# foretrain: completion for bash. Put into ~/.bashrc: eval "$(foretrain completion bash)"
_foretrain() {
  local IFS=$'\n' line cword prefix
  line="${COMP_LINE:0:COMP_POINT}"
  IFS=$' \t' read -r -a cword <<<"$line"
  [[ $line == *[[:space:]] ]] && cword+=("")
  prefix="${cword[-1]}"
  IFS=$'\n' COMPREPLY=($("${cword[0]/#\~/$HOME}" completion words -- "${cword[@]:1}" 2>/dev/null))
#What stands before the last "=" or ":" is a word of its own to the shell.
  local cut="${prefix%"${prefix##*[=:]}"}"
  [[ -n $cut ]] && COMPREPLY=("${COMPREPLY[@]#"$cut"}")
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _foretrain foretrain
)sh";

constexpr const char* kZsh = R"sh(#compdef foretrain
# foretrain: completion for zsh. Put into ~/.zshrc, behind compinit: eval "$(foretrain completion zsh)"
_foretrain() {
  local -a found keys
  found=("${(@f)$("${
  words[1]}" completion words -- "${
  (@) words[2, CURRENT]}" 2>/dev/null)}")
  found=(${found:#})
  keys=(${(M)found:#*=})
  found=(${found:#*=})
  (( $#keys )) && compadd -S '' -- $keys
  (( $#found )) && compadd -- $found
  (( $#keys + $#found )) || _files
}
compdef _foretrain foretrain
)sh";

struct Word {
  std::string name, values;  // of an option; a positional's name is its metavar
};

// What a verb says of itself.
std::vector<Word> words_of(const Verb& verb, const std::vector<std::string>& before) {
  Console quiet;
  std::string text;
  quiet.capture(&text);
  std::vector<std::string> arguments{kListOptions};
  if (!before.empty() && before.front() == "collective") {
    arguments.insert(arguments.begin(), before.front());
  }
  verb.command(arguments, quiet);
  std::vector<Word> words;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t tab = line.find('\t');
    words.push_back({line.substr(0, tab), line.substr(tab + 1)});
  }
  return words;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) {
    parts.push_back(part);
  }
  return parts;
}

// Values of an option or a positional; none where a file is meant, or nothing is known.
std::vector<std::string> values_of(const Word& word) {
  if (word.values.find('|') != std::string::npos) {
    return split(word.values, '|');
  }
  const auto is = [&](const char* name) { return word.values == name || word.name == name; };
  if (is("JOB")) {
    return catalogue_names(kJobFolder);
  }
  if (is("SYSTEM") || is("NAME")) {
    return catalogue_names(topologies::kSystemFolder);
  }
  return {};
}

// The first positionals of verbs that take words of their own.
std::vector<std::string> first_words(const Verb& verb) {
  const std::string_view name = verb.name;
  if (name == "list") {
    return {"models", "systems", "jobs", "strategies", "topologies"};
  }
  if (name == "completion") {
    return {"bash", "zsh"};
  }
  if (name == "help") {
    return {};
  }
  if (name == "explain") {
    std::vector<std::string> all = catalogue_names(kJobFolder);
    all.insert(all.end(), {"collective", "figures", "fields", "exit-codes"});
    for (const auto& defined : {reports::figure_definitions(), reports::field_definitions()}) {
      for (const reports::Definition& d : defined) {
        all.emplace_back(d.name);
      }
    }
    return all;
  }
  if (name == "import") {
    return {std::begin(kImportKinds), std::end(kImportKinds)};
  }
  return {};
}

// Fields, or values of one that names something of the catalogue.
std::vector<std::string> keys(const std::string& prefix) {
  std::vector<std::string> all;
  if (const std::size_t equals = prefix.find('='); equals != std::string::npos) {
    const std::string field = plan::full_override(prefix);
    const char* const folder = field.starts_with("workload.model=")   ? workloads::kModelFolder
                               : field.starts_with("cluster.system=") ? topologies::kSystemFolder
                                                                      : nullptr;
    for (const std::string& name : folder != nullptr ? catalogue_names(folder) : all) {
      all.push_back(prefix.substr(0, equals + 1) + name);
    }
    return all;
  }
  for (const std::string& field : plan::job_fields()) {
    const std::size_t dot = field.rfind('.');
    all.push_back(prefix.find('.') == std::string::npos && dot != std::string::npos && field.starts_with("strategy.")
                      ? field.substr(dot + 1) + "="
                      : field + "=");
  }
  return all;
}

// Everything that may stand where the last word stands.
std::vector<std::string> candidates(const std::vector<std::string>& line) {
  const std::string& last = line.back();
  std::vector<std::string> all;
  if (line.size() == 1) {
    for (const Verb& verb : verbs()) {
      if (verb.command != nullptr) {
        all.emplace_back(verb.name);
      }
    }
    all.insert(all.end(), {"help", "--help", "--version"});
    return all;
  }
  const auto found =
      std::find_if(verbs().begin(), verbs().end(), [&](const Verb& v) { return v.name == line.front(); });
  if (found == verbs().end() || found->command == nullptr) {
    return line.front() == "help" && line.size() == 2 ? candidates({last}) : all;
  }
  const std::vector<std::string> before(line.begin() + 1, line.end() - 1);
  const std::vector<Word> words = words_of(*found, before);
  const auto option = [&](const std::string& name) {
    return std::find_if(words.begin(), words.end(), [&](const Word& w) { return w.name == name && !w.values.empty(); });
  };
  if (!before.empty() && before.back().starts_with("--") && option(before.back()) != words.end()) {
    return values_of(*option(before.back()));
  }
  if (last.starts_with("--") && last.find('=') != std::string::npos) {
    const std::string name = last.substr(0, last.find('='));
    if (const auto of = option(name); of != words.end()) {
      for (const std::string& value : values_of(*of)) {
        all.push_back(name + "=" + value);
      }
    }
    return all;
  }
  if (last.starts_with("-")) {
    for (const Word& w : words) {
      if (w.name.starts_with("-")) {
        all.push_back(w.name);
      }
    }
    all.emplace_back("--help");
    return all;
  }
  std::size_t at = 0;  // which positional this is
  for (std::size_t i = 0; i < before.size(); ++i) {
    const bool is_value = i > 0 && before[i - 1].starts_with("--") && option(before[i - 1]) != words.end();
    at += before[i].starts_with("-") || is_value ? 0 : 1;
  }
  std::vector<Word> positionals;
  std::copy_if(words.begin(), words.end(), std::back_inserter(positionals),
               [](const Word& w) { return !w.name.starts_with("-"); });
  if (at == 0) {
    all = first_words(*found);
    if (!all.empty()) {
      return all;
    }
  }
  if (positionals.empty()) {
    return all;
  }
  const Word& here = positionals[std::min(at, positionals.size() - 1)];
  return here.name == "KEY=VALUE" ? keys(last) : values_of(here);
}

}  // namespace

int completion_command(const std::vector<std::string>& arguments, Console& console) {
  std::string shell;
  if (!arguments.empty() && arguments.front() == "words") {  // what the shells' lines ask
    std::vector<std::string> line(arguments.begin() + 1, arguments.end());
    if (!line.empty() && line.front() == "--") {
      line.erase(line.begin());
    }
    line.resize(std::max<std::size_t>(line.size(), 1));
    for (const std::string& word : candidates(line)) {
      if (word.starts_with(line.back())) {
        console.result(word + "\n");
      }
    }
    return kOk;
  }
  Options options("completion", "prints what a shell needs to complete verbs, options, fields and names");
  options.positional("SHELL", &shell, "bash or zsh");
  options.examples({"eval \"$(foretrain completion bash)\"", "eval \"$(foretrain completion zsh)\""});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (shell != "bash" && shell != "zsh") {
    throw InputError(shell.empty() ? "SHELL is missing; expected bash or zsh"
                                   : fmt::format("\"{}\" is not allowed; expected bash or zsh", shell));
  }
  console.result(shell == "bash" ? kBash : kZsh);
  return kOk;
}

}  // namespace foretrain::cli
