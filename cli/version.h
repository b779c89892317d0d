// Which program this is. version.cpp is written by cmake/version.cmake at every build.
#pragma once

namespace foretrain::cli {

extern const char* const kVersion;  // "0.1.0"
extern const char* const
    kCommit;  // "9fcafbf0a1b2", with "-dirty" behind it for a changed tree; "unknown" outside a clone

}  // namespace foretrain::cli
