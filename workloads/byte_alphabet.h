// How tokenizer files write bytes.
#pragma once

#include <optional>
#include <string>

namespace foretrain::workloads {

// GPT-2's alphabet: a byte that is a printing character of Latin-1 stands for itself, the others, in order, for the
// characters from U+0100 on. The bytes of a text in it; none where one of its characters is not of it.
std::optional<std::string> bytes_of_characters(const std::string& text);

// "<0x0A>" is the byte 10.
std::optional<unsigned char> byte_token(const std::string& token);

}  // namespace foretrain::workloads
