#include "exec/processes.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/leave_behind.h"
#include "exec/renumbered_transport.h"

namespace foretrain::exec {

namespace {

constexpr int kGatherTag = 1, kNoteTag = 2;
constexpr std::size_t kPiece = std::size_t{1} << 28;
constexpr std::chrono::microseconds kShortNap{20}, kLongNap{1000};
constexpr std::chrono::milliseconds kLook{200};     // between two looks at the others
constexpr std::chrono::seconds kFarewell{1};        // for words of failure to leave
constexpr std::chrono::milliseconds kToArrive{20};  // for them to arrive

// First letters of notes.
constexpr char kFailure = '!', kNote = '.', kLastWords = '=', kReported = '#';

}  // namespace

Processes::Processes() : places_{own_place()} {}

Processes::Processes(std::unique_ptr<Transport> transport, std::string launcher, int processes_per_host,
                     std::chrono::milliseconds patience)
    : transport_(std::move(transport)),
      launcher_(std::move(launcher)),
      number_(transport_->process()),
      patience_(patience) {
  most_tag_ = transport_->most_tag();
  places_.resize(static_cast<std::size_t>(transport_->processes()));
  std::vector<Place> places;
  Place own = own_place();
  if (processes_per_host > 0) {
    own.host += fmt::format("-{}", number_ / processes_per_host);
    own.host_key += fmt::format(" {}", number_ / processes_per_host);
    own.clock_key = own.host_key;
  }
  for (const std::string& text : all_gather(to_text(own))) {
    places.push_back(to_place(text));
  }
  places_ = std::move(places);
  open_watches();
  agree_on_clock();
}

Processes::~Processes() {
  for (const int fd : watches_) {
    if (fd >= 0) {
      ::close(fd);
    }
  }
  try {
    if (count() > 1 && !has_failed()) {
      finish_sent(true);
      if (!lost_.empty() && !transport_->parts_with_the_rest()) {
        all_gather("");  // instead of the library's own farewell
      }
    }
  } catch (const Error&) {
    // Somebody has gone; the next lines are for that.
  }
  if (has_failed() || (!lost_.empty() && !transport_->parts_with_the_rest())) {
    // The library's own farewell would wait for those that are gone.
    leave_behind(std::move(transport_));
  }
  if (!sent_.empty()) {
    leave_behind(std::make_unique<std::list<Outgoing>>(std::move(sent_)));
  }
}

// A descriptor that becomes readable when the process ends, even before its parent has asked.
void Processes::open_watches() {
  watches_.assign(places_.size(), -1);
  for (int p = 0; p < count(); ++p) {
    if (p != number_ && same_host(p, number_)) {
      watches_[static_cast<std::size_t>(p)] =
          static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(place(p).pid), 0));
    }
  }
}

// The time of process 0's clock in all. Elsewhere it is asked for, and the answer that came fastest is taken: half of
// its way is what the clock may be off by (Cristian, "Probabilistic clock synchronization", 1989).
void Processes::agree_on_clock() {
  constexpr int kQuestions = 32;
  constexpr std::size_t kBytes = sizeof(std::int64_t);
  const auto to_bytes = [](std::int64_t number) { return std::string(reinterpret_cast<const char*>(&number), kBytes); };
  const auto to_number = [](const std::string& bytes) {
    std::int64_t number = 0;
    std::memcpy(&number, bytes.data(), kBytes);
    return number;
  };
  const std::int64_t epoch = to_number(all_gather(to_bytes(clock_epoch())).front());
  std::int64_t ahead = 0;  // of process 0's clock
  for (int p = 1; p < count(); ++p) {
    if (place(p).clock_key == place(0).clock_key) {
      continue;
    }
    std::int64_t fastest = std::numeric_limits<std::int64_t>::max();
    for (int i = 0; i < kQuestions; ++i) {
      if (number_ == 0) {
        (void)receive(p, kGatherTag, kBytes);
        send(p, kGatherTag, to_bytes(steady_nanoseconds()));
      } else if (number_ == p) {
        const std::int64_t asked = steady_nanoseconds();
        send(0, kGatherTag, to_bytes(asked));
        const std::int64_t theirs = to_number(receive(0, kGatherTag, kBytes));
        const std::int64_t taken = steady_nanoseconds() - asked;
        if (taken < fastest) {
          fastest = taken;
          ahead = theirs - (asked + taken / 2);
        }
      }
    }
  }
  set_clock_epoch(epoch - ahead);
}

void Processes::renumber(const std::vector<int>& order) {
  CHECK(order.size() == places_.size(), "an order of {} for {} processes", order.size(), places_.size());
  if (std::is_sorted(order.begin(), order.end())) {
    return;
  }
  finish_sent(true);
  transport_ = renumbered(std::move(transport_), order);
  number_ = transport_->process();
  const std::vector<Place> places = places_;
  const std::vector<int> watches = watches_;
  for (std::size_t i = 0; i < order.size(); ++i) {
    places_[i] = places[static_cast<std::size_t>(order[i])];
    watches_[i] = watches[static_cast<std::size_t>(order[i])];
  }
}

void Processes::send(int to, int tag, const std::string& bytes) {
  finish_sent(false);
  sent_.push_back({to, bytes, nullptr});
  sent_.back().request = transport_->send(to, tag, sent_.back().bytes.data(), sent_.back().bytes.size());
}

void Processes::finish_sent(bool wait_for_all) {
  for (auto outgoing = sent_.begin(); outgoing != sent_.end();) {
    const bool done = wait_for_all ? wait(outgoing->request, outgoing->to)
                                   : !is_lost(outgoing->to) && transport_->done(outgoing->request);
    outgoing = done ? sent_.erase(outgoing) : std::next(outgoing);
  }
}

bool Processes::wait(Transport::Request request, int other) {
  for (std::chrono::microseconds nap{0}; !is_lost(other); nap = std::min(kLongNap, nap + kShortNap)) {
    if (transport_->done(request)) {
      return true;
    }
    listen();
    check();
    std::this_thread::sleep_for(nap);
  }
  return false;
}

std::string Processes::receive(int from, int tag, std::size_t bytes) {
  auto text = std::make_unique<std::string>(bytes, '\0');
  try {
    if (wait(transport_->receive(from, tag, text->data(), bytes), from)) {
      return std::move(*text);
    }
  } catch (const Error&) {
    leave_behind(std::move(text));  // the transport may yet write there
    throw;
  }
  leave_behind(std::move(text));
  return {};
}

void Processes::send_long(int to, const std::string& bytes) {
  const std::uint64_t size = bytes.size();
  std::string header(sizeof size, '\0');
  std::memcpy(header.data(), &size, sizeof size);
  send(to, kGatherTag, header);
  for (std::size_t begin = 0; begin < bytes.size(); begin += kPiece) {
    send(to, kGatherTag, bytes.substr(begin, kPiece));
  }
}

std::string Processes::receive_long(int from) {
  std::uint64_t size = 0;
  const std::string header = receive(from, kGatherTag, sizeof size);
  std::memcpy(&size, header.data(), header.size());
  std::string bytes;
  while (bytes.size() < size && !is_lost(from)) {
    bytes += receive(from, kGatherTag, std::min(kPiece, static_cast<std::size_t>(size) - bytes.size()));
  }
  return bytes.size() < size ? std::string() : bytes;
}

std::vector<std::string> Processes::gather(const std::string& mine) {
  std::vector<std::string> all(places_.size());
  if (number_ != 0) {
    check();
    send_long(0, mine);
    finish_sent(true);
    return all;
  }
  all.front() = mine;
  for (int p = 1; p < count(); ++p) {
    check();
    all[static_cast<std::size_t>(p)] = is_lost(p) ? "" : receive_long(p);
  }
  return all;
}

// By way of process 0: what is agreed outside the steps is small or rare.
std::vector<int> Processes::hosts() const {
  std::vector<int> hosts;
  std::map<std::string, int> numbers;  // by key
  for (const Place& place : places_) {
    hosts.push_back(numbers.try_emplace(place.host_key, static_cast<int>(numbers.size())).first->second);
  }
  return hosts;
}

std::vector<std::string> Processes::all_gather(const std::string& mine) {
  std::vector<std::string> all = gather(mine);
  if (number_ != 0) {
    for (std::string& text : all) {
      text = receive_long(0);
    }
    return all;
  }
  for (int p = 1; p < count(); ++p) {
    for (const std::string& text : all) {
      if (!is_lost(p)) {
        send_long(p, text);
      }
    }
  }
  finish_sent(true);
  return all;
}

void Processes::tell(int to, const std::string& note) {
  if (!is_lost(to)) {
    send(to, kNoteTag, kNote + note);
  }
}

void Processes::listen() {
  while (const auto arrival = transport_->probe(kNoteTag)) {
    std::string note(arrival->bytes, '\0');
    const Transport::Request request = transport_->receive(arrival->from, kNoteTag, note.data(), note.size());
    while (!transport_->done(request)) {
    }
    if (note.front() == kFailure) {
      failure_ = failure_.empty() ? note.substr(1) : failure_;
      told_ = true;  // whoever failed has told everybody
    } else if (note.front() == kLastWords) {
      last_words_.resize(places_.size());
      last_words_[static_cast<std::size_t>(arrival->from)] = note.substr(1);
    } else if (note.front() == kReported) {
      reported_.push_back(arrival->from);
    } else {
      heard_.emplace_back(arrival->from, note.substr(1));
    }
  }
}

std::optional<std::pair<int, std::string>> Processes::hear() {
  if (count() == 1) {
    return std::nullopt;
  }
  listen();
  if (heard_.empty()) {
    return std::nullopt;
  }
  auto first = std::move(heard_.front());
  heard_.pop_front();
  return first;
}

void Processes::fail(const std::string& why) {
  if (count() == 1 || told_) {
    return;
  }
  told_ = true;
  failure_ = has_failed() ? failure_ : why;
  say_before_the_end(kFailure + failure_);
}

void Processes::say_before_the_end(const std::string& note) {
  for (int p = 0; p < count(); ++p) {
    if (p != number_ && !is_lost(p)) {
      send(p, kNoteTag, note);
    }
  }
  const auto deadline = std::chrono::steady_clock::now() + kFarewell;
  const auto waits = [this](const Outgoing& o) { return !is_lost(o.to); };
  while (std::any_of(sent_.begin(), sent_.end(), waits) && std::chrono::steady_clock::now() < deadline) {
    finish_sent(false);
    std::this_thread::sleep_for(kShortNap);
  }
}

int Processes::stopped() const {
  for (int p = 0; p < count(); ++p) {
    if (same_host(p, number_) && state_of(place(p).pid) == 'T') {
      return p;
    }
  }
  return -1;
}

bool Processes::kill(int process) const {
  return ::syscall(SYS_pidfd_send_signal, watches_[static_cast<std::size_t>(process)], SIGKILL, nullptr, 0) == 0;
}

void Processes::let_go(std::vector<int> processes) {
  expendable_ = std::move(processes);
}

bool Processes::is_lost(int process) const {
  return std::find(lost_.begin(), lost_.end(), process) != lost_.end();
}

std::vector<int> Processes::gone() {
  std::vector<int> gone = transport_->lost();
  for (int p = 0; p < static_cast<int>(watches_.size()); ++p) {
    pollfd watch{watches_[static_cast<std::size_t>(p)], POLLIN, 0};
    if (watch.fd >= 0 && ::poll(&watch, 1, 0) == 1) {
      gone.push_back(p);
    }
  }
  return gone;
}

void Processes::say_reported() {
  say_before_the_end(std::string(1, kReported));
}

bool Processes::has_reported(int process) {
  last_words();
  return std::find(reported_.begin(), reported_.end(), process) != reported_.end();
}

void Processes::say_last(const std::string& words) {
  for (int p = 0; p < count(); ++p) {
    if (p != number_ && is_left(p)) {
      send(p, kNoteTag, kLastWords + words);
    }
  }
  last_words_.resize(places_.size());
  last_words_[static_cast<std::size_t>(number_)] = words;
}

const std::vector<std::string>& Processes::last_words() {
  last_words_.resize(places_.size());
  lost_ = gone();
  listen();  // what one said before it went
  finish_sent(false);
  return last_words_;
}

bool Processes::is_left(int process) const {
  return !is_lost(process) && (!same_host(process, number_) || state_of(place(process).pid) != 'T');
}

void Processes::check() {
  if (count() == 1) {
    return;
  }
  if (has_failed()) {
    lost_ = gone();  // who speaks for the others depends on it
    throw EnvironmentError(failure_);
  }
  const auto is_expendable = [this](int p) {
    return std::find(expendable_.begin(), expendable_.end(), p) != expendable_.end();
  };
  std::vector<int> lost = gone();
  std::erase_if(lost, [this](int p) { return is_lost(p); });
  if (!lost.empty()) {
    // It may have told us why before it went.
    const auto fatal = std::find_if_not(lost.begin(), lost.end(), is_expendable);
    listen();
    for (const auto end = std::chrono::steady_clock::now() + kToArrive;
         fatal != lost.end() && !has_failed() && std::chrono::steady_clock::now() < end;
         std::this_thread::sleep_for(kShortNap)) {
      listen();
    }
    for (const int p : lost) {
      if (!is_lost(p)) {
        lost_.push_back(p);
      }
    }
    if (fatal != lost.end()) {
      fail(describe_lost(*fatal));
    }
    if (has_failed()) {
      throw EnvironmentError(failure_);
    }
  }
  if (const auto now = std::chrono::steady_clock::now(); now > next_look_) {
    next_look_ = now + kLook;
    const int process = stopped();
    stopped_for_ = process < 0 ? std::chrono::milliseconds{0} : stopped_for_ + kLook;
    if (stopped_for_ > patience_ && !(is_expendable(process) && kill(process))) {
      fail(describe(process));
      throw EnvironmentError(failure_);
    }
  }
}

std::string Processes::describe_lost(int process) const {
  const std::string words = describe(process);
  return words + (words.ends_with(')') ? " is gone" : "");
}

std::string Processes::ailing() const {
  std::string text;
  for (int p = 0; p < count(); ++p) {
    const std::string words = describe(p);
    text += words.ends_with(')') ? "" : "; " + words;
  }
  return text;
}

std::string Processes::describe(int process) const {
  const Place& p = place(process);
  const plan::Rank first = process * ranks_each_;
  std::string text =
      ranks_each_ == 1 ? fmt::format("rank {}", first) : fmt::format("ranks {} to {}", first, first + ranks_each_ - 1);
  text += fmt::format(" (pid {} on {})", p.pid, p.host);
  if (same_host(process, number_)) {
    const char state = state_of(p.pid);
    text += state == '\0' || state == 'Z' || state == 'X' ? " is gone" : state == 'T' ? " is stopped" : "";
  }
  return text;
}

}  // namespace foretrain::exec
