# cmake -D SOURCE=<source tree> -D VERSION=<version> -D OUT=<version.cpp> -P version.cmake
# Writes the version and the commit as constants; the file changes only when they do.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT [[#include "cli/version.h"

namespace foretrain::cli {

const char* const kVersion = "@VERSION@";
const char* const kCommit = "@commit@";

}  // namespace foretrain::cli
]] @ONLY)
