#include "reports/table.h"

#include <algorithm>

#include "base/error.h"

namespace foretrain::reports {

namespace {

const char* escape_of(Tone tone) {
  switch (tone) {
    case Tone::plain: return "";
    case Tone::strong: return "\x1b[1m";
    case Tone::good: return "\x1b[32m";
    case Tone::bad: return "\x1b[31m";
    case Tone::dim: return "\x1b[2m";
  }
  return "";
}

const Cell& cell(const std::vector<Cell>& row, std::size_t column) {
  static const Cell kEmpty;
  return column < row.size() ? row[column] : kEmpty;
}

void check_rows(const Table& table) {
  for (const auto& row : table.rows) {
    CHECK(row.size() <= table.columns.size(), "table '{}': a row of {} cells under {} columns", table.title, row.size(),
          table.columns.size());
  }
}

bool has_header(const Table& table) {
  return std::any_of(table.columns.begin(), table.columns.end(), [](const Column& c) { return !c.title.empty(); });
}

std::string text_line(const std::vector<Cell>& row, const Table& table, const std::vector<std::size_t>& widths,
                      bool colour) {
  std::string line;
  std::size_t blanks = 0;  // owed before the next text, so that no line ends in blanks
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    const Cell& c = cell(row, i);
    const std::size_t padding = widths[i] - display_width(c.text);
    const bool right = table.columns[i].align == Align::right;
    blanks += right ? padding : 0;
    if (!c.text.empty()) {
      line.append(blanks, ' ');
      line += toned(c.text, c.tone, colour);
      blanks = 0;
    }
    blanks += (right ? 0 : padding) + 2;
  }
  return line + "\n";
}

std::vector<Cell> header_row(const Table& table, Tone tone) {
  std::vector<Cell> header;
  for (const Column& column : table.columns) {
    header.emplace_back(column.title, tone);
  }
  return header;
}

}  // namespace

std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;  // all but continuation bytes
  }));
}

std::string toned(const std::string& text, Tone tone, bool colour) {
  if (!colour || tone == Tone::plain) {
    return text;
  }
  return escape_of(tone) + text + "\x1b[0m";
}

std::string to_text(const Table& table, bool colour) {
  check_rows(table);
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    std::size_t width = display_width(table.columns[i].title);
    for (const auto& row : table.rows) {
      width = std::max(width, display_width(cell(row, i).text));
    }
    widths.push_back(width);
  }
  std::string out;
  if (!table.title.empty()) {
    out += toned(table.title, Tone::strong, colour) + "\n";
  }
  if (has_header(table)) {
    out += text_line(header_row(table, Tone::dim), table, widths, colour);
  }
  for (const auto& row : table.rows) {
    out += text_line(row, table, widths, colour);
  }
  return out;
}

std::string to_markdown(const Table& table) {
  check_rows(table);
  const auto line = [&](const std::vector<Cell>& row) {
    std::string out = "|";
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      out += ' ';
      for (const char c : cell(row, i).text) {
        out += c == '|' ? "\\|" : c == '\n' ? " " : std::string(1, c);
      }
      out += " |";
    }
    return out + "\n";
  };
  std::string out = table.title.empty() ? "" : "**" + table.title + "**\n\n";
  out += line(header_row(table, Tone::plain));
  out += "|";
  for (const Column& column : table.columns) {
    out += column.align == Align::right ? "--:|" : "---|";
  }
  out += "\n";
  for (const auto& row : table.rows) {
    out += line(row);
  }
  return out;
}

std::string to_csv(const Table& table) {
  check_rows(table);
  const auto line = [&](const std::vector<Cell>& row) {
    std::string out;
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      const std::string& text = cell(row, i).text;
      out += i == 0 ? "" : ",";
      if (text.find_first_of(",\"\r\n") == std::string::npos) {
        out += text;
        continue;
      }
      out += '"';
      for (const char c : text) {
        out += c == '"' ? "\"\"" : std::string(1, c);
      }
      out += '"';
    }
    return out + "\n";
  };
  std::string out = line(header_row(table, Tone::plain));
  for (const auto& row : table.rows) {
    out += line(row);
  }
  return out;
}

}  // namespace foretrain::reports
