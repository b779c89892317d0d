// The three kinds of failure, and no fourth. Only cli/main.cpp catches.
//   InputError        the user's mistake: usage, a file, a field, an impossible plan          exit 2
//   InfeasibleError   a valid job that cannot be: does not fit                                 exit 3
//   EnvironmentError  the machine's: a file system, a library, a lost rank                     exit 5
// CHECK is for our own invariants; it is on in every build (exit 1).
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace foretrain {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct InputError : Error {
  using Error::Error;
};
struct InfeasibleError : Error {
  using Error::Error;
};
struct EnvironmentError : Error {
  using Error::Error;
};
struct InternalError : Error {
  using Error::Error;
};

// The nearest of `known` to `word` by edit distance, or "" when none is close (distance > max(2, size/3)).
std::string nearest_word(const std::string& word, const std::vector<std::string>& known);

// File and line as arguments: clang 14, which builds the fuzz targets, has no std::source_location.
[[noreturn]] void fail_check(const char* condition, const char* file, int line, const std::string& what);

}  // namespace foretrain

// CHECK(condition, "op {} of role {}", ...): our own invariant; throws InternalError with file and line.
#define CHECK(condition, ...)                                                              \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      ::foretrain::fail_check(#condition, __FILE__, __LINE__, ::fmt::format(__VA_ARGS__)); \
    }                                                                                      \
  } while (false)
