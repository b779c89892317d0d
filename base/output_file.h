// Files that appear whole or not at all: written under a temporary name beside their place, synced, renamed.
#pragma once

#include <string>
#include <string_view>

namespace foretrain {

// One output file. A path that exists and is no regular file (a device, a pipe) is written directly: nothing could be
// renamed there. Every failure is an EnvironmentError that names the path. Not thread-safe.
class OutputFile {
 public:
  explicit OutputFile(std::string path);
  ~OutputFile();  // without commit() before: nothing is left behind
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::string_view text);
  void commit();

 private:
  void flush();
  [[noreturn]] void fail(const char* what) const;  // reads errno

  std::string path_, temporary_;  // temporary_ is "" where the path is written directly
  std::string buffer_;
  int descriptor_ = -1;
  int slot_ = -1;  // in the list that remove_unfinished_outputs walks
};

void write_file(const std::string& path, std::string_view text);

// Unlinks the temporaries of all output files under way. Async-signal-safe: for a handler that ends the process.
void remove_unfinished_outputs() noexcept;

}  // namespace foretrain
