#include "cli/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "reports/table.h"

namespace foretrain::cli {

namespace {

constexpr std::chrono::milliseconds kQuiet{1000};  // nothing is shown for what takes less
constexpr std::chrono::milliseconds kBetween{100};
constexpr int kBarWidth = 30;

}  // namespace

Console::Console() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  // mpirun gives its processes a terminal of its own making, whatever its output goes to.
  const bool by_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
  const bool wanted =
      !by_mpirun && (no_color == nullptr || *no_color == '\0') && (term == nullptr || std::strcmp(term, "dumb") != 0);
  colour_out_ = wanted && ::isatty(STDOUT_FILENO) != 0;
  terminal_err_ = ::isatty(STDERR_FILENO) != 0;
  colour_err_ = wanted && terminal_err_;
}

void Console::result(std::string_view text) {
  if (captured_ != nullptr) {
    *captured_ += text;
    return;
  }
  if (!muted_ && std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    throw EnvironmentError(fmt::format("standard output: cannot be written: {}", std::strerror(errno)));
  }
}

void Console::flush() {
  if (std::fflush(stdout) != 0) {
    throw EnvironmentError(fmt::format("standard output: cannot be written: {}", std::strerror(errno)));
  }
}

void Console::note(std::string_view line) {
  if (!muted_) {
    std::fputs(fmt::format("{}\n", line).c_str(), stderr);
  }
}

void Console::warning(std::string_view line) {
  note(reports::toned("warning:", reports::Tone::strong, colour_err_) + fmt::format(" {}", line));
}

void Console::error(std::string_view message) {
  const std::string prefix = reports::toned("error:", reports::Tone::bad, colour_err_);
  while (!message.empty()) {
    const std::size_t end = std::min(message.find('\n'), message.size());
    note(fmt::format("{} {}", prefix, message.substr(0, end)));
    message.remove_prefix(std::min(end + 1, message.size()));
  }
}

Progress::Progress(const Console& console, std::string what)
    : what_(std::move(what)),
      shown_(console.shows_progress()),
      begin_(std::chrono::steady_clock::now()),
      last_(begin_) {}

Progress::~Progress() {
  if (drawn_) {
    std::fputs("\r\x1b[K", stderr);
  }
}

void Progress::phase(const std::string& name) {
  if (shown_) {
    std::fputs(fmt::format("\r{} ...\x1b[K", name).c_str(), stderr);
    std::fflush(stderr);
    drawn_ = true;
  }
}

void Progress::update(double fraction, const std::string& detail) {
  const auto now = std::chrono::steady_clock::now();
  if (!shown_ || now - begin_ < kQuiet || (drawn_ && now - last_ < kBetween)) {
    return;
  }
  fraction = std::clamp(fraction, 0.0, 1.0);
  const int full = static_cast<int>(fraction * kBarWidth);
  const double elapsed = std::chrono::duration<double>(now - begin_).count();
  const std::string left = fraction > 0 ? fmt::format("{:.0f} s left", elapsed * (1 - fraction) / fraction) : "";
  std::fputs(fmt::format("\r{} [{}{}] {:3.0f} %  {}  {}\x1b[K", what_, std::string(static_cast<std::size_t>(full), '#'),
                         std::string(static_cast<std::size_t>(kBarWidth - full), '.'), 100 * fraction, left, detail)
                 .c_str(),
             stderr);
  std::fflush(stderr);
  drawn_ = true;
  last_ = now;
}

}  // namespace foretrain::cli
