// Where a process of a run lives, as it tells the others, and what its host's kernel knows of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace foretrain::exec {

struct Place {
  std::string host;       // its name
  std::string host_key;   // equal where memory is shared: one boot of one kernel, the same network and process ids
  std::string clock_key;  // equal where the steady clock is one
  std::int64_t pid = 0;
  std::vector<int> cores;  // that it may run on, ascending
};

Place own_place();
std::string to_text(const Place& place);
Place to_place(const std::string& text);  // REQUIRES: of to_text()

// The letter that the kernel gives a process of this host: 'R', 'S', 'T' when stopped, 'Z' when dead; 0: there is none.
char state_of(std::int64_t pid);

}  // namespace foretrain::exec
