// Processes that search together: each does its part of a piece of work, and all know all results.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace foretrain::search {

struct Crew {
  int number = 0, count = 1;  // this process, and how many
  // What each gave, by process; all call it in the same order. Not called where there is one.
  std::function<std::vector<std::string>(const std::string&)> all_gather;
};

// Pieces 0 … count - 1 of work, dealt out over processes, each on its cores.
struct Pieces {
  std::size_t count = 0;
  std::function<void(std::size_t)> work;
  std::function<std::string(std::size_t)> pack;  // the result
  std::function<void(std::size_t, const std::string&)> unpack;
};

// `ends`: that this process wants to end. Whether any does.
bool spread(const Crew& crew, const Pieces& pieces, const std::function<bool()>& ends);

}  // namespace foretrain::search
