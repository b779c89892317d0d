#include <dlfcn.h>

#include <filesystem>

#include "exec/mpi_module.h"

namespace foretrain::exec {

namespace {

// The module stands beside the executable, or where it was built. Open MPI opens plug-ins of its own, which look for
// its symbols among everybody's: hence RTLD_GLOBAL.
OpenTransport find_module(std::string* why) {
  std::error_code error;
  const std::filesystem::path executable = std::filesystem::read_symlink("/proc/self/exe", error);
  void* module = nullptr;
  for (const std::filesystem::path& folder : {executable.parent_path(), std::filesystem::path(FORETRAIN_MODULE_DIR)}) {
    module = module != nullptr ? module : ::dlopen((folder / kMpiModule).c_str(), RTLD_NOW | RTLD_GLOBAL);
  }
  void* const symbol = module != nullptr ? ::dlsym(module, kOpenTransport) : nullptr;
  if (symbol == nullptr) {
    *why = ::dlerror();
  }
  return reinterpret_cast<OpenTransport>(symbol);
}

}  // namespace

bool can_open_mpi(std::string* why) {
  return find_module(why) != nullptr;
}

std::unique_ptr<Transport> open_mpi(std::string* why) {
  const OpenTransport open = find_module(why);
  return open == nullptr ? nullptr : std::unique_ptr<Transport>(open());
}

}  // namespace foretrain::exec
