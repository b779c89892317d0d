// Launch scripts: as much of bash as they have in common. Read are assignments (also +=, export, arrays), words with
// quotes, $NAME, ${NAME}, ${NAME:-default}, ${NAME:=default}, ${NAME[@]}, $((…)), continued lines, comments,
// here-documents (left out). Nothing is run: what is set inside if, for, while, case and functions, and behind && and
// || unless what stands before is certain (an assignment, cd, source, …), is left out and noted; a variable that the
// script does not set, and a command's output, stay in the words as they are written.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace foretrain::plan {

struct ShellWord {
  std::string text;
  int line = 0;
};

struct ShellScript {
  std::vector<std::vector<ShellWord>> commands;                       // assignments left out
  std::vector<std::vector<ShellWord>> conditional;                    // of what is left out
  std::vector<std::pair<std::string, std::vector<ShellWord>>> lists;  // variables at the end, as words
  std::vector<ShellWord> directives;  // of "#SBATCH" lines: one word each, the line's rest split
  std::vector<std::string> notes;     // "run.sh:12: if: … what it sets is left out: ARGS"
};

// `given`: variables that the command line sets; the script's own assignments to them are passed over, and "1" is $1.
// Throws InputError for a quote or a parenthesis that never ends.
ShellScript read_shell(std::string_view text, const std::string& origin,
                       const std::map<std::string, std::string>& given);

}  // namespace foretrain::plan
