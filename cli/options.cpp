#include "cli/options.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <charconv>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace foretrain::cli {

namespace {

struct Line {
  std::string left, help;
};

void append_lines(std::string& out, const std::string& title, const std::vector<Line>& lines) {
  if (lines.empty()) {
    return;
  }
  std::size_t width = 0;
  for (const Line& line : lines) {
    width = std::max(width, line.left.size());
  }
  out += title.empty() ? "\n" : "\n" + title + "\n";
  for (const Line& line : lines) {
    out += fmt::format("  {:<{}}  {}\n", line.left, width, line.help);
  }
}

template <class Number>
bool reads_as(const std::string& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

struct Options::Impl {
  std::string verb, card;
  CLI::App app;
  std::vector<std::string> names;  // with dashes
  std::vector<std::string> flags;  // of them, those without a value
  std::vector<std::pair<std::string, std::function<std::string(const std::string&)>>> takes;  // of those with a value
  std::vector<Line> positionals, options;
  std::vector<std::string> commands;
  std::string usage_tail;

  CLI::Option* add(const std::string& name, const std::string& left, const std::string& help,
                   const std::function<std::string(const std::string&)>& take) {
    const std::string long_name = name.substr(name.find("--"));
    names.push_back(long_name);
    takes.emplace_back(long_name.substr(2), take);
    options.push_back({left, help});
    return app.add_option_function<std::string>(name, [this, long_name, take](const std::string& text) {
      if (std::count(names.begin(), names.end(), text) > 0) {
        throw InputError(
            fmt::format("{}: a value is missing before {}; see foretrain {} --help", long_name, text, verb));
      }
      const std::string mistake = take(text);
      if (!mistake.empty()) {
        throw InputError(fmt::format("{}: {}", long_name, mistake));
      }
    });
  }
};

Options::Options(std::string verb, std::string card) : impl_(std::make_unique<Impl>()) {
  impl_->verb = std::move(verb);
  impl_->card = std::move(card);
  impl_->app.set_help_flag();
  impl_->app.allow_extras();
}

Options::~Options() = default;

void Options::flag(const std::string& name, bool* value, const std::string& help) {
  impl_->names.push_back("--" + name);
  impl_->flags.push_back("--" + name);
  impl_->options.push_back({"--" + name, help});
  impl_->app.add_flag("--" + name, *value);
}

void Options::text(const std::string& name, const std::string& metavar, std::string* value, const std::string& help,
                   char short_name) {
  const std::string short_form = short_name == 0 ? "" : fmt::format("-{},", short_name);
  const std::string left = short_name == 0 ? "" : fmt::format("-{}, ", short_name);
  impl_->add(short_form + "--" + name, fmt::format("{}--{} {}", left, name, metavar), help,
             [value, metavar](const std::string& given) {
               *value = given;
               return given.empty() ? "\"\" is not allowed; expected a " + metavar : "";
             });
}

void Options::texts(const std::string& name, const std::string& metavar, std::vector<std::string>* values,
                    const std::string& help) {
  impl_->names.push_back("--" + name);
  impl_->options.push_back({fmt::format("--{} {}", name, metavar), help});
  impl_->app.add_option("--" + name, *values)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Options::integer(const std::string& name, std::int64_t* value, std::int64_t low, std::int64_t high,
                      const std::string& help) {
  impl_->add("--" + name, fmt::format("--{} N", name), help, [=](const std::string& given) {
    std::int64_t number = 0;
    if (!reads_as(given, number) || number < low || number > high) {
      return fmt::format("\"{}\" is not allowed; expected an integer from {} to {}", given, low, high);
    }
    *value = number;
    return std::string();
  });
}

void Options::number(const std::string& name, std::optional<double>* value, double low, const std::string& help) {
  impl_->add("--" + name, fmt::format("--{} X", name), help, [=](const std::string& given) {
    double number = 0;
    if (!reads_as(given, number) || !(number >= low) || number > 1e300) {
      return fmt::format("\"{}\" is not allowed; expected a number >= {}", given, low);
    }
    *value = number;
    return std::string();
  });
}

void Options::word(const std::string& name, std::string* value, const std::vector<std::string>& allowed,
                   const std::string& help) {
  impl_->add("--" + name, fmt::format("--{} {}", name, fmt::join(allowed, "|")), help, [=](const std::string& given) {
    if (std::find(allowed.begin(), allowed.end(), given) == allowed.end()) {
      const std::string near = nearest_word(given, allowed);
      return fmt::format("\"{}\" is not allowed; expected one of: {}{}", given, fmt::join(allowed, ", "),
                         near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near));
    }
    *value = given;
    return std::string();
  });
}

void Options::refused(const std::string& name, const std::string& why) {
  impl_->app
      .add_option_function<std::vector<std::string>>(
          "--" + name,
          [name, why](const std::vector<std::string>&) { throw InputError(fmt::format("--{}: {}", name, why)); })
      ->expected(0, 1);
}

void Options::positional(const std::string& metavar, std::string* value, const std::string& help) {
  impl_->positionals.push_back({metavar, help});
  impl_->usage_tail += " " + metavar;
  impl_->app.add_option(metavar, *value);
}

void Options::rest(const std::string& metavar, std::vector<std::string>* values, const std::string& help) {
  impl_->positionals.push_back({metavar, help});
  impl_->usage_tail += " [" + metavar + " ...]";
  impl_->app.add_option("REST", *values);
}

void Options::examples(std::vector<std::string> commands) {
  impl_->commands = std::move(commands);
}

std::optional<std::string> Options::parse(const std::vector<std::string>& arguments) {
  Impl& o = *impl_;
  if (std::any_of(arguments.begin(), arguments.end(), [](const auto& a) { return a == "--help" || a == "-h"; })) {
    std::string out = fmt::format("foretrain {}: {}\n\nUsage: foretrain {}{}{}\n", o.verb, o.card, o.verb, o.usage_tail,
                                  o.options.empty() ? "" : " [OPTIONS]");
    append_lines(out, "", o.positionals);
    append_lines(out, "Options:", o.options);
    if (!o.commands.empty()) {
      out += fmt::format("\nExamples:\n  {}\n", fmt::join(o.commands, "\n  "));
    }
    return out;
  }
  if (arguments == std::vector<std::string>{kListOptions}) {
    std::string out;
    for (const Line& line : o.positionals) {
      out += line.left + "\t\n";
    }
    for (const Line& line : o.options) {
      const std::string left = line.left.substr(line.left.find("--"));
      const std::size_t blank = left.find(' ');
      out += left.substr(0, blank) + "\t" + (blank == std::string::npos ? "" : left.substr(blank + 1)) + "\n";
    }
    return out;
  }
  for (const std::string& argument : arguments) {
    const std::string name = argument.substr(0, argument.find('='));
    if (name != argument && std::count(o.flags.begin(), o.flags.end(), name) > 0) {
      throw InputError(fmt::format("{}: takes no value; see foretrain {} --help", name, o.verb));
    }
  }
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // CLI11 takes them from the back
  try {
    o.app.parse(std::move(reversed));
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string what = error.what();
    throw InputError(
        fmt::format("{}: expected exactly one value; see foretrain {} --help", what.substr(0, what.find(':')), o.verb));
  } catch (const CLI::ParseError& error) {
    throw InputError(fmt::format("{}; see foretrain {} --help", error.what(), o.verb));
  }
  for (const std::string& extra : o.app.remaining()) {
    if (extra.rfind('-', 0) == 0) {
      const std::string near = nearest_word(extra.substr(0, extra.find('=')), o.names);
      throw InputError(fmt::format("unknown option \"{}\"; {}see foretrain {} --help", extra,
                                   near.empty() ? "" : fmt::format("did you mean \"{}\"? ", near), o.verb));
    }
    throw InputError(fmt::format("unexpected argument \"{}\"; usage: foretrain {}{}", extra, o.verb, o.usage_tail));
  }
  return std::nullopt;
}

void Options::read(ObjectReader words) {
  for (const auto& [name, take] : impl_->takes) {
    std::string key = name;
    std::replace(key.begin(), key.end(), '-', '_');
    const nlohmann::json* value = words.raw(key);
    if (value == nullptr) {
      continue;
    }
    if (!value->is_string() && !value->is_number()) {
      words.mistake(key, fmt::format("{} is not allowed; expected a number or a text", shown(*value)));
    } else if (const std::string what = take(value->is_string() ? value->get<std::string>() : value->dump());
               !what.empty()) {
      words.mistake(key, what);
    }
  }
  words.finish();
}

}  // namespace foretrain::cli
