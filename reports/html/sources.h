// The files of this folder, as cmake/embed.cmake puts them into the program.
#pragma once

#include <string_view>

namespace foretrain::reports::html {

extern const std::string_view kPage;    // page.html
extern const std::string_view kStyle;   // style.css
extern const std::string_view kScript;  // all *.js, in the order of reports/CMakeLists.txt

}  // namespace foretrain::reports::html
