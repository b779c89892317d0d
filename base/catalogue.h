// The catalogue: folders of JSON files that come with the program (models, jobs, systems, devices, profiles). It is
// found from any working directory: $FORETRAIN_HOME; else two folders above the executable (a build folder of the
// source tree); else ../share/foretrain beside it (installed); else the source tree it was built from.
#pragma once

#include <string>
#include <vector>

namespace foretrain {

// The folder that holds "workloads/models" and the others. Throws EnvironmentError that names the places looked at.
std::string catalogue_home();

struct CatalogueItem {
  std::string name;         // the file name without ".json"
  std::string description;  // its "description"; "" where it has none
  std::string path;
};

// Every *.json of a folder of the catalogue ("workloads/models"), by name. Throws InputError for a broken file.
std::vector<CatalogueItem> catalogue_items(const std::string& folder);

// Names of the folder's files, sorted; reads none of them.
std::vector<std::string> catalogue_names(const std::string& folder);

// Whether a value names a catalogue entry and not a file: no "/" and no ".json" at its end.
bool is_catalogue_name(const std::string& value);

// The path of an entry. Throws InputError: `unknown model "gpt2-125m"; did you mean "gpt2-124m"? known: …`, where
// `kind` is the word "model".
std::string catalogue_path(const std::string& folder, const std::string& kind, const std::string& name);

}  // namespace foretrain
