#include "cli/supervise.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "cli/interrupt.h"
#include "cli/verbs.h"
#include "exec/checkpoint_folder.h"
#include "exec/processes.h"

namespace foretrain::cli {

namespace {

constexpr std::chrono::milliseconds kTick{50}, kLook{1000};
constexpr int kSignalled = 128;  // shells and launchers give it, and the signal's number, for a program that was killed
constexpr int kMostSignals = 64;

// Without the options that only the supervisor understands.
std::vector<std::string> child_words(const std::vector<std::string>& words) {
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool is_own = words[i] == "--max-restarts" || words[i] == "--launch";
    if (is_own) {
      ++i;
    } else if (words[i].rfind("--max-restarts=", 0) != 0 && words[i].rfind("--launch=", 0) != 0) {
      kept.push_back(words[i]);
    }
  }
  return kept;
}

std::string own_path() {
  std::array<char, 4096> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (size <= 0) {
    throw EnvironmentError(fmt::format("/proc/self/exe: cannot be read: {}", std::strerror(errno)));
  }
  return {path.data(), static_cast<std::size_t>(size)};
}

// In a process group of its own: what a terminal sends to all of them comes to the supervisor, which passes it on once.
pid_t start(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) {
    throw EnvironmentError(fmt::format("{}: cannot be started: {}", words.front(), std::strerror(errno)));
  }
  if (child > 0) {
    ::setpgid(child, child);
    return child;
  }
  // Only what a signal handler may do, until exec.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const int nothing = ::open("/dev/null", O_RDONLY);
  if (::getppid() != parent || nothing < 0 || ::dup2(nothing, STDIN_FILENO) < 0) {
    ::_exit(kEnvironment);
  }
  ::execvp(arguments.front(), arguments.data());
  constexpr std::string_view what = "error: the launcher cannot be started\n";
  static_cast<void>(!::write(STDERR_FILENO, what.data(), what.size()));
  ::_exit(kBadInput);
}

struct Process {
  pid_t pid = 0, parent = 0;
  char state = 0;  // 'T': stopped
};

// The child and all that came of it on this host.
std::vector<Process> descendants(pid_t child) {
  std::map<pid_t, Process> all;
  std::error_code failure;
  for (const auto& folder : std::filesystem::directory_iterator("/proc", failure)) {
    const std::string name = folder.path().filename().string();
    std::ifstream file(folder.path() / "stat");
    std::string line;
    if (name.find_first_not_of("0123456789") == std::string::npos && std::getline(file, line)) {
      // pid (name) state parent …; a name may have brackets in it.
      Process process;
      process.pid = static_cast<pid_t>(std::stol(name));
      std::istringstream(line.substr(std::min(line.size(), line.rfind(')') + 1))) >> process.state >> process.parent;
      all[process.pid] = process;
    }
  }
  std::vector<Process> found;
  for (const auto& [pid, process] : all) {
    pid_t ancestor = pid;
    for (std::size_t i = 0; i < all.size() && ancestor != child && all.contains(ancestor); ++i) {
      ancestor = all.at(ancestor).parent;
    }
    if (ancestor == child) {
      found.push_back(process);
    }
  }
  return found;
}

// Its status as waitpid() has it. A process of the run that is stopped for longer than `patience` is one that hangs,
// and takes the run with it.
int wait_for(pid_t child, std::chrono::seconds patience, const InterruptWatch& watch, Console& console) {
  bool passed_on = false;
  std::chrono::milliseconds stopped_for{0};  // as often as it was looked
  auto next_look = std::chrono::steady_clock::now() + kLook;
  for (int status = 0;;) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) {
      return status;
    }
    if (ended < 0 && errno != EINTR) {
      throw EnvironmentError(fmt::format("the run cannot be waited for: {}", std::strerror(errno)));
    }
    if (watch.flag()->load() && !passed_on) {
      passed_on = true;
      ::kill(child, SIGTERM);
    }
    if (const auto now = std::chrono::steady_clock::now(); now > next_look) {
      next_look = now + kLook;
      const std::vector<Process> processes = descendants(child);
      const auto stopped =
          std::find_if(processes.begin(), processes.end(), [](const Process& p) { return p.state == 'T'; });
      stopped_for = stopped != processes.end() ? stopped_for + kLook : std::chrono::milliseconds{0};
      if (stopped_for > patience) {
        console.note(fmt::format("process {} of the run has been stopped for {} s: all of it is killed", stopped->pid,
                                 patience.count()));
        for (const Process& process : processes) {
          ::kill(process.pid, SIGKILL);
        }
        stopped_for = {};
      }
    }
    std::this_thread::sleep_for(kTick);
  }
}

std::string from_where(const std::string& folder) {
  const std::vector<std::int64_t> steps = exec::checkpoint_steps(folder);
  return steps.empty() ? "from the beginning: there is no checkpoint yet" : fmt::format("from step {}", steps.back());
}

}  // namespace

void SuperviseArguments::add_to(Options& options) {
  constexpr std::int64_t kMost = 1'000'000;
  options.integer("max-restarts", &max_restarts, 1, kMost,
                  "starts the run again, so many times, when it is killed or its environment fails");
  options.text("launch", "WORDS", &launch, "starts the run by these words: \"mpirun -n 4\"");
}

int supervise(const std::vector<std::string>& words, const SuperviseArguments& arguments, const std::string& folder,
              std::chrono::seconds patience, Console& console) {
  if (arguments.max_restarts > 0 && folder.empty()) {
    throw InputError("--max-restarts: needs --checkpoint DIR");
  }
  if (exec::has_launcher()) {
    throw InputError(
        "--max-restarts, --launch: stand outside of the launcher; expected: foretrain run JOB --max-restarts 3 "
        "--launch "
        "\"mpirun -n 4\"");
  }
  std::vector<std::string> command;
  std::istringstream launch(arguments.launch);
  for (std::string word; launch >> word;) {
    command.push_back(word);
  }
  command.push_back(own_path());
  command.emplace_back("run");
  const std::vector<std::string> rest = child_words(words);
  command.insert(command.end(), rest.begin(), rest.end());

  // mpirun kills what does not end in so many seconds: a last checkpoint may take more than the one that it gives.
  ::setenv("OMPI_MCA_odls_base_sigkill_timeout", "20", 0);
  const InterruptWatch watch;
  for (std::int64_t restarts = 0;; ++restarts) {
    const int status = wait_for(start(command), patience, watch, console);
    watch.throw_if_interrupted();
    int code = WIFSIGNALED(status) ? kSignalled + WTERMSIG(status) : WEXITSTATUS(status);
    const bool was_killed = code > kSignalled && code <= kSignalled + kMostSignals && code != kInterruptedStatus;
    if ((!was_killed && code != kEnvironment) || restarts == arguments.max_restarts) {
      return code;
    }
    const std::string why =
        was_killed ? fmt::format("was killed by signal {} ({})", code - kSignalled, ::strsignal(code - kSignalled))
                   : "failed";
    console.note(
        fmt::format("the run {}; restart {} of {}, {}", why, restarts + 1, arguments.max_restarts, from_where(folder)));
    if (std::find(command.begin(), command.end(), "--resume") == command.end()) {
      command.emplace_back("--resume");
    }
  }
}

}  // namespace foretrain::cli
