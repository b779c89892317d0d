// The terminal: results on stdout, all else on stderr; colours and the progress bar only where somebody looks.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace foretrain::cli {

class Console {
 public:
  // Colours: a terminal, TERM other than "dumb", and no NO_COLOR in the environment.
  Console();

  // Says nothing from now on: another process speaks for this one.
  void mute() { muted_ = true; }
  void unmute() { muted_ = false; }
  // Results go there from now on.
  void capture(std::string* into) { captured_ = into; }

  bool colour() const { return colour_out_; }  // of results
  bool error_colour() const { return colour_err_; }
  bool shows_progress() const { return terminal_err_ && !muted_; }

  // Throws EnvironmentError when stdout cannot take it.
  void result(std::string_view text);
  void flush();
  void note(std::string_view line);      // stderr, newline added
  void warning(std::string_view line);   // "warning: ..." on stderr
  void error(std::string_view message);  // "error: ..." on stderr, each line of it

 private:
  bool colour_out_ = false, colour_err_ = false, terminal_err_ = false, muted_ = false;
  std::string* captured_ = nullptr;
};

// A bar on stderr for what takes longer than a second; silent where stderr is no terminal. Erased by the destructor.
class Progress {
 public:
  Progress(const Console& console, std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `fraction` done, 0 to 1; `detail` stands behind the bar. One call at a time.
  void update(double fraction, const std::string& detail);
  // A phase that reports nothing while it lasts: its name, at once.
  void phase(const std::string& name);

 private:
  std::string what_;
  bool shown_, drawn_ = false;
  std::chrono::steady_clock::time_point begin_, last_;
};

}  // namespace foretrain::cli
