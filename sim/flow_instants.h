// The earliest of many instants that are put off and brought forward: one per slot, a tournament over all slots.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "base/units.h"

namespace foretrain::sim {

constexpr Time kNever{INT64_MAX};

class FlowInstants {
 public:
  // Slots from 0 to n-1; new ones are at kNever. Never fewer than before.
  void resize(std::size_t slots) {
    if (slots > width_) {
      const std::size_t width = std::bit_ceil(slots);
      std::vector<Time> tree(2 * width, kNever);
      std::copy_n(tree_.begin() + static_cast<std::ptrdiff_t>(width_), width_,
                  tree.begin() + static_cast<std::ptrdiff_t>(width));
      tree_ = std::move(tree);
      width_ = width;
      build();
    }
  }

  void set(std::size_t slot, Time at) {
    tree_[width_ + slot] = at;
    late_.push_back(slot);
  }

  // Few matches are played again one by one, many all at once. Requires: a slot.
  Time earliest() {
    if (late_.size() * static_cast<std::size_t>(std::bit_width(width_)) > width_) {
      build();
    } else {
      for (const std::size_t slot : late_) {
        for (std::size_t i = (width_ + slot) / 2; i > 0; i /= 2) {
          tree_[i] = std::min(tree_[2 * i], tree_[2 * i + 1]);
        }
      }
    }
    late_.clear();
    return tree_[1];
  }

  // The slots that are at `at`, ascending. Requires: earliest() == at, and nothing set since.
  void find(Time at, std::vector<std::int32_t>& slots) const { find(1, at, slots); }

 private:
  void build() {
    for (std::size_t i = width_; i-- > 1;) {
      tree_[i] = std::min(tree_[2 * i], tree_[2 * i + 1]);
    }
  }
  void find(std::size_t i, Time at, std::vector<std::int32_t>& slots) const {
    if (tree_[i] != at) {
      return;
    }
    if (i >= width_) {
      slots.push_back(static_cast<std::int32_t>(i - width_));
      return;
    }
    find(2 * i, at, slots);
    find(2 * i + 1, at, slots);
  }

  std::size_t width_ = 1;                      // of the last row: a power of two
  std::vector<Time> tree_ = {kNever, kNever};  // children of i: 2i and 2i+1; the root is 1
  std::vector<std::size_t> late_;              // slots whose matches are yet to be played
};

}  // namespace foretrain::sim
