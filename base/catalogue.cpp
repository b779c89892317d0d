#include "base/catalogue.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace foretrain {

namespace fs = std::filesystem;

namespace {

// Without "." and "..", and without a slash at the end.
std::string tidy(const fs::path& folder) {
  const fs::path path = folder.lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).string();
}

bool is_home(const fs::path& folder) {
  std::error_code error;
  return fs::is_directory(folder / "workloads" / "models", error);
}

}  // namespace

std::string catalogue_home() {
  if (const char* home = std::getenv("FORETRAIN_HOME"); home != nullptr && *home != '\0') {
    if (!is_home(home)) {
      throw EnvironmentError(fmt::format("FORETRAIN_HOME={} holds no catalogue (workloads/models)", home));
    }
    return tidy(home);
  }
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  const std::vector<fs::path> places{folder / ".." / "..", folder / ".." / "share" / "foretrain", FORETRAIN_SOURCE_DIR};
  std::string tried;
  for (const fs::path& place : places) {
    if (is_home(place)) {
      return tidy(fs::absolute(place));
    }
    tried += (tried.empty() ? "" : ", ") + tidy(place);
  }
  throw EnvironmentError(fmt::format(
      "the catalogue (workloads/models) was not found in {}; set FORETRAIN_HOME to the folder it is in", tried));
}

std::vector<std::string> catalogue_names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(fs::path(catalogue_home()) / folder, error)) {
    if (entry.path().extension() == ".json") {
      names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<CatalogueItem> catalogue_items(const std::string& folder) {
  std::vector<CatalogueItem> items;
  for (std::string& name : catalogue_names(folder)) {
    const std::string path = (fs::path(catalogue_home()) / folder / (name + ".json")).string();
    const JsonDocument document = JsonDocument::from_file(path);
    const nlohmann::json& root = document.root();
    const auto description = root.is_object() ? root.find("description") : root.end();
    items.push_back({std::move(name),
                     description != root.end() && description->is_string() ? description->get<std::string>() : "",
                     path});
  }
  return items;
}

bool is_catalogue_name(const std::string& value) {
  return value.find('/') == std::string::npos && !value.ends_with(".json");
}

std::string catalogue_path(const std::string& folder, const std::string& kind, const std::string& name) {
  std::string path = (fs::path(catalogue_home()) / folder / (name + ".json")).string();
  std::error_code error;
  if (is_catalogue_name(name) && fs::exists(path, error)) {
    return path;
  }
  const std::vector<std::string> names = catalogue_names(folder);
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    constexpr std::size_t kLongest = 100;
    const std::string nearest = name.size() > kLongest ? "" : nearest_word(name, names);
    throw InputError(fmt::format(
        "unknown {} {}; {}known: {}", kind,
        nlohmann::json(name.substr(0, kLongest)).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace),
        nearest.empty() ? "" : fmt::format("did you mean \"{}\"? ", nearest), fmt::join(names, ", ")));
  }
  return path;
}

}  // namespace foretrain
