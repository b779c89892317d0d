// The thread of a process that carries its ranks' exchanges with other hosts, so that they go on while ranks compute.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "exec/event_count.h"
#include "exec/host_exchange.h"
#include "exec/parcels.h"

namespace foretrain::exec {

class Courier {
 public:
  // All processes make theirs together.
  explicit Courier(Processes& processes);
  ~Courier();
  Courier(const Courier&) = delete;
  Courier& operator=(const Courier&) = delete;

  // `is_ready` is asked until it says true; then `begin` makes the exchange, and `end` is called when that is complete.
  // All three from the courier's thread.
  struct Order {
    std::function<bool()> is_ready;
    std::function<HostExchange()> begin;
    std::function<void()> end;
  };
  void add(Order order);

  // Ends its work; true if something was still under way: memory that messages come from and go to must stay then, for
  // the message library may still touch it.
  bool stop();

  // What this process has sent to one of another host.
  Bytes sent(int to) const { return Bytes{parcels_->sent(to)}; }

  // Why it has stopped working; empty while all is well. From any thread.
  std::string failure() const;

 private:
  struct Active {
    Order order;
    std::unique_ptr<HostExchange> exchange;
  };
  void work();
  bool advance_all();

  std::unique_ptr<Parcels> parcels_;
  std::list<Active> active_;  // the thread's own
  mutable std::mutex mutex_;  // guards the next three
  std::list<Active> added_;
  bool stops_ = false;
  std::string failure_;
  EventCount wake_;
  std::thread thread_;
};

}  // namespace foretrain::exec
