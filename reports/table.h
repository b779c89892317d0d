// One table, written as aligned text for a terminal, as markdown or as CSV.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace foretrain::reports {

enum class Align : std::uint8_t { left, right };
enum class Tone : std::uint8_t { plain, strong, good, bad, dim };

struct Column {
  std::string title;
  Align align = Align::left;
};

struct Cell {
  std::string text;
  Tone tone = Tone::plain;
  Cell(std::string t = {}, Tone o = Tone::plain) : text(std::move(t)), tone(o) {}  // NOLINT: text is a plain cell
  Cell(const char* t, Tone o = Tone::plain) : text(t), tone(o) {}                  // NOLINT
};

// Rows may be shorter than the header: the missing cells are empty. A row longer than the header is our mistake
// (CHECK).
struct Table {
  std::string title;  // a line above; may be empty
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
};

// Columns padded to their widest cell, two blanks apart, no blank at a line's end. A table without any column title
// prints without a header.
std::string to_text(const Table& table, bool colour);
std::string to_markdown(const Table& table);
// RFC 4180: quoted where a cell holds a comma, a quote or a line break; lines end in "\n". No title.
std::string to_csv(const Table& table);

// `text` in a tone, for words outside tables.
std::string toned(const std::string& text, Tone tone, bool colour);

// Columns that a UTF-8 text takes on a terminal (one per code point).
std::size_t display_width(const std::string& text);

}  // namespace foretrain::reports
