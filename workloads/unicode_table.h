// Unicode's tables as runs from code point 0 to 0x10FFFF: "u26" is 26 code points of kind u, "u" is one.
#pragma once

namespace foretrain::workloads {

// General categories: u l t m o are Lu Ll Lt Lm Lo; M N P S Z C are all of that letter.
extern const char* const kCategoryRuns;
// y: may change, or change what stands before it, in normalisation form C; n: does not.
extern const char* const kComposingRuns;

}  // namespace foretrain::workloads
