// Future events, taken out instant by instant.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"

namespace foretrain::sim {

// What happens is known by `id`. An event whose generation is no longer its owner's was rescheduled and is void.
struct Event {
  Time at;
  std::int32_t id = -1;
  std::uint32_t generation = 0;
};

// Events of one instant come out by id, then generation, whatever the order in which they went in.
//
// A calendar that is used round after round: time is cut into pages of equal length, and the events of the next pages
// lie in as many buckets, in no order, mostly one or none to a page. A page is sorted when its turn comes; what is
// pushed for it, or for before, from then on goes into a binary heap. What lies more than a round ahead waits aside.
// The calendar is laid out anew, for the events then pending, when the first of those aside is near, or when there are
// far more or fewer events than it was made for. So a step costs the same however many are pending, and where times
// defy the calendar (all on one page) what a heap costs. At most some 130 bytes per event pending.
class EventQueue {
 public:
  void push(Event e);  // requires: before the last instant that Time holds
  bool empty() const { return size_ == 0; }
  Event top();  // the next one; requires: not empty
  Event pop();  // requires: not empty

 private:
  // (at, tie) orders as (at, id, generation) does, without signs.
  struct Key {
    std::uint64_t at;
    std::uint64_t tie;
  };
  struct Node {
    Key key;
    std::int32_t next;
  };
  static constexpr std::int32_t kNone = 0;  // nodes_[0] is none

  static bool is_less(const Key& a, const Key& b) { return a.at != b.at ? a.at < b.at : a.tie < b.tie; }
  static bool is_greater(const Key& a, const Key& b) { return is_less(b, a); }
  static Key key_of(Event e);
  static Event event_of(const Key& key);
  bool is_sorted_first() const;
  void enter(const Key& key);
  void push_elsewhere(const Key& key);
  void add_node();
  Event pop_late();
  std::uint64_t next_filled_page() const;
  std::size_t open_page();
  void sort_page(std::size_t bucket);
  void sort_today();
  void lay_out();

  std::size_t size_ = 0;
  std::vector<Key> today_;  // the open page; the next event is the last
  std::vector<Key> late_;   // a heap: before next_page_, pushed when that had been opened

  int shift_ = 0;                // page of an instant: at >> shift_
  std::uint64_t next_page_ = 0;  // not opened yet; the calendar holds it and the buckets_ - 1 after it
  std::uint64_t buckets_ = 0;    // a power of two; page p has bucket p modulo that
  std::size_t entered_ = 0;      // events in the calendar
  std::size_t laid_out_for_ = 0;
  std::vector<std::int32_t> heads_;    // by bucket: a list of nodes
  std::vector<std::uint64_t> filled_;  // a bit per bucket
  std::vector<Node> nodes_ = {{}};
  std::int32_t free_node_ = kNone;

  std::vector<Key> aside_;
  std::uint64_t first_aside_ = UINT64_MAX;  // the earliest page in it
};

}  // namespace foretrain::sim
